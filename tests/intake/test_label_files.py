"""Paths in label files, links among them, and lists of images."""

import sys
from pathlib import Path

import pytest
from layout_cases import read, table, touch

from ffdi.errors import InputError
from ffdi.intake.listing.label_files import read_list
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.listing.walk import TABLE, TWIN
from ffdi.intake.settings import DataSettings


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
    (said,) = listing.messages
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
        ("# mine\n\n../a.jpg\n", "list: row 3: path '../a.jpg' leads out"),
        ('\n"', "list: row 2: unexpected end of data"),
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
