"""images.csv and folds.csv on disk."""

import csv
import hashlib
import re
from pathlib import Path

import pandas as pd
import pytest

from ffdi.errors import InputError
from ffdi.intake.tables import (
    FOLD_COLUMNS,
    IMAGE_COLUMNS,
    join,
    read_folds,
    read_images,
    read_table,
    skipped_table,
    tables_digest,
)
from ffdi.intake.tables import write_table as write

IMAGES = "image_id,path,label,group,given_split,width,height,format,phash\n"
FOLDS = "image_id,group,cluster,role,fold\n"


def file(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_awkward_text_comes_back_as_it_was(tmp_path: Path) -> None:
    paths = [
        "a b.jpg",
        "a,b.jpg",
        'a"b.jpg',
        "a\nb.jpg",
        "a\rb.jpg",
        "a\r\nb.jpg",
        "ä 人.jpg",
        "NA",
        "null",
        "",
        " x ",
        "0012",
        "1e5",
    ]
    table = pd.DataFrame({"path": paths, "row": [str(i) for i in range(len(paths))]})
    write(tmp_path / "t.csv", table)
    back = read_table(tmp_path / "t.csv", ["path", "row"])
    assert list(back["path"]) == paths and list(back["row"]) == list(table["row"])
    first = (tmp_path / "t.csv").read_bytes()
    write(tmp_path / "t.csv", back)
    assert (tmp_path / "t.csv").read_bytes() == first
    assert first.startswith(b'path,row\na b.jpg,0\n"a,b.jpg",1\n') and b'\n"a\rb.jpg",4\n' in first
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as text:  # any reader has the same rows
        assert [row[0] for row in csv.reader(text, strict=True)][1:] == paths


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("separator", [b",", b";"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path, bom: bytes, separator: bytes, end: bytes) -> None:
    def saved(text: str) -> bytes:
        return bom + text.encode().replace(b",", separator).replace(b"\n", end)

    folds = read_folds(file(tmp_path, saved(FOLDS + "a,g,a,test,\nb,h,b,train,2\n")))
    assert list(folds.columns) == list(FOLD_COLUMNS) and folds["fold"].tolist() == [-1, 2]
    images = read_images(file(tmp_path, saved(IMAGES + "ab,ä.jpg,1,g,test,64,32,JPEG,00\n")))
    assert images.loc[0, ["image_id", "path", "phash"]].tolist() == ["ab", "ä.jpg", "00"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,y.jpg,1,,,8,8,JPEG,1.2E+31", "row 3: phash '1.2E+31': a spreadsheet made it a number"),
        ("a,y.jpg,1,,,8,8,JPEG,12", "row 3: phash '12' has lost digits"),
        ("1E+63,y.jpg,1,,,8,8,JPEG,0012", "row 3: image_id '1E+63': a spreadsheet made it a number"),
    ],
)
def test_a_value_that_a_spreadsheet_changed_is_named(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        read_images(file(tmp_path, f"{IMAGES}ab,x.jpg,1,,,8,8,JPEG,00ab\n{row}\n"))


def test_the_skipped_are_listed_by_path_and_any_name_can_be_written(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", skipped_table([("b\udcff.txt", "suffix .txt"), ("a\rb", "no suffix")]))
    assert (tmp_path / "t.csv").read_bytes() == b'path,reason\n"a\rb",no suffix\nb\\udcff.txt,suffix .txt\n'


def test_integers(tmp_path: Path) -> None:
    images = read_images(file(tmp_path, IMAGES + "ab,x.jpg,1,g,test,64,32,JPEG,00\n"))
    assert images.loc[0, ["label", "width", "height"]].tolist() == [1, 64, 32]
    folds = read_folds(file(tmp_path, FOLDS + "a,g,a,test,\nb,h,b,train,2\n"))
    assert folds["fold"].tolist() == [-1, 2]


@pytest.mark.parametrize("column", IMAGE_COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    kept = [c for c in IMAGE_COLUMNS if c != column]
    text = ",".join(kept) + "\n" + ",".join("1" for _ in kept) + "\n"
    with pytest.raises(InputError, match=rf"table.csv: no column '{column}'; it has {kept[0]}, "):
        read_images(file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a readable table"),
        (FOLDS, "no rows"),
        (b"image_id\n\xff\n", "not a readable table"),
        (FOLDS + "a,g,a,train\n\n1,2,3,4,5,6,7\n", "not a readable table"),
        (FOLDS + "a,g,a,valid,0\n", "role 'valid' is neither train nor test"),
        (FOLDS + "a,g,a,train,0\nb,g,b,train,x\n", "row 3: fold 'x' is no whole number"),
        (FOLDS + "a,g,a,train,0\na,g,a,test,\n", "row 3: image_id 'a' stands there twice"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_folds(file(tmp_path, text))
    assert "table.csv: " in str(caught.value) and "\n" not in str(caught.value)


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 2: label 'fake' is no whole number"):
        read_images(file(tmp_path, IMAGES + "ab,x.jpg,fake,g,test,64,32,JPEG,00\n"))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file: run the stage"):
        read_folds(tmp_path / "none.csv")
    with pytest.raises(InputError, match="Is a directory"):
        read_folds(tmp_path)


def test_join_takes_the_final_group_and_refuses_lone_images(tmp_path: Path) -> None:
    images = read_images(file(tmp_path, IMAGES + "a,x.jpg,1,old,,8,8,JPEG,00\nb,y.jpg,0,,,8,8,JPEG,00\n"))
    folds = read_folds(file(tmp_path, FOLDS + "b,new,b,test,\na,new,a,train,0\n"))
    rows = join(images, folds).set_index("path")
    assert rows.loc["x.jpg", ["group", "role", "fold"]].tolist() == ["new", "train", 0]
    assert rows.loc["y.jpg", ["group", "role", "fold"]].tolist() == ["new", "test", -1]
    with pytest.raises(InputError, match="differ in 1 images, such as b: run split again"):
        join(images, folds[folds["image_id"] == "a"])


def test_digest_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_bytes(b"one")
    (tmp_path / "f.csv").write_bytes(b"two")
    one, two = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
    assert tables_digest(tmp_path / "i.csv", tmp_path / "f.csv") == f"{one}  images.csv\n{two}  folds.csv\n"


def test_columns_are_the_contract() -> None:
    assert ",".join(IMAGE_COLUMNS) + "\n" == IMAGES and ",".join(FOLD_COLUMNS) + "\n" == FOLDS
