"""A data set's own layout is read into rows; an error in a label file is reported with its row."""

from pathlib import Path

import pytest
from layout_cases import read, records, table, touch

from ffdi.errors import InputError


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


def test_roots_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read(tmp_path / "none", "csv")
    with pytest.raises(InputError, match=r"labels\.csv: No such file"):
        read(tmp_path, "csv")
    with pytest.raises(InputError, match="lists no image"):
        read(tmp_path, "imagefolder")
