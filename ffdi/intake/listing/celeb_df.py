"""Layout celeb_df: Celeb-DF, both versions. In its list of test videos 1 is real.

Celeb-real/id0_0000.mp4, YouTube-real/00000.mp4, and Celeb-synthesis/id0_id1_0000.mp4, a video of id0 with the face of id1;
or frames and crops of these, in folders that are named after the videos.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ffdi.errors import InputError
from ffdi.intake.listing.importer import Importer, RootFiles
from ffdi.intake.listing.layout_rows import LayoutRows
from ffdi.intake.listing.media_rows import (
    MediaRow,
    RowSource,
    clip_in,
    fit_of,
    layout_rows,
    no_example,
    not_there,
    one_table,
    some,
)

_LIST = "List_of_testing_videos.txt"
# The folders, in lower case -> label, and how the videos in them are named
_FOLDERS = {
    "celeb-real": (0, re.compile(r"(id\d+)_\d+(?![^\W_])")),
    "youtube-real": (0, re.compile(r"(\d{5})(?![^\W_])")),
    "celeb-synthesis": (1, re.compile(r"(id\d+)_(id\d+)_\d+(?![^\W_])")),
}


def _read(files: RootFiles) -> LayoutRows:
    if (table := one_table(files, _LIST)) is None:
        rows = [row for path in files.media if (row := _row(path, None))]
        return layout_rows(rows, files, RowSource("celeb_df", messages=(f"no {_LIST}: no given split",)))
    tested = _tested(files.root / table)
    rows = [row for path in files.media if (row := _row(path, tested))]
    messages = not_there(_LIST, tested, (_video(row.path)[0] for row in rows))
    train, test = (
        {one for row in rows if row.given_split == split for one in row.groups} for split in ("train", "test")
    )
    if both := train & test:
        cure = "split.use_given: false with split.two_sources: drop draws a test set of other people"
        messages.append(f"{_LIST}: {len(both)} people are in its videos and in others, such as {some(both)}: {cure}")
    return layout_rows(rows, files, RowSource("celeb_df", tables=(table,), messages=tuple(messages)))


def _tested(table: Path) -> set[str]:
    """The videos of the list. InputError for a line whose label is not that of its folder."""
    tested = set()
    for number, line in enumerate(table.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        label, _, path = line.strip().replace("\t", " ").partition(" ")
        row = _row(path.strip(), None)
        if row and label == str(1 - row.label):
            tested.add(_video(row.path)[0])
        elif line.strip():
            raise InputError(f"{table}: row {number}: {line!r} is not as 1 YouTube-real/00170.mp4, where 1 is real")
    if not tested:
        raise InputError(f"{table}: no rows: take the official list, or none")
    return tested


def _video(path: str) -> tuple[str, str, re.Match[str] | None]:
    """("youtube-real/00170", its folder as it is spelt, the match of its name); "" and None for a file of no such video."""
    parts = path.split("/")
    for at, folder in enumerate(parts[:-1]):
        if known := _FOLDERS.get(folder.lower()):
            found = clip_in(parts[at + 1 :], known[1])
            return f"{folder.lower()}/{found.group()}" if found else "", folder, found
    return "", "", None


def _row(path: str, tested: Collection[str] | None) -> MediaRow | None:
    video, folder, found = _video(path)
    if found is None:
        return None
    label = _FOLDERS[folder.lower()][0]
    split = "" if tested is None else "test" if video in tested else "train"
    attributes = {"method": folder if label else "", "source_set": "youtube" if "youtube" in video else "celeb"}
    return MediaRow(path, label, found.groups(), split, attributes, folder)


CELEB_DF = Importer(
    read=lambda files, data: _read(files),
    recognise=lambda files, data: fit_of((_row(path, None) for path in files.some()), files.tables(_LIST)),
    patterns=(_LIST,),
    excluded=no_example,
)
