"""A listed name that is not on disk is read from the only file that fits, or rejected with the closest name."""

from pathlib import Path
from unicodedata import normalize

import pytest

from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.listing.names import Names, find_files
from ffdi.intake.listing.walk import walk
from ffdi.intake.settings import DataSettings


def names(root: Path, *files: str) -> Names:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return Names(root, walk(root))


NFD, NFC = normalize("NFD", "in/josé.jpg"), normalize("NFC", "in/josé.jpg")


@pytest.mark.parametrize(
    ("listed", "on_disk", "change"),
    [
        (NFC, NFD, "Unicode normal form"),
        (NFD, NFC, "Unicode normal form"),
        ("in\\a.jpg", "in/a.jpg", "backslashes"),
        (".\\in\\\\a.jpg", "in/a.jpg", "backslashes"),
        (NFC.replace("/", "\\"), NFD, "backslashes, Unicode normal form"),
        ("in/a.JPG", "in/a.jpg", "case"),
        ("IN/A.jpg", "in/a.JPG", "case"),
        ("in\\A.jpg", "in/a.jpg", "backslashes, case"),
        ("0001", "0001.png", "missing suffix"),
        ("in/frame.01", "in/frame.01.JPG", "missing suffix"),
        ("in\\0001", "in/0001.png", "backslashes, missing suffix"),
        ("in/A", "in/a.png", "missing suffix, case"),
        ("in/a.png", "in/a.jpg", "another suffix"),
        ("in/a.jpg", "in/a.jpeg", "another suffix"),
        ("in/a.PNG", "in/A.jpg", "another suffix, case"),
    ],
)
def test_a_name_that_differs_is_found_and_said(tmp_path: Path, listed: str, on_disk: str, change: str) -> None:
    found = names(tmp_path, on_disk, "in/other.jpg")
    assert found.files([listed, "in/other.jpg", listed]) == [on_disk, "in/other.jpg", on_disk]
    spell = ascii if "Unicode" in change else repr
    due = f"2 listed names are spelt otherwise on disk ({change}): {spell(listed)} is read from {spell(on_disk)}"
    assert found.messages() == [due]


@pytest.mark.parametrize(
    ("listed", "files"),
    [
        (["a"], ["a.jpg", "a.png"]),  # two files fit
        (["A.jpg"], ["a.jpg", "a.JPG"]),
        (["a.gif"], ["a.jpg", "a.png"]),
        (["a.png", "a.jpg"], ["a.jpg"]),  # it is another name's
        (["a.JPG", "a.jpg"], ["a.jpg"]),
        (["a.png", "a.gif"], ["a.jpg"]),  # two names for one file
        (["a.jpg"], ["in/a.jpg", "ab.jpg", "a.jpg.txt", ".a.jpg"]),  # none fits
        (["..\\a.jpg"], ["a.jpg"]),
    ],
)
def test_a_name_that_may_mean_another_file_is_left(tmp_path: Path, listed: list[str], files: list[str]) -> None:
    found = names(tmp_path, *files)
    assert found.files(listed) == listed and found.messages() == []


def test_a_name_that_is_there_is_not_looked_up(tmp_path: Path) -> None:
    both = [NFC, NFD, "in/a.jpg", "in/a.JPG", "in\\a.jpg", "b.txt", ".c.jpg"]  # all of them files
    found = names(tmp_path, *both)
    assert found.files(both) == both and found.messages() == []


@pytest.mark.parametrize(
    ("listed", "closest"),
    [
        ("plain.jpg", "real/plain.jpg"),  # in a folder that the table leaves out
        ("plain", "real/plain.jpg"),
        ("data/real/plain.jpg", "real/plain.jpg"),
        ("real/plian.jpg", "real/plain.jpg"),
        ("C:\\set\\real\\plain.jpg", "real/plain.jpg"),
        ("fake/0006 (1).jpg", "fake/0006.jpg"),
        ("q", None),
    ],
)
def test_the_closest_name(tmp_path: Path, listed: str, closest: str | None) -> None:
    found = names(tmp_path, "real/plain.jpg", *(f"fake/{i:04d}.jpg" for i in range(0, 200, 6)), "fake/z.png")
    assert found.files([listed]) == [listed] and found.closest(listed) == closest


def test_names_of_every_layout_and_of_lists(tmp_path: Path) -> None:
    names(tmp_path, "trainset/a.jpg", "valset/b.jpg")
    (tmp_path / "trainset_label.txt").write_text("img_name,target\na.JPG,1\n")
    (tmp_path / "valset_label.txt").write_text("img_name,target\nb,0\n")
    (tmp_path / "labels.csv").write_text("path,label\ntrainset\\a.jpg,1\nvalset\\b.jpg,0\n")
    for layout in ("multi_ffdi", "csv"):
        listing = read_layout(tmp_path, DataSettings(".", layout))
        assert list(listing.rows["path"]) == ["trainset/a.jpg", "valset/b.jpg"]
        assert not any(path.endswith(".jpg") for path, _ in listing.skipped)
    files, found = find_files(tmp_path, [tmp_path / "trainset/a", tmp_path / "none.jpg", tmp_path / "valset/b.jpg"])
    assert files == [tmp_path / "trainset/a.jpg", tmp_path / "none.jpg", tmp_path / "valset/b.jpg"]
    assert found and len(found.messages()) == 1
    assert find_files(tmp_path, [tmp_path / "valset/b.jpg"]) == ([tmp_path / "valset/b.jpg"], None)
