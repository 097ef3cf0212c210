"""What the arguments of a command name."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from ffdi.deploy.inputs import Inputs, find_inputs
from ffdi.errors import InputError


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are enough: nothing but tables is opened."""
    for name in ("a.jpg", "b [1].jpg", "deep/c.png", "deep/er/d.jpg", "deep/notes.txt", "none/notes.txt", "e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def found(*arguments: str, stdin: bytes = b"") -> Inputs:
    return find_inputs(arguments, io.BytesIO(stdin))


def names(*arguments: str, stdin: bytes = b"") -> list[str]:
    return [str(file) for file in found(*arguments, stdin=stdin).files]


def test_files_folders_and_globs_keep_their_order() -> None:
    assert names("e.jpg", "deep", "a.jpg") == ["e.jpg", "deep/c.png", "deep/er/d.jpg", "a.jpg"]
    assert names("*.jpg") == ["a.jpg", "b [1].jpg", "e.jpg"]
    assert names("**/*.jpg", "a.jpg") == ["a.jpg", "b [1].jpg", "deep/er/d.jpg", "e.jpg", "a.jpg"]
    assert names("dee?") == ["deep/c.png", "deep/er/d.jpg"]  # as a shell that expands it would name the folder
    assert names("b [1].jpg") == ["b [1].jpg"]  # a name that exists is no glob
    assert names("gone.jpg") == ["gone.jpg"]  # its row says that it cannot be read
    there = found("*.gif", "none", "deep")
    assert there.empty[0] == "*.gif: matches no file" and there.empty[1].startswith("none: no image in it; passed over")
    assert there.passed_over == ["deep: passed over: 1 without an image's suffix (1 .txt)"]


def test_a_list_on_stdin_holds_lines_or_nul_separated_names() -> None:
    assert names("a.jpg", "-", "e.jpg", stdin=b"deep\r\n\ngone.jpg\n") == [
        *("a.jpg", "deep/c.png", "deep/er/d.jpg", "gone.jpg", "e.jpg")
    ]
    assert names("-", stdin=b"a\n.jpg\0*.jpg\0b\xe9.jpg\0") == ["a\n.jpg", "*.jpg", os.fsdecode(b"b\xe9.jpg")]
    assert names("-", stdin=b"\xef\xbb\xbfa.jpg") == ["a.jpg"] and names("-") == []
    assert names("-", stdin="a.jpg\r\n\xe4.jpg\r\n".encode("utf-16")) == ["a.jpg", "\xe4.jpg"]
    with pytest.raises(InputError, match="stdin is an image; - takes a list of paths"):
        found("-", stdin=b"\xff\xd8\xff\xe0\0")


def test_files_at_a_url_are_refused_and_no_key_is_repeated() -> None:
    with pytest.raises(InputError, match=r"^s3://\.\.\.bucket/faces: files at a URL are not read here"):
        found("a.jpg", "s3://KEY:SECRET@bucket/faces")


def test_paths_of_a_csv_start_from_its_folder(tmp_path: Path) -> None:
    Path("deep/list.csv").write_text(f"label,path\n1,er/d.jpg\n0,gone.jpg\n0,{tmp_path}/a.jpg\n")
    assert names("deep/list.csv", "e.jpg") == ["deep/er/d.jpg", "deep/gone.jpg", f"{tmp_path}/a.jpg", "e.jpg"]
    Path("wrong.csv").write_text("path\nx/a.jpg\ny.jpg\n")
    with pytest.raises(
        InputError, match=r"wrong.csv: none of its 2 paths exists, such as x/a.jpg: they start from the"
    ):
        found("wrong.csv")
    Path("other.csv").write_text("name\na.jpg\n")
    with pytest.raises(InputError, match=r"other\.csv: no column 'path'; the header is 'name'"):
        found("other.csv")
    assert names("gone.csv") == ["gone.csv"]
