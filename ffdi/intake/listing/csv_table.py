"""Layout csv: a table inside the root, whose columns params may name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ffdi.errors import InputError
from ffdi.intake.groups import join_names, split_names
from ffdi.intake.listing.evidence import Labelled
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.label_files import LabelFile, inside, read_header, read_label_file
from ffdi.intake.listing.labels import Classes, labels_of
from ffdi.intake.listing.layout_rows import SPLIT_NAMES, Columns, LayoutRows, given_splits
from ffdi.intake.listing.spreadsheets import spoilt_cells
from ffdi.intake.settings import Columns as ColumnNames
from ffdi.intake.settings import DataSettings

# The header of an index that pandas wrote, or wrote and read again
_INDEX = re.compile(r"|Unnamed: \d+(\.\d+)*|__index_level_\d+__")
TABLES = ("*.csv", "*.tsv", "*.parquet")  # that layout auto looks into
# What tables call the columns of paths and labels, in lower case, the first that a table has
_PATHS: tuple[str, ...] = (
    "path",
    "filepath",
    "file_path",
    "image_path",
    "img_path",
    "video_path",
    "file",
    "filename",
    "file_name",
)
_PATHS += ("image", "img", "image_name", "img_name", "video", "video_name")
_LABELS = ("label", "target", "class", "is_fake", "fake")


def read_csv_table(
    root: Path, file: str, column_names: Mapping[str, str | Sequence[str]], classes: Classes, url: str = ""
) -> LayoutRows:
    """Read the table `file` inside root: columns path, label and, if there, group and split; all others become attr_*.

    `column_names` maps those roles to what the table calls them. A path may begin with `url`, that of the root.
    """
    called = {role: [names] if isinstance(names, str) else list(names) for role, names in column_names.items()}
    wanted = [called.get("path", ["path"])[0], called.get("label", ["label"])[0]]
    asked_for = [name for role in ("group", "split") for name in called.get(role, ())]
    hint = "data.columns says what the table calls path, label, group and split: `columns: {path: NAME, label: NAME}`"
    table = read_label_file(root / file, (*wanted, *asked_for), hint=hint, root=root)
    cells, (path, label) = table.columns, wanted
    if url:
        cells[path] = [cell.removeprefix(f"{url}/") for cell in cells[path]]
    roles = {role: [name for name in called.get(role, [role]) if name in cells] for role in ("group", "split")}
    columns: Columns = {
        "path": inside(root, "", table, path),
        "label": labels_of(table, label, classes),
        "group": _groups(table, roles["group"]),
        "given_split": given_splits(_split_column(table, roles["split"])),
    }
    taken = {path, label, *roles["group"], *roles["split"]}
    others = {name: column for name, column in cells.items() if name not in taken and not _INDEX.fullmatch(name)}
    paths, labels = columns["path"], columns["label"]
    evidence = {label: cells[label]} | others
    labelled = Labelled(str(table.file), paths, paths, cells[label], labels, evidence, classes.given is not None)
    return LayoutRows(
        columns | {f"attr_{k}": v for k, v in others.items()},
        labelled,
        (f"{label} ", f" of {file}"),
        (PurePosixPath(file).as_posix(),),
        messages=tuple(filter(None, (table.told, *spoilt_cells(table, roles["group"])))),
    )


def _groups(table: LabelFile, names: Sequence[str]) -> list[str]:
    """The column `group`: the names that each row has in these columns."""
    if len(names) == 1:
        return table.columns[names[0]]
    if not names:
        return [""] * len(table.lines)
    cells = zip(*(table.columns[name] for name in names), strict=True)
    return [join_names(name for cell in row for name in split_names(cell)) for row in cells]


def _split_column(table: LabelFile, names: Sequence[str]) -> list[str]:
    """The names of splits in lower case, "" without such a column; InputError for the row of an unknown name."""
    cells = table.columns[names[0]] if names else [""] * len(table.lines)
    splits = [split.lower() for split in cells]
    if unknown := set(splits).difference(SPLIT_NAMES):
        row = next(i for i, split in enumerate(splits) if split in unknown)
        raise table.error(row, f"split {cells[row]!r} is not one of train, test, val")
    return splits


def _recognise(files: RootFiles, data: DataSettings) -> list[LayoutFit]:
    """Each table beside the images that has a column of paths and one of labels; labels.csv alone if it is one.

    InputError where none has, and one is no table.
    """
    fits: list[LayoutFit] = []
    broken: InputError | None = None
    for name in files.tables(*TABLES):
        if "/" in name:
            continue
        try:
            header = {column.casefold(): column for column in read_header(files.root / name)}
        except InputError as error:
            broken = broken or error
            continue
        path, label = (next((header[n] for n in names if n in header), None) for names in (_PATHS, _LABELS))
        if path and label:
            columns = ColumnNames(path=path, label=label)
            fit = LayoutFit(f"{name}, columns {path} and {label}", settings={"table": name, "columns": columns})
            if name == "labels.csv":
                return [fit]
            fits.append(fit)
    if broken and not fits:
        raise broken
    return fits


CSV = Importer(
    lambda files, data: read_csv_table(files.root, data.table, data.columns.named(), Classes(data.classes), files.url),
    recognise=_recognise,
    names=lambda data: (data.table,),
)
