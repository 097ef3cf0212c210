"""A data set's own layout is read into rows; an error in a label file is reported with its row."""

from pathlib import Path

import pytest
from layout_cases import raw, read, records, table, touch

from ffdi.errors import InputError
from ffdi.intake.listing.walk import VIDEO


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "test"), ("train", "test")),
        (("Training", "TESTING"), ("train", "test")),
        (("train", "val"), ("train", "test")),
        (("train", "valid", "test"), ("train", "train", "test")),
        (("training", "validation", "testing"), ("train", "train", "test")),
        (("validation",), ("test",)),
    ],
)
def test_given_splits(tmp_path: Path, names: tuple[str, ...], splits: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{name}/{kind}/deep/a.jpg" for name in names for kind in ("real", "Fake")))
    rows, _ = read(tmp_path, "imagefolder")
    given = dict(zip(names, splits, strict=True))
    assert [r["given_split"] for r in records(rows)] == [given[r["path"].split("/")[0]] for r in records(rows)]
    assert [r["label"] for r in records(rows)] == [1, 0] * len(names)  # "Fake" sorts before "real"
    table(tmp_path, "path,label,split\n" + "".join(f"{i}.jpg,1,{name}\n" for i, name in enumerate(names)))
    assert list(read(tmp_path, "csv")[0]["given_split"]) == list(splits)


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "test/real/a.jpg", "train/a.jpg")
    rows, _ = read(tmp_path, "imagefolder", classes={"test": 0, "train": 1})
    assert rows[["label", "given_split"]].values.tolist() == [[0, ""], [1, ""]]


def test_limit_is_of_each_given_split(tmp_path: Path) -> None:
    text = "path,label,split\n" + "".join(f"{i}.jpg,{i % 2},{'test' if i > 5 else 'train'}\n" for i in range(9))
    touch(tmp_path, *(f"{i}.jpg" for i in range(9)))
    rows, unlisted = read(table(tmp_path, text), "csv", limit=2)
    assert list(rows["path"]) == ["0.jpg", "1.jpg", "6.jpg", "7.jpg"] and list(rows.index) == [0, 1, 2, 3]
    assert unlisted == 0  # they are listed, though not taken


@pytest.mark.parametrize("layout", ["imagefolder", "csv", "multi_ffdi"])
def test_where_a_section_reads_videos_every_layout_lists_them(layout: str, tmp_path: Path) -> None:
    places = ("trainset/fake", "valset/real") if layout == "multi_ffdi" else ("fake", "real")
    touch(tmp_path, *(f"{place}/{name}" for place in places for name in ("a.jpg", "b.MP4", "c.mkv")))
    header = "img_name,target" if layout == "multi_ffdi" else "path,label"
    for file, label, folder in (("trainset_label.txt", 1, "fake"), ("valset_label.txt", 0, "real")):
        table(tmp_path, f"{header}\n{folder}/a.jpg,{label}\n{folder}/b.mp4,{label}\n{folder}/c,{label}\n", file)
    rows = "".join(f"{folder}/{name},{folder}\n" for folder in ("fake", "real") for name in ("a.jpg", "b.mp4", "c"))
    table(tmp_path, f"path,label\n{rows}")
    listing = raw(tmp_path, layout)
    assert list(listing.rows["path"]) == [f"{place}/{name}" for place in places for name in ("a.jpg", "b.MP4", "c.mkv")]
    assert list(listing.rows["label"]) == [1, 1, 1, 0, 0, 0]
    tables = {"labels.csv", "trainset_label.txt", "valset_label.txt"}
    assert {path for path, _ in listing.skipped} == tables
    listed = raw(tmp_path, layout, videos=False)
    assert dict(listed.skipped)[f"{places[0]}/b.MP4"] == VIDEO


def test_a_video_is_not_read_in_place_of_an_image_nor_an_image_of_a_video(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.mp4", "c.mkv")
    listing = raw(table(tmp_path, "path,label\na.mp4,1\nb.jpg,1\nc.mp4,0\n"), "csv")
    assert list(listing.rows["path"]) == ["a.mp4", "b.jpg", "c.mkv"]


def test_roots_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read(tmp_path / "none", "csv")
    with pytest.raises(InputError, match=r"labels\.csv: No such file"):
        read(tmp_path, "csv")
    with pytest.raises(InputError, match="lists no image"):
        read(tmp_path, "imagefolder")
