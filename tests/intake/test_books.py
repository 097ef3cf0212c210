"""The books of an intake balance: files on disk = read + merged + rejected + skipped, each exactly once."""

from __future__ import annotations

import io
import os
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from ffdi.intake.archives import unpacked
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import Intake, ingest
from ffdi.intake.listing.layouts import Listing, read_layout
from ffdi.intake.settings import DataSettings

TOPS = {  # the folders of real and fake images
    "imagefolder": ("real", "fake"),
    "csv": ("real", "fake"),
    "multi_ffdi": ("trainset", "valset"),
    "celeb_df": ("Celeb-real/id0_0000", "Celeb-synthesis/id0_id1_0000"),
}
ODD_NAMES = (
    *("notes.txt", "photo.jpg_large", "photo.jpg?w=800", "IMG_0001", "more.zip", "clip.mp4", "Thumbs.db", ".DS_Store"),
    *("._a.jpg", ".hidden.png", "faces.tar.gz", "a.jpg.txt"),
)
ODD_FOLDERS = ("masks", ".git", "__MACOSX", "deep/deeper", "landmarks", "thumbs", "x.jpg", ".store")


@cache
def encoded(seed: int, kind: str) -> bytes:
    file = io.BytesIO()
    picture(seed, 16).save(file, kind)
    return file.getvalue()


@cache
def mask() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.repeat(np.uint8([0, 255]), 128).reshape(16, 16)).save(file, "PNG")
    return file.getvalue()


def random_tree(root: Path, layout: str, draw: random.Random) -> None:
    """Odd files of every kind, in folders that the layout reads; for a label file, tables that name some of them."""
    outside = root.parent / "outside"
    outside.mkdir(parents=True)
    (outside / "far.jpg").write_bytes(encoded(0, "JPEG"))
    tops = TOPS[layout]
    folders = [root / top / below for top in tops for below in ("", *draw.sample(ODD_FOLDERS, 4))]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for i in range(draw.randrange(20, 40)):
        folder = draw.choice(folders)
        fake = int((root / tops[1]) in (folder, *folder.parents))  # no picture under two labels or splits
        kind = draw.choice(["good", "good", "twin", "broken", "mask", "odd", "link", "folder link", "pipe", "empty"])
        if kind == "good":
            (folder / f"{i}.{draw.choice(['jpg', 'JPEG', 'jfif', 'jpe'])}").write_bytes(encoded(2 * i + fake, "JPEG"))
        elif kind == "twin":
            (folder / f"{i}.png").write_bytes(encoded(100 + 2 * draw.randrange(3) + fake, "PNG"))
        elif kind == "broken":
            broken = draw.choice([b"", b"no image", encoded(i, "JPEG")[:-99]])
            (folder / f"{i}.{draw.choice(['jpg', 'heic'])}").write_bytes(broken)
        elif kind == "mask":
            (folder / f"{i}.png").write_bytes(mask())
        elif kind == "odd":
            (folder / draw.choice(ODD_NAMES)).write_bytes(b"odd")
        elif kind == "link":
            there = sorted(p for p in folder.iterdir() if p.is_file() and not p.is_symlink())
            target = draw.choice(
                [outside / "far.jpg", folder / "none.jpg", folder / f"{i}.jpg", Path("/dev/null"), *there]
            )
            (folder / f"{i}.jpg").symlink_to(target)
        elif kind == "folder link":
            same_class = [f for f in folders if f.relative_to(root).parts[0] == folder.relative_to(root).parts[0]]
            (folder / f"to {i}").symlink_to(draw.choice([outside, root, folder / "gone", *same_class]))
        elif kind == "pipe":
            os.mkfifo(folder / f"{i}.jpg")
        else:
            (folder / f"empty {i}").mkdir()
    if layout in ("csv", "multi_ffdi"):
        for table, top, header in (
            [("labels.csv", "", "path,label")]
            if layout == "csv"
            else [(f"{name}_label.txt", f"{name}/", "img_name,target") for name in tops]
        ):
            files = [
                p for p in on_disk(root) if p.startswith(top) and not p.endswith(".csv") and refers_inside(root, p)
            ]
            listed = {p.removeprefix(top): int(p.startswith(("fake", "valset"))) for p in files if draw.random() < 0.7}
            rows = [f'"{draw.choice([path, path, path.upper(), f"./{path}"])}",{y}' for path, y in listed.items()]
            rows += ["none.jpg,0", *draw.choices(rows, k=2)] if rows else ["none.jpg,0"]
            (root / table).write_text("\n".join([header, *rows]), encoding="utf-8")


