"""Layout imagefolder: class folders, their order and names."""

import os
import subprocess
from pathlib import Path

import pytest
from layout_cases import read, records, touch

from ffdi.errors import InputError
from ffdi.intake.listing.labels import CLASSES
from ffdi.intake.listing.walk import walk


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
