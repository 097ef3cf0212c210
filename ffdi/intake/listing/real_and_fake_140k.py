"""Layout real_and_fake_140k: "140k real and fake faces": train.csv, valid.csv and test.csv, in which label 1 is real.

Their columns are a number, original_path, id, label, label_str and path: 0,.../Flickr/31355.jpg,31355,1,real,train/real/31355.jpg.
The images are in real_vs_fake/real-vs-fake/. Each fake is of a face that StyleGAN made up: no two images belong together.
"""

from __future__ import annotations

from collections.abc import Collection

from ffdi.errors import InputError
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.label_files import inside, read_header, read_label_file
from ffdi.intake.listing.layout_rows import LayoutRows
from ffdi.intake.listing.media_rows import MediaRow, RowSource, layout_rows

_TABLES = {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}
_COLUMNS = ("path", "label", "label_str", "original_path")
_MEANING = {("1", "real"): 0, ("0", "fake"): 1}


def _tables(files: RootFiles) -> list[str]:
    return [table for table in files.tables(*_TABLES) if set(_COLUMNS) <= set(read_header(files.root / table))]


def _read(files: RootFiles) -> LayoutRows:
    rows: list[MediaRow] = []
    messages: list[str] = []
    for name in (tables := _tables(files)):
        table = read_label_file(files.root / name, _COLUMNS)
        paths = inside(files.root, _folder_above(files, set(table.columns["path"])), table, "path")
        labels = zip(table.columns["label"], table.columns["label_str"], strict=True)
        for at, (path, (label, word)) in enumerate(zip(paths, labels, strict=True)):
            if (meant := _MEANING.get((label.removesuffix(".0"), word.lower()))) is None:
                raise table.error(
                    at, f"label {label!r} and label_str {word!r}: this data set has 1 for real and 0 for fake"
                )
            attributes = {"method": "StyleGAN" if meant else "", "original_path": table.columns["original_path"][at]}
            rows.append(MediaRow(path, meant, (), _TABLES[name.rpartition("/")[2]], attributes, label))
        messages += filter(None, [table.told])
    if not rows:
        raise InputError(
            f"{files.url or files.root}: no {', '.join(_TABLES)} with {', '.join(_COLUMNS)}: take another layout"
        )
    return layout_rows(rows, files, RowSource("real_and_fake_140k", ("label ", ""), tuple(tables), tuple(messages)))


def _folder_above(files: RootFiles, paths: Collection[str]) -> str:
    """What stands before listed paths below the root: real_vs_fake/real-vs-fake/ where the archive is unpacked as it is."""
    for file in files.media:
        parts = file.split("/")
        for cut in range(len(parts)):
            if "/".join(parts[cut:]) in paths:
                return "/".join([*parts[:cut], ""])
    return ""


def _recognise(files: RootFiles) -> list[LayoutFit]:
    tables = _tables(files)
    return [LayoutFit(", ".join(tables), own_table=True)] * bool(tables)


REAL_AND_FAKE_140K = Importer(
    lambda files, data: _read(files), lambda files, data: _recognise(files), patterns=tuple(_TABLES)
)
