"""Every file below a root is an image or skipped, with the reason; links are followed only when that is safe."""

import os
from pathlib import Path

import pytest

from ffdi.errors import InputError
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.listing.walk import (
    ARCHIVE,
    DANGLING,
    EMPTY,
    HIDDEN,
    LOOP,
    NO_SUFFIX,
    OUT,
    SPECIAL,
    SYSTEM,
    THROUGH_LINK,
    TWIN,
    VIDEO,
    passed_over,
    walk,
)
from ffdi.intake.settings import DataSettings


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def link(root: Path, **targets: str) -> None:
    for name, target in targets.items():
        (root / name).symlink_to(target)


def test_all_suffixes_of_images(tmp_path: Path) -> None:
    names = "a.jpg b.JPEG c.jpe d.jfif e.mpo f.png g.webp h.bmp i.gif j.tif k.tiff l.ppm m.pgm n.jp2 o.avif p.HEIC q.heif r.jxl"
    touch(tmp_path, *names.split())
    tree = walk(tmp_path)
    assert tree.images == names.split() and tree.skipped == []


def test_what_is_passed_over_has_a_reason(tmp_path: Path) -> None:
    due = {
        "a.jpg_large": "suffix .jpg_large",
        "b.jpg?w=800": "suffix .jpg?w=800",
        "c.TXT": "suffix .txt",
        "IMG_0001": NO_SUFFIX,
        "more.tar.gz": ARCHIVE,
        "real.ZIP": ARCHIVE,
        "old.7z": ARCHIVE,
        "clip.MP4": VIDEO,
        ".hidden.jpg": HIDDEN,
        ".git/objects/aa.jpg": HIDDEN,
        ".DS_Store": SYSTEM,
        "._a.jpg": SYSTEM,
        "Thumbs.db": SYSTEM,
        "desktop.ini": SYSTEM,
        "__MACOSX/real/a.jpg": SYSTEM,
        "in/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg": SYSTEM,
    }
    touch(tmp_path, "in/a.jpg", *due)
    (tmp_path / "in/empty").mkdir()
    (tmp_path / "folder.jpg/.none").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe.jpg")
    tree = walk(tmp_path)
    assert tree.images == ["in/a.jpg"] and len(tree.skipped) == len(dict(tree.skipped))
    assert dict(tree.skipped) == due | {"in/empty/": EMPTY, "folder.jpg/.none/": HIDDEN, "pipe.jpg": SPECIAL}
    assert list(passed_over(tree.skipped)) == [
        "3 archives to be unpacked (more.tar.gz, old.7z, real.ZIP)",
        "1 empty folder",
        "3 hidden",
        "1 no regular file",
        "6 system files",
        "1 video",
        "4 without an image's suffix (1 .jpg?w=800, 1 .jpg_large, 1 .txt, ...)",
    ]


def test_videos_are_listed_where_they_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/c.MP4", "b/c.mkv", "b/._c.mp4", "notes.txt")
    link(tmp_path, **{"d.mov": "b/c.MP4", "e.mp4": "none.mp4"})
    tree = walk(tmp_path, videos=True)
    assert tree.images == ["a.jpg", "b/c.MP4", "b/c.mkv", "d.mov"]
    assert dict(tree.skipped) == {"b/._c.mp4": SYSTEM, "e.mp4": DANGLING, "notes.txt": "suffix .txt"}
    assert dict(walk(tmp_path).skipped)["d.mov"] == VIDEO and "stage faces" in VIDEO


def test_links_to_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "root/a.jpg", "root/notes.txt", "root/.store/z.jpg", "outside.jpg", "root_twin/x.jpg")
    link(root, **{"b.jpg": "a.jpg", "z.jpg": ".store/z.jpg", "c": "a.jpg", "out.jpg": "../outside.jpg"})
    link(root, **{"none.jpg": "gone.jpg", "loop.jpg": "loop.jpg", "near.jpg": "../root_twin/x.jpg", ".l.jpg": "a.jpg"})
    link(root, **{"below.jpg": "a.jpg/x.jpg", "null.jpg": "/dev/null", "dev.jpg": "pipe"})
    os.mkfifo(root / "pipe")
    tree = walk(root)
    assert tree.images == ["a.jpg", "b.jpg", "z.jpg"]
    assert dict(tree.skipped) == {
        ".l.jpg": HIDDEN,
        ".store/z.jpg": HIDDEN,  # z.jpg is an entry of its own
        "below.jpg": DANGLING,
        "c": NO_SUFFIX,
        "dev.jpg": SPECIAL,
        "loop.jpg": LOOP,
        "near.jpg": OUT,
        "none.jpg": DANGLING,
        "notes.txt": "suffix .txt",
        "null.jpg": OUT,
        "out.jpg": OUT,
        "pipe": SPECIAL,
    }


