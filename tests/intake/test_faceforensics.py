"""Layout faceforensics: rows worked by hand, of the tree that the download script makes."""

import json
from pathlib import Path

import pytest
from layout_cases import raw, read, records, table, touch

from ffdi.errors import InputError

VIDEOS = (
    "original_sequences/youtube/c23/videos/000.mp4",
    "original_sequences/youtube/c23/videos/003.mp4",
    "original_sequences/youtube/c23/videos/720.mp4",
    "original_sequences/youtube/c23/videos/974.mp4",
    "original_sequences/actors/raw/videos/01__walking_outside_cafe_disgusted.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
    "manipulated_sequences/NeuralTextures/c40/videos/720_672.mp4",
    "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
)


def splits(root: Path, folder: str = "") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, pairs in (("train", [["000", "003"]]), ("val", [["720", "672"]]), ("test", [["953", "974"]])):
        table(root, json.dumps(pairs), f"{folder}{name}.json")


def row(path: str, label: int, group: str, split: str, method: str, source: str, compression: str) -> dict[str, object]:
    return {"path": path, "label": label, "group": group, "given_split": split} | {
        "attr_method": method,
        "attr_source_set": source,
        "attr_compression": compression,
    }


def test_videos(tmp_path: Path) -> None:
    touch(tmp_path, *VIDEOS)
    splits(tmp_path, "splits/")
    assert records(raw(tmp_path, "faceforensics").rows) == [
        row(VIDEOS[7], 1, "01|02", "", "DeepFakeDetection", "actors", "c23"),
        row(VIDEOS[5], 1, "000|003", "train", "Deepfakes", "youtube", "c23"),
        row(VIDEOS[6], 1, "672|720", "train", "NeuralTextures", "youtube", "c40"),  # of val, and there is a test set
        row(VIDEOS[4], 0, "01", "", "", "actors", "raw"),
        row(VIDEOS[0], 0, "000", "train", "", "youtube", "c23"),
        row(VIDEOS[1], 0, "003", "train", "", "youtube", "c23"),
        row(VIDEOS[2], 0, "720", "train", "", "youtube", "c23"),
        row(VIDEOS[3], 0, "974", "test", "", "youtube", "c23"),
    ]


def test_frames_and_crops(tmp_path: Path) -> None:
    frames = (
        "FF/manipulated_sequences/FaceSwap/c23/frames/000_003/0001.png",
        "FF/manipulated_sequences/FaceSwap/c23/crops/224x224/000_003/1/012.png",  # 1 is a track, 012 a frame
        "FF/original_sequences/youtube/c23/faces/000/001/0001.png",
        "FF/original_sequences/youtube/c23/faces/953_0001.png",
    )
    passed = (
        "FF/manipulated_sequences/FaceSwap/masks/videos/000_003/0001.png",
        "FF/manipulated_sequences/FaceSwap/c23/frames/sheet.png",
        "FF/downloaded_videos/000.png",
    )
    touch(tmp_path, *frames, *passed)
    splits(tmp_path)
    listing = raw(tmp_path, "faceforensics", videos=False)
    assert records(listing.rows) == [
        row(frames[1], 1, "000|003", "train", "FaceSwap", "youtube", "c23"),
        row(frames[0], 1, "000|003", "train", "FaceSwap", "youtube", "c23"),
        row(frames[2], 0, "000", "train", "", "youtube", "c23"),
        row(frames[3], 0, "953", "test", "", "youtube", "c23"),
    ]
    assert dict(listing.skipped) == {
        passed[0]: "in a folder called masks",
        passed[1]: "not of layout faceforensics",
        passed[2]: "not of layout faceforensics",
        "train.json": "table of labels",
        "val.json": "table of labels",
        "test.json": "table of labels",
    }


def test_the_folders_of_methods_alone(tmp_path: Path) -> None:
    videos = "C23/Deepfakes/000_003.mp4", "C23/DeepFakeDetection/01_02__walk__X1.mp4", "C23/original/003.mp4"
    touch(tmp_path, *videos, "C23/original/x.mp4")
    assert records(raw(tmp_path, "faceforensics").rows) == [
        row(videos[1], 1, "01|02", "", "DeepFakeDetection", "actors", ""),
        row(videos[0], 1, "000|003", "", "Deepfakes", "youtube", ""),
        row(videos[2], 0, "003", "", "", "youtube", ""),
    ]


def test_of_several_splits_that_in_the_fewest_folders_is_meant(tmp_path: Path) -> None:
    touch(tmp_path, VIDEOS[3])
    splits(tmp_path, "z/")
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("train", "val", "test"):
        table(tmp_path, '[["974", "001"]]' if name == "train" else "[]", f"a/b/{name}.json")
    assert list(raw(tmp_path, "faceforensics").rows["given_split"]) == ["test"]


def test_a_manipulation_across_two_splits_has_none(tmp_path: Path) -> None:
    touch(tmp_path, "manipulated_sequences/FaceShifter/c23/videos/000_953.mp4", VIDEOS[0])
    splits(tmp_path)
    assert list(raw(tmp_path, "faceforensics").rows["given_split"]) == ["", "train"]


def test_without_the_official_split_none_is_given(tmp_path: Path) -> None:
    touch(tmp_path, *VIDEOS)
    listing = raw(tmp_path, "faceforensics")
    assert set(listing.rows["given_split"]) == {""}
    assert "no train.json, val.json, test.json: no given split" in listing.messages


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "val.json").unlink(), r"train\.json: val\.json is not there: the split is three files"),
        (lambda root: table(root, '{"a": 1}', "val.json"), r"val\.json: no list of pairs"),
        (lambda root: table(root, "[", "val.json"), r"val\.json: no JSON"),
        (
            lambda root: table(root, '[["953", "500"]]', "val.json"),
            r"test\.json: 953 is in val\.json as well",
        ),
        (lambda root: splits(root, "a/") or splits(root, "b/") or (root / "val.json").unlink(), "only|meant"),
    ],
)
def test_a_wrong_split_is_said(tmp_path: Path, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    touch(tmp_path, *VIDEOS)
    splits(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=says):
        raw(tmp_path, "faceforensics")


def test_videos_are_for_stage_faces(tmp_path: Path) -> None:
    touch(tmp_path, *VIDEOS)
    with pytest.raises(InputError, match=r"lists no image: .* 8 videos; section faces of params.yaml takes crops"):
        read(tmp_path, "faceforensics")


def test_frames_are_of_the_video_of_their_folder_where_a_pattern_says_so(tmp_path: Path) -> None:
    folders = [f"manipulated_sequences/{method}/c23/frames/000_003" for method in ("Deepfakes", "FaceSwap")]
    touch(tmp_path, *(f"{folder}/{frame}.png" for folder in folders for frame in range(2)))
    rows = raw(tmp_path, "faceforensics", attributes={"video": "(?P<value>.*)/"}).rows  # as docs/data.md has it
    assert list(rows["attr_video"]) == [folders[0]] * 2 + [folders[1]] * 2
