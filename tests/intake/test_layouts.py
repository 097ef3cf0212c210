"""A data set's own layout is read into rows; an error in a label file is reported with its row."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ffdi.errors import InputError
from ffdi.intake.listing.label_files import read_list
from ffdi.intake.listing.labels import CLASSES
from ffdi.intake.listing.layouts import Listing, read_layout
from ffdi.intake.listing.walk import NOT_LISTED, TABLE, TWIN, walk
from ffdi.intake.settings import Columns, DataSettings


def read(root: Path, layout: str, **changes: Any) -> tuple[pd.DataFrame, int]:
    """The rows, and how many images are on disk but not listed."""
    listing: Listing = read_layout(root, DataSettings(".", layout, **changes))
    return listing.rows, sum(reason.startswith(NOT_LISTED) for _, reason in listing.skipped)


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def table(root: Path, data: str | bytes, name: str = "labels.csv") -> Path:
    (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def records(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    return rows.to_dict("records")


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


def test_a_symlink_inside_the_root_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    rows, _ = read(table(tmp_path, "path,label\nb.jpg,1\n"), "csv")
    assert list(rows["path"]) == ["b.jpg"]


def test_symlinked_folders(tmp_path: Path) -> None:
    touch(tmp_path, "root/real/a.jpg", "outside/back.jpg")
    root = tmp_path / "root"
    (root / "inner").symlink_to("real")
    (tmp_path / "way").symlink_to("root")
    text = "path,label\ninner/a.jpg,1\ninner/./missing.jpg,1\nnone/x.jpg,0\n"
    rows, unlisted = read(table(root, text), "csv")
    assert list(rows["path"]) == ["inner/a.jpg", "inner/missing.jpg", "none/x.jpg"] and unlisted == 0
    skipped = dict(read_layout(root, DataSettings(".", "csv")).skipped)
    assert skipped == {"inner": TWIN, "labels.csv": TABLE}  # inner/a.jpg is real/a.jpg
    assert len(read(tmp_path / "way", "csv")[0]) == 3  # the root itself may be a symlink
    (root / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "outside/in.jpg").symlink_to(root / "real/a.jpg")
    with pytest.raises(InputError, match=r"row 3: path 'out/in\.jpg' leads out"):
        read(table(root, "path,label\nreal/a.jpg,1\nout/in.jpg,1\n"), "csv")


def test_an_absolute_path_is_read_inside_the_root_alone(tmp_path: Path) -> None:
    touch(tmp_path, "root/in/a.jpg", "root/b.jpg", "root/c.jpg", "c.jpg")
    (tmp_path / "way").symlink_to("root")  # as data/root is a link
    text = f"path,label\n{tmp_path}/root/in//a.jpg,1\n{tmp_path}/way/b.jpg,0\nc.jpg,0\n"
    listing = read_layout(table(tmp_path / "way", text), DataSettings(".", "csv"))
    assert list(listing.rows["path"]) == ["in/a.jpg", "b.jpg", "c.jpg"] and dict(listing.skipped) == {
        "labels.csv": TABLE
    }
    (said,) = listing.names.messages()
    assert said.startswith(f"2 listed names are spelt otherwise on disk (absolute path): '{tmp_path}/root/in/a.jpg' is")
    for path in (f"{tmp_path}/c.jpg", f"{tmp_path}/root/../c.jpg", f"{tmp_path}/root"):
        with pytest.raises(InputError, match=r"row 2: path '/.*' leads out"):
            read(table(tmp_path / "root", f"path,label\n{path},1\n"), "csv")


def test_a_folder_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, resolved = Path.resolve, []
    monkeypatch.setattr(Path, "resolve", lambda self: resolved.append(self) or resolve(self))
    text = "path,label\n" + "".join(f"d{i % 3}/{i}.jpg,1\n" for i in range(99))
    assert len(read(table(tmp_path, text), "csv")[0]) == 99
    assert len(resolved) == 4  # the root and three folders


def test_a_loop_of_symlinks_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    table(tmp_path, "path,label\nloop.jpg,1\n")
    if sys.version_info < (3, 13):
        with pytest.raises(InputError, match=r"row 2: path 'loop\.jpg' is no path"):
            read(tmp_path, "csv")
    else:  # a path like another; ingest rejects the file
        assert list(read(tmp_path, "csv")[0]["path"]) == ["loop.jpg"]


@pytest.mark.parametrize("name", ["ä 人.jpg", "a b.jpg", "a,b.jpg", 'a"b.jpg', "a\nb.jpg", "-a.jpg", "a'b.jpg"])
def test_awkward_file_names(tmp_path: Path, name: str) -> None:
    quoted = name.replace('"', '""')
    touch(tmp_path, name, f"real/{name}")
    rows, unlisted = read(table(tmp_path, f'path,label\n"{quoted}",1\n"real/{quoted}",0\n'), "csv")
    assert list(rows["path"]) == [name, f"real/{name}"] and unlisted == 0
    (tmp_path / name).unlink()
    rows, _ = read(tmp_path, "imagefolder")
    assert list(rows["path"]) == [f"real/{name}"]


def test_imagefolder(tmp_path: Path) -> None:
    touch(tmp_path, "real/b.JPG", "fake/deep/a.png", "real/a.jpeg", "real/readme.txt", "real/.thumbs/x.jpg", "top.md")
    rows, unlisted = read(tmp_path, "imagefolder")
    assert [(r["path"], r["label"]) for r in records(rows)] == [
        ("fake/deep/a.png", 1),
        ("real/a.jpeg", 0),
        ("real/b.JPG", 0),
    ]
    assert set(rows["group"]) == set(rows["given_split"]) == {""} and unlisted == 0
    assert list(read(tmp_path, "imagefolder", classes={"real": 1, "fake": 0})[0]["label"]) == [0, 1, 1]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("other/x.jpg", r"folder 'other': not in data.classes \(real, fake"),
        ("x.jpg", r"'x.jpg' outside any class folder"),
        ("val/other/x.jpg", r"folder 'val/other': not in data.classes"),
        ("val/x.jpg", r"'val/x.jpg' outside any class folder"),
        ("val/real/x.jpg", r"'val/real/x.jpg' is in the folder of a split, 'real/a.jpg' is in none"),
        ("real/\udcff.jpg", r"file name 'real/\\udcff.jpg' is not UTF-8"),
    ],
)
def test_imagefolder_refuses_what_has_no_label_or_name(tmp_path: Path, path: str, says: str) -> None:
    touch(tmp_path, "real/a.jpg", path)
    with pytest.raises(InputError, match=says):
        read(tmp_path, "imagefolder")


def test_the_usual_names_are_not_all_listed(tmp_path: Path) -> None:
    touch(tmp_path, "other/x.jpg")
    with pytest.raises(InputError, match=r"'other': not in data.classes \(real, fake and their usual synonyms\)"):
        read(tmp_path, "imagefolder", classes=dict(CLASSES))


def test_the_order_is_of_the_parts_of_a_path(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.jpg",
        "a/z.png",
        "a-1/x.jpg",
        "a.jpg",
        "a/b/c.GIF",
        "a/b.jpg/d.jpg",
        ".h/x.jpg",
        "a/.h.jpg",
        "a/t.txt",
    )
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    found = walk(tmp_path).images
    shown = [p for p in tmp_path.rglob("*") if p.suffix.lower() in (".jpg", ".png", ".gif")]
    paths = [p.relative_to(tmp_path) for p in sorted(shown)]
    hidden = {p for p in paths if any(part.startswith(".") for part in p.parts)}
    no_files = {Path("a/b.jpg"), Path("dangling.jpg")}  # a folder, and a link to nothing
    assert found == [p.as_posix() for p in paths if p not in hidden | no_files] and len(found) == 6


def test_folders_as_deep_as_a_path_can_be(tmp_path: Path) -> None:
    depth = (4000 - len(str(tmp_path))) // 2
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open("x.jpg", os.O_CREAT, dir_fd=here))
    os.close(here)
    assert walk(tmp_path).images == ["d/" * depth + "x.jpg"]
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # shutil.rmtree recurs before Python 3.13


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: No such file"):
        walk(tmp_path / "none")


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("REAL", "Fake"),
        ("0_real", "1_fake"),
        ("training_real", "training_fake"),
        ("Original", "Deepfakes"),
        ("live", "spoof"),
    ],
)
def test_class_folders_in_any_case_and_by_their_usual_names(tmp_path: Path, real: str, fake: str) -> None:
    touch(tmp_path, f"{real}/a.jpg", f"{fake}/a.jpg")
    rows, _ = read(tmp_path, "imagefolder", classes=CLASSES)
    assert {r["path"].split("/")[0]: r["label"] for r in records(rows)} == {real: 0, fake: 1}


def test_classes() -> None:
    assert set(CLASSES.values()) == {0, 1} and all(name == name.casefold() for name in CLASSES)
    assert list(CLASSES)[:2] == ["real", "fake"]


def test_classes_that_case_alone_tells_apart(tmp_path: Path) -> None:
    touch(tmp_path, "A/a.jpg")
    assert list(read(tmp_path, "imagefolder", classes={"A": 1, "a": 1})[0]["label"]) == [1]
    with pytest.raises(InputError, match=r"data\.classes: 'A' stands there with both labels"):
        read(tmp_path, "imagefolder", classes={"A": 1, "a": 0})


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


def test_limit_is_of_each_given_split(tmp_path: Path) -> None:
    text = "path,label,split\n" + "".join(f"{i}.jpg,{i % 2},{'test' if i > 5 else 'train'}\n" for i in range(9))
    touch(tmp_path, *(f"{i}.jpg" for i in range(9)))
    rows, unlisted = read(table(tmp_path, text), "csv", limit=2)
    assert list(rows["path"]) == ["0.jpg", "1.jpg", "6.jpg", "7.jpg"] and list(rows.index) == [0, 1, 2, 3]
    assert unlisted == 0  # they are listed, though not taken


def test_group_by_pattern_and_by_column(tmp_path: Path) -> None:
    text = "path,label,group\np1_a.jpg,1,\np1_b.jpg,0,own\nother.jpg,0,\n"
    rows, _ = read(table(tmp_path, text), "csv", group=r"(?P<group>p\d+)_", max_ungrouped=0.5)
    assert list(rows["group"]) == ["p1", "own", ""]  # the column wins; no match is no group


def test_a_pattern_where_every_row_has_a_group_has_no_effect(tmp_path: Path) -> None:
    table(tmp_path, "path,label,group\np1_a.jpg,1,x\np1_b.jpg,0,y\n")
    with pytest.raises(InputError, match=r"data\.group has no effect: every .* has a group of its own"):
        read(tmp_path, "csv", group=r"(?P<group>p\d+)_")


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


def test_a_path_names_several_groups(tmp_path: Path) -> None:
    touch(tmp_path, "real/000/0.png", "real/003/0.png", "fake/003_000/0.png", "fake/x_009/0.png", "fake/000_000/0.png")
    one = r"/(?P<group>\d{3})(_(?P<group2>\d{3}))?/"
    due = {
        "real/000/0.png": "000",
        "real/003/0.png": "003",
        "fake/003_000/0.png": "000|003",
        "fake/x_009/0.png": "009",
        "fake/000_000/0.png": "000",  # of one person, whoever stands twice
    }
    for patterns in ([one, r"x_(?P<group>\d+)/"], [r"/(?P<group>\d{3})[_/]", r"_(?P<group>\d{3})/"]):
        rows, _ = read(tmp_path, "imagefolder", group=patterns)
        assert dict(zip(rows["path"], rows["group"], strict=True)) == due


def test_a_second_source_that_the_pattern_leaves_out_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "real/000/000.png", "real/001/001.png", "fake/000_001/001.png", "fake/001_777/000.png")
    one = r"/(?P<group>\d{3})(_\d{3})?/"
    (line,) = read_layout(tmp_path, DataSettings(".", "imagefolder", group=one)).messages
    # 777 is nobody's; a frame's number stands in a part of its own.
    assert line.startswith("1 of 4 paths name a second group, such as fake/000_001/001.png (000, and 001): ")
    both = r"/(?P<group>\d{3})(_(?P<group2>\d{3}))?/"
    assert read_layout(tmp_path, DataSettings(".", "imagefolder", group=both)).messages == []


def test_a_cell_of_the_column_group_holds_several(tmp_path: Path) -> None:
    rows, _ = read(table(tmp_path, "path,label,group\na.jpg,1,b | a|b\nb.jpg,0,|\nc.jpg,0,b\n"), "csv")
    assert list(rows["group"]) == ["a|b", "", "b"]


@pytest.mark.parametrize("patterns", [r"video(?P<group>\d+)", [r"clip(?P<group>\d+)", r"video(?P<group>\d+)"]])
def test_a_group_pattern_that_matches_nothing_is_an_error(tmp_path: Path, patterns: Any) -> None:
    touch(tmp_path, "real/clip00/0.png", "fake/clip01/0.png")
    with pytest.raises(InputError, match=r"group: video.* names no group in any of 2 paths, such as fake/clip01/0.png"):
        read(tmp_path, "imagefolder", group=patterns)
    # A match of nothing is no match.
    with pytest.raises(InputError, match="names no group in any of 2 paths"):
        read(tmp_path, "imagefolder", group=r"(?P<group>\d*)_?")


def test_a_group_pattern_that_misses_some_says_how_many_and_stops_above_a_share(tmp_path: Path) -> None:
    rows = [f"p{i}_a.jpg,1,\n" for i in range(6)] + ["x.jpg,0,\n", "y.jpg,0,\n"] + ["z.jpg,0,own\n"] * 8
    root = table(tmp_path, "path,label,group\n" + "".join(rows))
    layout = {"table": "labels.csv", "group": r"(?P<group>p\d+)_"}
    listing = read_layout(
        root, DataSettings(".", "csv", **layout, max_ungrouped=0.25)
    )  # 2 of the 8 that have none of their own
    assert listing.messages == ["data.group names no group in 2 of 8 paths, such as x.jpg, y.jpg"]
    with pytest.raises(InputError, match=r"2 of 8 paths, such as x.jpg, y.jpg: more than data.max_ungrouped = 0.24"):
        read_layout(root, DataSettings(".", "csv", **layout, max_ungrouped=0.24))
    assert read_layout(root, DataSettings(".", "csv", group=r"(?P<group>.)", max_ungrouped=0.0)).messages == []


def test_a_group_pattern_that_could_change_nothing_is_an_error(tmp_path: Path) -> None:
    root = table(tmp_path, "path,label,group\np1_a.jpg,1,anna\n")
    with pytest.raises(InputError, match=r"data.group has no effect: every image has a group of its own"):
        read(root, "csv", group=r"(?P<group>p\d+)_")


def test_the_name_of_a_group_holds_no_separator(tmp_path: Path) -> None:
    touch(tmp_path, "real/a|b/0.png", "fake/c/0.png")
    with pytest.raises(InputError, match=r"'a\|b' in real/a\|b/0.png: the name of a group has no \|"):
        read(tmp_path, "imagefolder", group=r"/(?P<group>[^/]+)/")


def test_roots_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read(tmp_path / "none", "csv")
    with pytest.raises(InputError, match=r"labels\.csv: No such file"):
        read(tmp_path, "csv")
    with pytest.raises(InputError, match="lists no image"):
        read(tmp_path, "imagefolder")


@pytest.mark.parametrize(
    "text",
    [
        b"img_name\nb.jpg\nsub/ a.PNG\nb.jpg\n",
        b"target, img_name ,y_pred\n1, b.jpg,\n,sub/ a.PNG ,0.5\n\nx,b.jpg,1",
        b"\xef\xbb\xbfimg_name\r\n\r\nb.jpg\r\n  \r\nsub/ a.PNG\r\nb.jpg\r\n",
        b"b.jpg\nsub/ a.PNG\nb.jpg\n",
        b'\xef\xbb\xbf b.jpg \r\n\r\nsub/ a.PNG\r\n"b.jpg"',
    ],
)
def test_a_list_with_and_without_a_header(tmp_path: Path, text: bytes) -> None:
    table(tmp_path, text, "list")
    listed = [(name, tmp_path / name) for name in ("b.jpg", "sub/ a.PNG", "b.jpg")]  # no file need be there
    assert read_list(tmp_path / "list", tmp_path)[0] == listed


def test_a_list_keeps_names_as_they_stand_there(tmp_path: Path) -> None:
    table(tmp_path, '"./a,\n人.JPG"\nsub//b\n', "list")  # a suffix is asked of the first line alone
    read, _ = read_list(tmp_path / "list", tmp_path)
    assert read == [("./a,\n人.JPG", tmp_path / "a,\n人.JPG"), ("sub//b", tmp_path / "sub/b")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("../a.jpg\n", "list: row 1: path '../a.jpg' leads out"),
        ('\n"', "no column 'img_name'; the header is ''"),
        ('"a\nb.jpg"\n\nc.jpg\n/d.jpg\n', "list: row 5: path '/d.jpg' leads out"),
        ("a.jpg\nb,c.jpg\n", "list: row 2: 2 fields, the first row has 1"),
        ("img_name\nb,c.jpg\n", "list: row 2: 2 fields, the header has 1"),
        ("img_name,target\na.jpg,1\n,0\n", "list: row 3: path '' leads out"),
        ("a\nb.jpg\n", "list: no column 'img_name'; the header is 'a'"),
        ("a.jpg,1\n", "list: no column 'img_name'; the header is 'a.jpg,1'"),
        ("", "list: no column 'img_name'"),
        (None, "list: No such file"),
    ],
)
def test_a_list_names_the_row_that_is_wrong(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        table(tmp_path, text, "list")
    with pytest.raises(InputError, match=says):
        read_list(tmp_path / "list", tmp_path)


def test_a_label_file_needs_its_header(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'path'; the header is 'a\.jpg'"):
        read(table(tmp_path, "a.jpg\n"), "csv")
