"""Layout csv: columns, their names, and errors that name the row."""

from pathlib import Path
from typing import Any

import pytest
from layout_cases import read, records, table, touch

from ffdi.errors import InputError
from ffdi.intake.settings import Columns


def test_csv(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.png", "lonely.webp", ".hidden.jpg", "notes.txt")
    text = "path,label,group,split,age\na.jpg,1,anna,train,30\n./sub//b.png,0,,val,\n"
    rows, unlisted = read(table(tmp_path, text), "csv")
    assert records(rows) == [
        {"path": "a.jpg", "label": 1, "group": "anna", "given_split": "train", "attr_age": "30"},
        {"path": "sub/b.png", "label": 0, "group": "", "given_split": "test", "attr_age": ""},
    ]
    assert unlisted == 1  # lonely.webp; a hidden file and a text are no images


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfpath,label\na.jpg,1\n",  # BOM
        b"path,label\r\na.jpg,1\r\n",
        b" path , label\na.jpg , 1\n",
        b"path,label\na.jpg,1",  # no end of line
        b"path,label\n\na.jpg,1\n  \n",
        b"label,path\n1,a.jpg\n",
        b'"path","label"\n"a.jpg","1"\n',
    ],
)
def test_csv_is_read_where_the_meaning_is_certain(tmp_path: Path, text: bytes) -> None:
    rows, _ = read(table(tmp_path, text), "csv")
    assert rows[["path", "label"]].values.tolist() == [["a.jpg", 1]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no column 'path'"),
        (b"path,label\n", "no rows"),
        (b"file,label\na.jpg,1\n", "no column 'path'; the header is 'file,label'"),
        (b"path,label,label\na.jpg,1,0\n", "stands twice in the header 'path,label,label'"),
        (b"path,label\na.jpg,1\nb.jpg,2\n", "row 3: label '2' is neither 0"),
        (b"path,label\na.jpg,\n", "row 2: label '' is neither 0"),
        (b"path,label\na.jpg,fakish\n", "row 2: label 'fakish' is neither 0"),
        (b"path,label\na.jpg,1,x\n", "row 2: 3 fields, the header has 2"),
        (b"path,label\na.jpg\n", "row 2: 1 fields"),
        (b"path,label\na.jpg,1\n\xe4.jpg,1\n", "row 3: not UTF-8"),
        (b'path,label\n"a.jpg,1\n', "row 2: unexpected end"),
        (b"path,label,split\na.jpg,1,holdout\n", "row 2: split 'holdout' is not one of train, test, val"),
        (b"path,label\n../a.jpg,1\n", "row 2: path '../a.jpg' leads out"),
        (b"path,label\nok.jpg,1\nsub/../../a.jpg,1\n", "row 3: path 'sub/../../a.jpg' leads out"),
        (b"path,label\n/etc/passwd,1\n", "row 2: path '/etc/passwd' leads out"),
        (b"path,label\n,1\n", "row 2: path '' leads out"),
        (b"path,label\nlink.jpg,1\n", "row 2: path 'link.jpg' leads out"),
        (b"path,label\nfolder/secret.jpg,1\n", "row 2: path 'folder/secret.jpg' leads out"),
        (b"path,label\nfolder/../link.jpg,1\n", "row 2: path 'folder/../link.jpg' leads out"),
        (b"path,label\nfolder,1\n", "row 2: path 'folder' leads out"),
        (b"path,label\nfolder/,1\n", "row 2: path 'folder/' leads out"),
        (b"path,label\n./,1\n", "row 2: path './' leads out"),
        (b"path,label\n..,1\n", "row 2: path '..' leads out"),
        (b"path,label\na.jpg,1\n./a.jpg,1\n./link.jpg,1\n", "row 4: path './link.jpg' leads out"),
        (b"path,label\na\0b.jpg,1\n", r"row \d: .*(null|NUL)"),
        (b"path,label\na\0b/c.jpg,1\n", r"row \d: .*(null|NUL)"),
        (b'path,label\n"a\nb.jpg",1\n\n"c\nd.jpg",5\n', "row 5: label '5'"),  # where the row begins
        (b'path,label\r\n\r\n"a\r\nb.jpg",1\r\nc.jpg\r\n', "row 5: 1 fields"),
        (b'path,label\na.jpg,1\n"b.jpg,1\nc.jpg,1\nd.jpg,1\n', "row 3: unexpected end"),
        (b"path,label\ra.jpg,1\r\xff,1\r", "row 3: not UTF-8"),
        (b"\xef\xbb\xbfpath,label\na.jpg,1\n\xff,1\n", "row 3: not UTF-8"),
        (b"path,label,split\na.jpg,1,train\nb.jpg,1,\nc.jpg,0, Dev \nd.jpg,0,x\n", "row 4: split 'Dev' is not one"),
    ],
)
def test_csv_names_the_row_that_is_wrong(tmp_path: Path, text: bytes, says: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    touch(tmp_path, "outside/secret.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "outside/secret.jpg")
    (root / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=says) as caught:
        read(table(root, text), "csv")
    assert str(root / "labels.csv") in str(caught.value) and "\n" not in str(caught.value)


OWN_NAMES = "Unnamed: 0.1,,file_name,target,identity,target_identity,fold_name,path,age\n"


def test_columns_by_their_own_names(tmp_path: Path) -> None:
    rows = "0,7,a.jpg,1,anna,bo|cy,train,/old/a.jpg,30\n1,8,b.jpg,0,dan,,test,/old/b.jpg,\n2,9,c.jpg,0,,,,,\n"
    columns = {"path": "file_name", "label": "target", "group": ["target_identity", "identity"], "split": "fold_name"}
    found, _ = read(table(tmp_path, OWN_NAMES + rows), "csv", columns=Columns(**columns))
    assert records(found) == [
        {
            "path": "a.jpg",
            "label": 1,
            "group": "anna|bo|cy",
            "given_split": "train",
            "attr_path": "/old/a.jpg",
            "attr_age": "30",
        },
        {
            "path": "b.jpg",
            "label": 0,
            "group": "dan",
            "given_split": "test",
            "attr_path": "/old/b.jpg",
            "attr_age": "",
        },
        {"path": "c.jpg", "label": 0, "group": "", "given_split": "", "attr_path": "", "attr_age": ""},
    ]


def test_a_role_that_is_named_elsewhere_leaves_its_column_an_attribute(tmp_path: Path) -> None:
    table(tmp_path, "path,label,group,id,split\na.jpg,1,g,anna,val\n")
    found, _ = read(tmp_path, "csv", columns=Columns(group="id"))
    assert records(found) == [
        {"path": "a.jpg", "label": 1, "group": "anna", "given_split": "test", "attr_group": "g"},
    ]


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        ({"path": "file"}, "file"),
        ({"label": "Target"}, "Target"),
        ({"group": "who"}, "who"),
        ({"group": ["identity", "who"]}, "who"),
        ({"split": "fold"}, "fold"),
        ({}, "label"),
    ],
)
def test_a_named_column_must_be_there(tmp_path: Path, columns: dict[str, Any], missing: str) -> None:
    table(tmp_path, "path,target,identity\na.jpg,1,x\n")
    says = rf"no column '{missing}'; the header is 'path,target,identity'; data\.columns says .*`columns: \{{path: NAME"
    with pytest.raises(InputError, match=says):
        read(tmp_path, "csv", columns=Columns(**({"label": "target"} | columns if columns else {})))


def test_the_row_of_an_unknown_split_in_a_named_column(tmp_path: Path) -> None:
    table(tmp_path, "path,label,fold_name\na.jpg,1,train\nb.jpg,0,Dev\n")
    with pytest.raises(InputError, match="row 3: split 'Dev' is not one of train, test, val"):
        read(tmp_path, "csv", columns=Columns(split="fold_name"))