def test_links_to_folders_are_followed_where_nothing_is_read_twice(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root, "fake/a.jpg", ".store/real/b.jpg", ".store/real/deep/c.jpg", ".store/d.jpg", "zz/masks/m.jpg")
    touch(tmp_path, "elsewhere/e.jpg")
    link(root, real=".store/real", again=".store/real", twin="fake", out="../elsewhere", top=".", up="..")
    link(root, zeta=".store", absolute=str(root / "fake"), gone="nowhere", picked="zz/masks")
    link(root / "fake", me="../fake", above="..", over="../real")
    link(root / ".store/real/deep", back="..")
    (tmp_path / "way").symlink_to("root")  # as data/root is
    for start in (root, tmp_path / "way"):
        tree = walk(start, lambda folder: folder.endswith("/masks"))
        assert tree.images == ["again/b.jpg", "again/deep/c.jpg", "fake/a.jpg", "picked/m.jpg", "zeta/d.jpg"]
        assert dict(tree.skipped) == {
            "absolute": TWIN,
            "again/deep/back": LOOP,
            "fake/above": LOOP,
            "fake/me": LOOP,
            "fake/over": TWIN,
            "gone": DANGLING,
            "out": OUT,
            "real": TWIN,
            "top": LOOP,
            "twin": TWIN,
            "up": OUT,
            "zeta/real/": THROUGH_LINK,
        }


def test_a_root_of_links_that_lead_out_is_an_error_that_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "root/notes.txt")
    link(tmp_path / "root", real="../photos", fake=str(tmp_path / "photos"))
    says = r"lists no image: .*; passed over: 2 links that lead out of the root \(fake, real\), 1 without an image's suffix \(1 \.txt\)$"
    with pytest.raises(InputError, match=says):
        read_layout(tmp_path / "root", DataSettings(".", "imagefolder"))


def test_a_closed_folder_that_cannot_be_read_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", ".Trashes/b.jpg", "in/c.jpg")
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if folder.name in refused:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    refused = [".Trashes"]
    assert walk(tmp_path).skipped == [(".Trashes/", SYSTEM)]
    refused = ["in"]
    with pytest.raises(InputError, match="in: Permission denied"):
        walk(tmp_path)


def test_folders_that_hold_no_examples(tmp_path: Path) -> None:
    touch(tmp_path, "real/frames/a.png", "fake/frames/a.png", "fake/Masks/0/a.png", "fake/Masks/b.png", "masks/c.png")
    touch(tmp_path, "fake/landmarks/a.npy", "fake/with_mask/a.png", "fake/masks.png")
    listing = read_layout(tmp_path, DataSettings(".", "imagefolder"))
    taken = ["fake/frames/a.png", "fake/masks.png", "fake/with_mask/a.png", "real/frames/a.png"]
    assert list(listing.rows["path"]) == taken
    said = [
        "2 images in folders called Masks",
        "1 file in folder called landmarks",
        "1 image in folder called masks",
    ]
    assert list(passed_over(listing.skipped)) == said
    everything = read_layout(
        tmp_path, DataSettings(".", "imagefolder", classes={"real": 0, "fake": 1, "masks": 1}, exclude=[])
    )
    assert len(everything.rows) == 7
    own = DataSettings(".", "imagefolder", classes={"real": 0, "fake": 1, "masks": 1}, exclude=["WITH_*", "masks"])
    # A class or split is no such folder, whatever the pattern.
    assert [p for p in read_layout(tmp_path, own).rows["path"] if p not in taken] == ["masks/c.png"]
    for layout in (
        DataSettings(".", "imagefolder", exclude=["masks", "frame"]),
        DataSettings(".", "imagefolder", exclude=["fra*s", "frame"]),
    ):
        with pytest.raises(InputError, match=r"data\.exclude: 'frame' is the name of no folder below "):
            read_layout(tmp_path, layout)


def test_a_table_lists_what_a_walk_would_skip(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden/a.jpg", "b.jpg_large", "masks/c.jpg", "d.jpg", "e.txt")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/t.csv").write_text("path,label\n.hidden/a.jpg,0\nb.jpg_large,1\nmasks/c.jpg,1\n")
    listing = read_layout(tmp_path, DataSettings(".", "csv", table="./in//t.csv"))
    assert list(listing.rows["path"]) == [".hidden/a.jpg", "b.jpg_large", "masks/c.jpg"]
    due = {"d.jpg": "not listed in in/t.csv", "e.txt": "suffix .txt", "in/t.csv": "table of labels"}
    assert dict(listing.skipped) == due and listing.messages == []
