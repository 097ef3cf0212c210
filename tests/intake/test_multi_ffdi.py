"""Layout multi_ffdi."""

from pathlib import Path

import pytest
from layout_cases import read, records, table, touch

from ffdi.errors import InputError


def test_multi_ffdi_below_its_parent(tmp_path: Path) -> None:
    touch(tmp_path, "phase1/trainset/a.jpg", "phase1/valset/a.jpg", "phase1/valset/b.jpg", "other.jpg")
    table(tmp_path, "img_name,target\na.jpg,1\n", "phase1/trainset_label.txt")
    table(tmp_path, "img_name,target\n./a.jpg,0\nb.jpg,1\n", "phase1/valset_label.txt")
    rows, unlisted = read(tmp_path, "multi_ffdi")
    assert list(rows["path"]) == ["phase1/trainset/a.jpg", "phase1/valset/a.jpg", "phase1/valset/b.jpg"]
    assert list(rows["given_split"]) == ["train", "test", "test"] and unlisted == 1
    assert list(read(tmp_path / "phase1", "multi_ffdi")[0]["path"]) == [
        "trainset/a.jpg",
        "valset/a.jpg",
        "valset/b.jpg",
    ]
    (tmp_path / "phase1/valset_label.txt").unlink()
    with pytest.raises(InputError, match=r"phase1/valset_label\.txt: No such file"):
        read(tmp_path, "multi_ffdi")


def test_multi_ffdi(tmp_path: Path) -> None:
    touch(tmp_path, "trainset/a.jpg", "trainset/extra.jpg", "valset/a.jpg")
    table(tmp_path, "img_name,target\r\na.jpg,1\r\n", "trainset_label.txt")
    table(tmp_path, "img_name,target\na.jpg,0\n", "valset_label.txt")
    rows, unlisted = read(tmp_path, "multi_ffdi")
    assert records(rows) == [
        {"path": "trainset/a.jpg", "label": 1, "group": "", "given_split": "train"},
        {"path": "valset/a.jpg", "label": 0, "group": "", "given_split": "test"},  # the valset is the test set
    ]
    assert unlisted == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("img_name,target\na.jpg,1\n../../a.jpg,1\n", "valset_label.txt: row 3: path"),
        ("img_name,target\n../trainset/a.jpg,1\n", "valset_label.txt: row 2: path"),
        ("img_name,target\n/etc/a.jpg,1\n", "valset_label.txt: row 2: path '/etc/a.jpg' leads out"),
        ("img_name,target\n,1\n", "valset_label.txt: row 2: path '' leads out"),
        ("img_name,target\na.jpg,-1\n", "valset_label.txt: row 2: label '-1'"),
        ("img_name,label\na.jpg,1\n", "valset_label.txt: no column 'target'"),
        (None, "valset_label.txt: No such file"),
    ],
)
def test_multi_ffdi_names_the_file_and_row_that_is_wrong(tmp_path: Path, text: str | None, says: str) -> None:
    table(tmp_path, "img_name,target\na.jpg,1\n", "trainset_label.txt")
    if text is not None:
        table(tmp_path, text, "valset_label.txt")
    with pytest.raises(InputError, match=says):
        read(tmp_path, "multi_ffdi")
