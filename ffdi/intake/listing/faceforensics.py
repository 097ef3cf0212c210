"""Layout faceforensics: FaceForensics++, and the DeepFakeDetection videos that it distributes.

original_sequences/{youtube,actors}/c23/videos/000.mp4, manipulated_sequences/METHOD/c23/videos/000_003.mp4, or frames and
crops of these, as .../c23/frames/000_003/0001.png; also as some pass it on, original/000.mp4 and METHOD/000_003.mp4.
000_003 shows person 000 with the face or mimicry of 003.
"""

from __future__ import annotations

import re
from pathlib import Path

from ffdi.errors import InputError
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.layout_rows import LayoutRows
from ffdi.intake.listing.media_rows import (
    MediaRow,
    RowSource,
    clip_in,
    fit_of,
    layout_rows,
    no_example,
    one_table,
    read_json,
)

_TOPS = {"original_sequences": 0, "manipulated_sequences": 1}
_METHODS = ("Deepfakes", "Face2Face", "FaceShifter", "FaceSwap", "NeuralTextures", "DeepFakeDetection")
# By label, how videos are named: after people of YouTube, 000 to 999, or after actors, 01 to 28
_CLIPS = re.compile(r"(\d{3})(?![^\W_])|(\d\d)__"), re.compile(r"(\d{3})_(\d{3})(?![^\W_])|(\d\d)_(\d\d)__")
_SPLITS = ("train", "val", "test")
_TABLES = tuple(f"{split}.json" for split in _SPLITS)


def _read(files: RootFiles) -> LayoutRows:
    tables = [one_table(files, name) for name in _TABLES]
    there = tuple(filter(None, tables))
    if there and None in tables:
        raise InputError(
            f"{files.root / there[0]}: {_TABLES[tables.index(None)]} is not there: the split is three files"
        )
    split_of: dict[str, str] = {}
    for split, name in zip(_SPLITS, there):
        for one in _people(files.root / name):
            if (other := split_of.setdefault(one, split)) != split:
                raise InputError(f"{files.root / name}: {one} is in {other}.json as well: take the official files")
    rows = [row for path in files.media if (row := _row(path, split_of))]
    messages = () if there else (f"no {', '.join(_TABLES)}: no given split",)
    return layout_rows(rows, files, RowSource("faceforensics", tables=there, messages=messages))


def _people(table: Path) -> list[str]:
    try:
        return [f"{int(person):03}" for pair in read_json(table) for person in pair]
    except (ValueError, TypeError):
        raise InputError(f'{table}: no list of pairs such as ["953", "974"]: take the official file') from None


def _row(path: str, split_of: dict[str, str]) -> MediaRow | None:
    parts = path.split("/")
    top = next((at for at, part in enumerate(parts[:-2]) if part in _TOPS), None)
    flat = next((at for at, part in enumerate(parts[:-1]) if part in ("original", *_METHODS)), None)
    start = flat if top is None else top + 1
    if start is None:
        return None
    value, source = parts[start if top is None else top], parts[start]
    label = int(source in _METHODS) if top is None else _TOPS[value]
    if (clip := clip_in(parts[start + 1 :], _CLIPS[label])) is None:
        return None
    people = tuple(filter(None, clip.groups()))
    splits = {split_of.get(person, "") for person in people}
    attributes = {
        "method": source if label else "",
        "source_set": "youtube" if len(people[0]) == 3 else "actors",
        "compression": next((part for part in parts[start + 1 : -1] if part in ("raw", "c0", "c23", "c40")), ""),
    }
    return MediaRow(path, label, people, splits.pop() if len(splits) == 1 else "", attributes, value)


def _recognise(files: RootFiles) -> list[LayoutFit]:
    rows = [row for path in files.some() if (row := _row(path, {}))]  # a folder `original` alone may be of anything
    return fit_of(rows, files.tables(*_TABLES)) if any(row.label for row in rows) else []


FACEFORENSICS = Importer(
    read=lambda files, data: _read(files),
    recognise=lambda files, data: _recognise(files),
    patterns=_TABLES,
    excluded=no_example,
)
