"""Layout dfdc: the Deepfake Detection Challenge, whole, in parts, or its preview; videos, or frames in folders of their names.

A part of the training set has metadata.json: {"x.mp4": {"label": "FAKE", "split": "train", "original": "y.mp4"}}; the
test set has one with `is_fake`, the validation set labels.csv with filename and label, the preview dataset.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffdi.errors import InputError
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.label_files import read_label_file
from ffdi.intake.listing.layout_rows import SPLIT_NAMES, LayoutRows
from ffdi.intake.listing.media_rows import MediaRow, RowSource, layout_rows, no_example, not_there, read_json, some

_TABLES = ("metadata.json", "dataset.json", "labels.csv")
_LABELS = {"REAL": 0, "FAKE": 1, "0": 0, "1": 1}
_Videos = Mapping[str, MediaRow]  # by path below the folder of the table, without suffix


def _read(files: RootFiles) -> LayoutRows:
    tables = files.tables(*_TABLES)
    if not tables:
        raise InputError(f"{files.url or files.root}: no {', '.join(_TABLES)}, where layout dfdc finds labels")
    known = {table: _videos(files.root / table, Path(table).parent.name) for table in tables}
    found = {path: video for path in files.media if (video := _video(path, known))}
    rows = [replace(known[table][name], path=path) for path, (table, name) in found.items()]
    if len({row.given_split for row in rows}) == 1:  # a part of the set, not a split of it
        rows = [replace(row, given_split="") for row in rows]
    messages: list[str] = []
    for table, videos in known.items():
        messages += not_there(table, videos, (name for at, name in found.values() if at == table))
    return layout_rows(rows, files, RowSource("dfdc", ("label ", ""), tuple(tables), tuple(messages)))


def _videos(table: Path, part: str) -> _Videos:
    if table.suffix == ".csv":
        columns = read_label_file(table, ("filename", "label")).columns
        named: Any = {n: {"label": label, "set": "val"} for n, label in zip(columns["filename"], columns["label"])}
    else:
        named = read_json(table)
    videos, name, entry = {}, "its content", named
    try:
        for name, entry in named.items():
            videos[_stem(name)] = _row(name, entry, part)
    except (AttributeError, KeyError, TypeError):
        wanted = "neither 0 (real) nor 1 (fake)" if table.suffix == ".csv" else 'not as {"x.mp4": {"label": "FAKE"}}'
        raise InputError(f"{table}: {name!r}: {str(entry)[:80]!r} is {wanted}") from None
    return videos


def _row(name: str, entry: Mapping[str, Any], part: str) -> MediaRow:
    value = str(entry["label"] if "label" in entry else entry["is_fake"])
    people = [str(entry[key]) for key in ("target_id", "swapped_id") if entry.get(key)]
    groups = (_stem(entry.get("original") or name),) if "split" in entry else tuple(people)
    split = SPLIT_NAMES[entry.get("set") or entry.get("split") or "test"]
    method = name.partition("/")[0] if name.startswith("method_") else ""
    return MediaRow(name, _LABELS[value.upper()], groups, split, {"method": method, "part": part}, value)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _video(path: str, known: Mapping[str, _Videos]) -> tuple[str, str] | None:
    """(the table in a folder above that knows the video of a file, the name there): that of the file or of a folder."""
    for table, videos in known.items():
        folder = table.rpartition("/")[0]
        if not path.startswith(f"{folder}/" if folder else ""):
            continue
        parts = _stem(path)[len(folder) :].strip("/").split("/")
        for start in range(len(parts)):
            for end in range(len(parts), start, -1):
                if (name := "/".join(parts[start:end])) in videos:
                    return table, name
    return None


def _recognise(files: RootFiles) -> list[LayoutFit]:
    tables = files.tables(*_TABLES[:2])  # any table may be called labels.csv
    return [LayoutFit(some(tables), own_table=True)] * bool(tables and _read(files).columns["path"])


DFDC = Importer(
    read=lambda files, data: _read(files),
    recognise=lambda files, data: _recognise(files),
    patterns=_TABLES,
    excluded=no_example,
)
