"""Contents of folders that people have, and how each is treated: data of tests, and two tables of docs/data.md.

`python tests/odd_trees.py` rewrites the tables.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from odd_bytes import encoded, jpeg
from odd_files import DOCS
from PIL import Image

BEGIN, NAMES, END = (
    "<!-- from tests/odd_trees.py -->",
    "<!-- names from tests/odd_trees.py -->",
    "<!-- end of trees -->",
)


@dataclass(frozen=True)
class Tree:
    """A kind of thing on disk: `given` and `becomes` are its row.

    `plant` adds it to real/a.jpg and fake/b.jpg, which are always read. `read` and `rejected` are paths of what it
    planted, `skipped` are (path, reason). With `listed`, lines of a label file, the layout is csv.
    """

    given: str
    becomes: str
    plant: Callable[[Path], None]
    read: Sequence[str] = ()
    rejected: Sequence[str] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    listed: Callable[[Path], Sequence[str]] | None = None


def files(*paths: str) -> Callable[[Path], None]:
    """Pictures at these paths, no two alike, whatever their suffix."""

    def plant(root: Path) -> None:
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.random.default_rng(list(path.encode())).integers(0, 255, (8, 8, 3), np.uint8))
            (root / path).write_bytes(jpeg(picture))

    return plant


def link(path: str, target: str, *paths: str) -> Callable[[Path], None]:
    """A link at `path`, and pictures at `paths`."""

    def plant(root: Path) -> None:
        files(*paths)(root)
        (root / path).symlink_to(target)

    return plant


def odd_things(root: Path) -> None:
    files("fake/more.zip")(root)
    os.mkfifo(root / "fake" / "pipe.jpg")
    (root / "fake" / "none").mkdir()


def mask(root: Path) -> None:
    halves = Image.fromarray(np.repeat(np.uint8([0, 255]), 128).reshape(16, 16))
    (root / "fake" / "m.png").write_bytes(encoded("PNG", halves))


HIDDEN = ("fake/.c.jpg", ".git/d.jpg", "fake/.dropbox.c.jpg")
SYSTEM = (
    *("fake/Thumbs.db", "__MACOSX/fake/b.jpg", "fake/._b.jpg", "real/~$a.jpg", "real/a.jpg:Zone.Identifier"),
    *("fake/@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/c.jpg", "$RECYCLE.BIN/d.jpg", ".dropbox.cache/e.jpg"),
)
SIDES = (
    *("fake/b.xmp", "real/a.AAE", "real/a.thm", "real/a.jpg.json", "real/a.jpg.supplemental-metadata.json"),
    *("real/a.jpg.supplemental-met.json", "real/a.jpg(1).json", "real/a.jpg.supplemental-metadata(2).json"),
)
TREES = [
    Tree(
        "a file with an image's suffix, in any case: `.jpg .jpeg .jpe .jfif .pjpeg .pjp .mpo .png .apng .webp .bmp "
        ".gif .tif .tiff .ppm .pgm .jp2 .j2k .avif .heic .heif .hif .jxl`",
        "an image: read, or rejected with a reason",
        files("fake/c.JPG", "fake/d.jfif", "fake/e.mpo"),
        read=("fake/c.JPG", "fake/d.jfif", "fake/e.mpo"),
    ),
    Tree(
        "another suffix, such as `.jpg_large` or `.jpg?w=800`, or none",
        "passed over; the log names the three most common",
        files("fake/c.jpg_large", "fake/d.jpg?w=800", "fake/e"),
        skipped={
            "fake/c.jpg_large": "suffix .jpg_large",
            "fake/d.jpg?w=800": "suffix .jpg?w=800",
            "fake/e": "no suffix",
        },
    ),
    Tree(
        "hidden files and folders; `.DS_Store`, `Thumbs.db`, `desktop.ini`, `._*`, `~$*`, `*:Zone.Identifier`, `__MACOSX`, "
        "`@eaDir`, `#recycle`, `$RECYCLE.BIN` and their like, of Macs, Windows, network disks and clouds",
        "passed over, file by file",
        files(*HIDDEN, *SYSTEM),
        skipped=dict.fromkeys(HIDDEN, "hidden") | dict.fromkeys(SYSTEM, "system file"),
    ),
    Tree(
        "a stand-in for a photo that is in iCloud alone (`.c.HEIC.icloud`); an unfinished download (`.part`, "
        "`.crdownload`, `.tmp`, ...)",
        "passed over by that name: `2 unfinished downloads`",
        files("fake/.c.HEIC.icloud", "fake/d.jpg.crdownload", "fake/e.jpg.PART", "real/f.tmp"),
        skipped={
            "fake/.c.HEIC.icloud": "not downloaded from the cloud",
            "fake/d.jpg.crdownload": "unfinished download",
            "fake/e.jpg.PART": "unfinished download",
            "real/f.tmp": "unfinished download",
        },
    ),
    Tree(
        "side files of photos: `.xmp`, `.aae`, `.thm` and their like; the `.json` that Google Takeout puts beside each",
        "passed over as such",
        files(*SIDES),
        skipped=dict.fromkeys(SIDES, "side file of a photo"),
    ),
    Tree(
        "camera raw: `.dng .cr2 .cr3 .nef .arw .raf .orf .rw2` and others",
        "passed over as such: export them",
        files("fake/c.DNG", "real/d.cr3"),
        skipped=dict.fromkeys(("fake/c.DNG", "real/d.cr3"), "camera raw"),
    ),
    Tree(
        "a video",
        "passed over in section `data`; listed like an image in section `faces`, which takes its frames",
        files("fake/clip.mp4"),
        skipped={"fake/clip.mp4": "video: stage faces takes its frames"},
    ),
    Tree(
        "an archive inside (each is named); anything that is not a regular file; an empty folder",
        "passed over",
        odd_things,
        skipped={
            "fake/more.zip": "archive",
            "fake/pipe.jpg": "no regular file",
            "fake/none/": "empty folder",
        },
    ),
    Tree(
        "folders of masks, landmarks, keypoints, heat maps, segmentations and thumbnails (not in layouts `csv` and `multi_ffdi`)",
        "passed over: `12 images in folders called masks`. For `imagefolder`, `data.exclude` has other patterns of folder "
        "names; `[]` takes all",
        files("fake/masks/c.png", "fake/0/Landmarks/d.jpg"),
        skipped={
            "fake/masks/c.png": "in a folder called masks",
            "fake/0/Landmarks/d.jpg": "in a folder called Landmarks",
        },
    ),
    Tree("a picture with only two grey levels", "rejected: a mask", mask, rejected=("fake/m.png",)),
    Tree(
        "a link to a file inside the root", "read", link("fake/c.jpg", "../.d/c.jpg", ".d/c.jpg"), read=("fake/c.jpg",)
    ),
    Tree(
        "a link to a folder inside the root",
        "followed if the folder is not read otherwise, for example because it is inside a hidden folder; otherwise "
        "passed over as a twin or a loop",
        link("fake/more", "../.d", ".d/c.jpg"),
        read=("fake/more/c.jpg",),
    ),
    Tree(
        "a link that leads out of the root, or to nothing",
        "passed over; a label file that names one is an error",
        link("fake/c.jpg", "/etc/hostname"),
        skipped={"fake/c.jpg": "link that leads out"},
    ),
    Tree(
        "an image that the label file does not list",
        "passed over and counted; the label file is in the list too",
        files("fake/c.jpg"),
        skipped={"fake/c.jpg": "not listed in labels.csv", "labels.csv": "table of labels"},
        listed=lambda root: (),
    ),
]

NFC, NFD = (unicodedata.normalize(form, "fake/josé.jpg") for form in ("NFC", "NFD"))
SPELLINGS = [
    Tree("Unicode in another normal form, as a Mac's", "read", files(NFD), read=(NFD,), listed=lambda root: (NFC,)),
    Tree("backslashes", "read", files("fake/0/c.jpg"), read=("fake/0/c.jpg",), listed=lambda root: (r"fake\0\c.jpg",)),
    Tree(
        "`./`, doubled slashes",
        "read",
        files("fake/c.jpg"),
        read=("fake/c.jpg",),
        listed=lambda root: ("./fake//c.jpg",),
    ),
    Tree(
        "an absolute path below the root",
        "read",
        files("fake/c.jpg"),
        read=("fake/c.jpg",),
        listed=lambda root: (f"{root}/fake/c.jpg",),
    ),
    Tree(
        "other case, of the suffix or of the whole name",
        "read, unless the file is another row's",
        files("fake/c.JPG"),
        read=("fake/c.JPG",),
        listed=lambda root: ("fake/c.jpg",),
    ),
    Tree(
        "no suffix, or another image's (another video's, of a video)",
        "read, unless the file is another row's",
        files("fake/c.jpg", "fake/d.jpg"),
        read=("fake/c.jpg", "fake/d.jpg"),
        listed=lambda root: ("fake/c", "fake/d.png"),
    ),
    Tree(
        "a name that fits two files, or none",
        "rejected, with the closest name on disk",
        files("fake/c.jpg", "fake/c.png"),
        rejected=("fake/c", "fake/cc.jpg"),
        skipped={"fake/c.jpg": "not listed in labels.csv", "fake/c.png": "not listed in labels.csv"},
        listed=lambda root: ("fake/c", "fake/cc.jpg"),
    ),
]


def in_docs(text: str) -> str:
    """docs/data.md with the tables between their marks."""
    for begin, heads, trees in (
        (BEGIN, "| on disk | becomes |", TREES),
        (NAMES, "| the listed name has | becomes |", SPELLINGS),
    ):
        before, rest = text.split(f"{begin}\n")
        rows = [f"| {tree.given} | {tree.becomes} |" for tree in trees]
        text = "\n".join((f"{before}{begin}", heads, "| --- | --- |", *rows, END)) + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    DOCS.write_text(in_docs(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{DOCS}: {len(TREES) + len(SPELLINGS)} rows\n")
