"""Layout openfake: tables as OpenFake's: a path, label (real or fake), model, and maybe type, release_date and prompt.

`model` is the generator of a fake and the source of a real image. A table is of the split that its name or folder begins
with. Images of one prompt belong together: a real one and the fakes that were made of its caption.
"""

from __future__ import annotations

import hashlib
import re

from ffdi.errors import InputError
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.label_files import inside, read_header, read_label_file
from ffdi.intake.listing.layout_rows import SPLIT_NAMES, LayoutRows
from ffdi.intake.listing.media_rows import MediaRow, RowSource, layout_rows, some

_TABLES = ("*.csv", "*.tsv", "*.parquet")
_PATHS = ("path", "file_name", "filename", "file", "image_path", "image")
_LABELS = {"real": 0, "fake": 1}
_ATTRIBUTES = ("model", "type", "release_date")
_SPLIT = re.compile(r"(train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)


def _tables(files: RootFiles) -> dict[str, str]:
    """The tables that have the columns, with that of the paths."""
    found = {}
    for table in files.tables(*_TABLES):
        try:
            header = read_header(files.root / table) if table.count("/") < 2 else []
        except InputError:
            continue
        path = next((name for name in _PATHS if name in header), None)
        if path and {"label", "model"} <= set(header) and {"release_date", "prompt"} & set(header):
            found[table] = path
    return found


def _read(files: RootFiles) -> LayoutRows:
    rows: list[MediaRow] = []
    messages: list[str] = []
    if not (tables := _tables(files)):
        cure = "layout csv reads any other table"
        raise InputError(
            f"{files.url or files.root}: no table with a path, label, model and release_date or prompt: {cure}"
        )
    for name, column in tables.items():
        folder, _, file = name.rpartition("/")
        table = read_label_file(files.root / name, (column, "label", "model"), root=files.root / folder)
        cells = table.columns
        paths = inside(files.root, folder, table, column)
        by_name = next((found[1].lower() for part in (file, folder) if (found := _SPLIT.match(part))), "")
        splits, prompts = cells.get("split", [by_name] * len(paths)), cells.get("prompt", [""] * len(paths))
        for at, (path, value) in enumerate(zip(paths, cells["label"], strict=True)):
            if (label := _LABELS.get(value.lower())) is None or (split := splits[at].lower()) not in SPLIT_NAMES:
                raise table.error(
                    at, f"label {value!r} and split {splits[at]!r}: real or fake, and train, validation or test"
                )
            attributes = {key: cells[key][at] for key in _ATTRIBUTES if key in cells}
            groups = (f"prompt {hashlib.sha256(prompts[at].encode()).hexdigest()[:12]}",) if prompts[at] else ()
            rows.append(MediaRow(path, label, groups, split, attributes, value))
        messages += filter(None, [table.told])
    return layout_rows(rows, files, RowSource("openfake", ("label ", ""), tuple(tables), tuple(messages)))


OPENFAKE = Importer(
    lambda files, data: _read(files),
    lambda files, data: [LayoutFit(some(tables), own_table=True)] if (tables := _tables(files)) else [],
    patterns=("metadata.csv", "*_metadata.csv"),
)
