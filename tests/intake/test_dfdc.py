"""Layout dfdc: rows worked by hand, of parts of the training set, the test and validation sets and the preview."""

import json
from pathlib import Path

import pytest
from layout_cases import raw, records, table, touch

from ffdi.errors import InputError

PART = {
    "aaa.mp4": {"label": "FAKE", "split": "train", "original": "bbb.mp4"},
    "bbb.mp4": {"label": "REAL", "split": "train"},
    "ccc.mp4": {"label": "FAKE", "split": "train", "original": "elsewhere.mp4"},
}


def metadata(root: Path, folder: str, entries: object, name: str = "metadata.json") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    table(root / folder, json.dumps(entries), name)


def row(path: str, label: int, group: str, split: str, method: str, part: str) -> dict[str, object]:
    known = {"path": path, "label": label, "group": group, "given_split": split}
    return known | {"attr_method": method, "attr_part": part}


def test_parts_of_the_training_set(tmp_path: Path) -> None:
    metadata(tmp_path, "dfdc_train_part_0", PART)
    metadata(tmp_path, "dfdc_train_part_1", {"elsewhere.mp4": {"label": "REAL", "split": "train", "original": None}})
    parts = "dfdc_train_part_0/aaa.mp4", "dfdc_train_part_0/bbb.mp4", "dfdc_train_part_1/elsewhere.mp4"
    touch(tmp_path, *parts, "dfdc_train_part_0/new.mp4")
    listing = raw(tmp_path, "dfdc")
    assert records(listing.rows) == [
        row(parts[0], 1, "bbb", "", "", "dfdc_train_part_0"),
        row(parts[1], 0, "bbb", "", "", "dfdc_train_part_0"),
        row(parts[2], 0, "elsewhere", "", "", "dfdc_train_part_1"),
    ]
    assert listing.messages == [
        "dfdc_train_part_0/metadata.json: 1 of 3 videos are not there, such as ccc",
        "1 file is not of layout dfdc and passed over: dfdc_train_part_0/new.mp4",
    ]
    assert ("dfdc_train_part_0/new.mp4", "not of layout dfdc") in listing.skipped
    assert listing.class_names == ("label 'REAL'", "label 'FAKE'")


def test_frames_beside_the_test_and_validation_sets(tmp_path: Path) -> None:
    metadata(tmp_path, "train/part_3", PART)
    metadata(tmp_path, "test", {"ddd.mp4": {"is_fake": 1, "augmentations": {}}, "eee.mp4": {"is_fake": 0}})
    table(tmp_path, "filename,label\nfff.mp4,1\n", "labels.csv")
    frames = "fff/0.png", "test/frames/ddd/000.png", "test/frames/eee/000.png", "train/part_3/ccc/0/000.png"
    touch(tmp_path, *frames)
    assert records(raw(tmp_path, "dfdc", videos=False).rows) == [
        row(frames[0], 1, "", "train", "", ""),  # of the validation set, and there is a test set
        row(frames[1], 1, "", "test", "", "test"),
        row(frames[2], 0, "", "test", "", "test"),
        row(frames[3], 1, "elsewhere", "train", "", "part_3"),
    ]


def test_the_preview(tmp_path: Path) -> None:
    videos = "method_A/12/12_A/34_12_A_001.mp4", "method_B/12/12_A/34_12_A_001.mp4", "original_videos/34/34_A_001.mp4"
    fake = {"label": "fake", "target_id": "12", "swapped_id": "34", "augmentations": []}
    real = {"label": "real", "set": "train", "target_id": 34, "swapped_id": None, "augmentations": []}
    entries = {videos[0]: fake | {"set": "test"}, videos[1]: fake | {"set": "train"}, videos[2]: real}
    metadata(tmp_path, "dfdc_preview_set", entries, "dataset.json")
    paths = [f"dfdc_preview_set/{video}" for video in videos]
    touch(tmp_path, *paths)
    assert records(raw(tmp_path, "dfdc").rows) == [
        row(paths[0], 1, "12|34", "test", "method_A", "dfdc_preview_set"),
        row(paths[1], 1, "12|34", "train", "method_B", "dfdc_preview_set"),
        row(paths[2], 0, "34", "train", "", "dfdc_preview_set"),
    ]


def test_labels_that_contradict_the_folders_stop_the_run(tmp_path: Path) -> None:
    metadata(
        tmp_path, ".", {"a.mp4": {"label": "FAKE", "split": "train"}, "b.mp4": {"label": "REAL", "split": "train"}}
    )
    touch(tmp_path, "real/a.mp4", "fake/b.mp4")
    says = r"'fake/b.mp4' is 'REAL' \(real\).*; mend what is not as layout dfdc has it, or list the files in a table"
    with pytest.raises(InputError, match=says):
        raw(tmp_path, "dfdc")


@pytest.mark.parametrize(
    "entries", [[1], {"a.mp4": 1}, {"a.mp4": {"split": "train"}}, {"a.mp4": {"label": "TRUE", "split": "train"}}]
)
def test_what_is_no_table_of_labels_is_said(tmp_path: Path, entries: object) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(
        InputError, match=r"no metadata\.json, dataset\.json, labels\.csv, where layout dfdc finds labels"
    ):
        raw(tmp_path, "dfdc")
    metadata(tmp_path, ".", entries)
    with pytest.raises(
        InputError, match=r"metadata\.json: '.*': ['\"].* is not as \{\"x\.mp4\": \{\"label\": \"FAKE\""
    ):
        raw(tmp_path, "dfdc")


def test_a_label_of_the_validation_set_that_is_none_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    table(tmp_path, "filename,label\na.mp4,2\n", "labels.csv")
    with pytest.raises(InputError, match=r"labels\.csv: 'a\.mp4': .*2.* is neither 0 \(real\) nor 1 \(fake\)"):
        raw(tmp_path, "dfdc")