def on_disk(root: Path) -> list[str]:
    """All that is no folder, links to folders included, without following any."""
    found = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in [*files, *links]]
    return sorted(found)


def refers_inside(root: Path, path: str) -> bool:
    """Whether a table may name it: a link that leads out, or is a loop, is an error of its row."""
    target = Path(os.path.realpath(root / path))
    return target.is_relative_to(os.path.realpath(root)) and not (target.is_symlink() or target.is_dir())


def leads_to_a_folder_inside(root: Path, path: str) -> bool:
    file = root / path
    return file.is_symlink() and file.is_dir() and file.resolve().is_relative_to(root.resolve())


def check_books(root: Path, listing: Listing, intake: Intake) -> None:
    """Every file once, by its path without links; followed links to folders are no files."""
    top = os.path.realpath(root)

    def place(path: str) -> str:
        folder, _, name = path.rpartition("/")
        return os.path.relpath(f"{os.path.realpath(f'{top}/{folder}')}/{name}", top)

    rows = list(dict.fromkeys(listing.rows["path"]))
    accounted = list({place(path) for path in rows if os.path.lexists(root / path)})  # a table may list it twice
    accounted += [place(path) for path, _ in listing.skipped if not path.endswith("/") and not path.startswith("../")]
    assert len(accounted) == len(set(accounted)), sorted(p for p in set(accounted) if accounted.count(p) > 1)
    skipped = {place(path) for path, _ in listing.skipped}
    followed = {path for path in on_disk(root) if path not in skipped and leads_to_a_folder_inside(root, path)}
    assert sorted(accounted) == [path for path in on_disk(root) if path not in followed]
    read, rejected = list(intake.images["path"]), list(intake.rejected["path"])
    assert not set(read) & set(rejected) and set(read) | set(rejected) <= set(rows)
    assert len(listing.rows) == len(read) + intake.duplicates + len(rejected)


@pytest.mark.parametrize("layout", TOPS)
@pytest.mark.parametrize("seed", range(12))
def test_the_books_of_random_trees_balance(tmp_path: Path, layout: str, seed: int) -> None:
    root = tmp_path / "root"
    random_tree(root, layout, random.Random(f"{layout} {seed}"))
    way = tmp_path / "way"  # as data/root is a link
    way.symlink_to("root")
    listing = read_layout(way, DataSettings(".", layout, limit=9 if seed % 4 == 0 else None))
    intake = ingest(listing.rows, ImageSource(way, 10**6), max_rejected=1.0, workers=1, closest=listing.closest)
    check_books(way, listing, intake)


def test_the_books_of_an_archive_count_what_stands_beside_its_top_folder(tmp_path: Path) -> None:
    import zipfile

    names = [
        "set/real/a.jpg",
        "set/real.zip",
        "set/.hidden/b.jpg",
        ".DS_Store",
        "__MACOSX/set/._a.jpg",
        "__MACOSX/._set",
    ]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, encoded(0, "JPEG"))
    root = unpacked(tmp_path / "x.zip")
    listing = read_layout(root, DataSettings(".", "imagefolder"))
    accounted = [*listing.rows["path"], *(path for path, _ in listing.skipped)]
    assert sorted(os.path.normpath(f"set/{path}") for path in accounted) == sorted(names)
    assert [reason for path, reason in listing.skipped if path.startswith("../")] == [
        "beside the archive's top folder"
    ] * 3
