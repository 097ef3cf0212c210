"""A data set's own layout -> one table of (path, label, group, given_split, attr_*), a row per listed image.

`path` is POSIX and relative to the root; `label` 0 or 1; `group` "" where nothing is known; `given_split` train, test
or "". No image is opened here.

A split named val, valid or validation is the test set where no split is named test; beside one it belongs to train,
for ffdi draws its own validation folds.
"""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from ffdi.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
SPLIT_NAMES = {"": "", "train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")

# What the class folders of public data sets are called.
_REAL = "real reals original originals authentic genuine pristine bonafide live 0_real training_real original_sequences"
_FAKE = (
    "fake fakes forged forgery manipulated tampered altered edited synthetic generated deepfake deepfakes spoof 1_fake "
    "training_fake manipulated_sequences face2face faceswap faceshifter neuraltextures deepfakedetection"
)
CLASSES: dict[str, int] = {"real": 0, "fake": 1} | dict.fromkeys(_REAL.split(), 0) | dict.fromkeys(_FAKE.split(), 1)

_Columns = dict[str, list[Any]]


def read_layout(
    root: Path, *, layout: str, table: str, classes: Mapping[str, int], group: str | None, limit: int | None
) -> tuple[pd.DataFrame, int]:
    """(rows, number of image files on disk that the layout does not list).

    `classes`: layout imagefolder's folder names -> label, in any case. `group`: a regular expression with
    (?P<group>...) searched in the path, for rows that have no group of their own. `limit`: the first rows of each
    given split. Raises InputError naming file, row and rule.
    """
    if not root.is_dir():
        raise InputError(f"{root}: data.root is no folder")
    if layout == "imagefolder":
        columns = _imagefolder(root, classes)
    elif layout == "csv":
        columns = _csv(root, table)
    else:
        columns = _multi_ffdi(root)
    paths = columns["path"]
    if not paths:
        raise InputError(f"{root}: layout {layout} lists no image")
    known = None if layout == "imagefolder" else set(paths)  # an imagefolder lists whatever is on disk
    unlisted = sum(path not in known for path in image_files(root)) if known is not None else 0
    if group is not None:
        columns["group"] = [g or _match(group, p) for g, p in zip(columns["group"], paths, strict=True)]
    listed = pd.DataFrame(columns)
    if limit is not None:
        listed = listed.groupby("given_split", sort=False).head(limit).reset_index(drop=True)
    return listed, unlisted


def image_files(root: Path) -> Iterable[str]:
    """POSIX paths, relative to root, of all files with an image's suffix; hidden ones are passed over.

    Folder by folder, names sorted; symlinks to folders are not entered. Raises InputError for a folder that cannot be
    read.
    """
    waiting = [("", True)]  # (path, whether it is a folder), the next one last
    while waiting:
        path, is_folder = waiting.pop()
        if path.lower().endswith(SUFFIXES):
            yield path
        if is_folder:
            try:
                with os.scandir(root / path) as entries:
                    shown = [e for e in entries if not e.name.startswith(".")]
            except OSError as error:
                raise InputError(f"{root / path}: {error.strerror}") from error
            prefix = f"{path}/" if path else ""
            waiting += sorted(((prefix + e.name, e.is_dir(follow_symlinks=False)) for e in shown), reverse=True)


def _match(pattern: str, path: str) -> str:
    found = re.search(pattern, path)
    return (found["group"] or "") if found else ""


def _given_splits(names: Sequence[str]) -> list[str]:
    """Names of splits, all of them known -> train, test or "" ."""
    named = {name: SPLIT_NAMES[name] for name in set(names)}
    val = "train" if "test" in named.values() else "test"
    return [val if (split := named[name]) == "val" else split for name in names]


def _imagefolder(root: Path, classes: Mapping[str, int]) -> _Columns:
    """root/CLASS/**/image or root/SPLIT/CLASS/**/image: the folders' names give label and split, in any case."""
    labels = {name.casefold(): label for name, label in classes.items()}
    if clashing := [name for name, label in classes.items() if labels[name.casefold()] != label]:
        raise InputError(f"data.classes: {clashing[0]!r} stands there with both labels: case does not matter")
    columns: _Columns = {"path": [], "label": []}
    splits: list[str] = []
    for path in image_files(root):
        if not path.isascii() and path != path.encode(errors="replace").decode():
            raise InputError(f"{root}: file name {path!r} is not UTF-8: rename it")
        folders = path.split("/")[:-1]
        first = folders[0].casefold() if folders else ""
        split = first if first in SPLIT_NAMES and first not in labels else ""
        inner = folders[1:] if split else folders
        if not inner or (name := inner[0].casefold()) not in labels:
            where = (
                f"folder {'/'.join(folders[: bool(split) + 1])!r}" if inner else f"{path!r} outside any class folder"
            )
            known = "real, fake and their usual synonyms" if classes == CLASSES else ", ".join(classes)
            raise InputError(f"{root}: {where}: not in data.classes ({known})")
        columns["path"].append(path)
        columns["label"].append(labels[name])
        splits.append(split)
    if "" in splits and any(splits):
        inside, outside = (
            next(p for p, s in zip(columns["path"], splits) if bool(s) is want) for want in (True, False)
        )
        both = f"{inside!r} is in the folder of a split, {outside!r} is in none"
        raise InputError(f"{root}: {both}: put all images into such folders, or none")
    return columns | {"group": [""] * len(splits), "given_split": _given_splits(splits)}


@dataclass(frozen=True)
class _Table:
    """A label file: its columns, stripped of spaces, and the line at which each row begins."""

    file: Path
    columns: dict[str, list[str]]
    lines: array[int]

    def error(self, row: int, problem: str) -> InputError:
        return InputError(f"{self.file}: row {self.lines[row]}: {problem}")


def _csv(root: Path, name: str) -> _Columns:
    """A table inside root with columns path, label and, if there, group and split; all others become attr_*."""
    table = _read_table(root / name, ("path", "label"))
    own = table.columns
    empty = [""] * len(table.lines)
    splits = [split.lower() for split in own.get("split", empty)]
    if unknown := set(splits).difference(SPLIT_NAMES):
        row = next(i for i, split in enumerate(splits) if split in unknown)
        raise table.error(row, f"split {own['split'][row]!r} is not one of train, test, val")
    columns: _Columns = {
        "path": _inside(root, "", table, "path"),
        "label": _labels(table, "label"),
        "group": own.get("group", empty),
        "given_split": _given_splits(splits),
    }
    return columns | {f"attr_{k}": v for k, v in own.items() if k not in ("path", "label", "group", "split")}


def _multi_ffdi(root: Path) -> _Columns:
    """trainset/ and valset/ with trainset_label.txt and valset_label.txt (img_name,target; 1 = fake).

    They are in root or in its folder phase1.
    """
    top = "" if (root / "trainset_label.txt").exists() or not (root / "phase1").is_dir() else "phase1/"
    columns: _Columns = {"path": [], "label": [], "group": [], "given_split": []}
    for name, split in (("trainset", "train"), ("valset", "test")):
        table = _read_table(root / f"{top}{name}_label.txt", ("img_name", "target"))
        columns["path"] += _inside(root, f"{top}{name}/", table, "img_name")
        columns["label"] += _labels(table, "target")
        columns["group"] += [""] * len(table.lines)
        columns["given_split"] += [split] * len(table.lines)
    return columns


def read_list(file: Path, root: Path) -> list[tuple[str, Path]]:
    """(name as listed, the file below root that it means) of every row, in order, whether or not the file exists.

    `file` is a table with a column img_name, all others ignored, or a list of file names without a header: its first
    line is the name of an image. Raises InputError naming file, row and rule, above all for a path out of root.
    """
    if not root.is_dir():
        raise InputError(f"{root}: is no folder")
    table = _read_table(file, ("img_name",), headless=True)
    paths = _inside(root, "", table, "img_name")
    return [(name, root / path) for name, path in zip(table.columns["img_name"], paths, strict=True)]


def _read_table(file: Path, required: tuple[str, ...], *, headless: bool = False) -> _Table:
    """Read a label file; a BOM, CRLF and empty lines are read away. Raises InputError naming file, row and rule.

    Where it may be `headless`, a first line of one field with an image's suffix is a row of the one required column.
    """
    lines = array("Q")
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            line = 1
            try:
                header = [name.strip() for name in next(reader, [])]
                rows: list[str] = []
                if headless and len(header) == 1 and header[0].lower().endswith(SUFFIXES):
                    header, rows = list(required), header
                    lines.append(line)
                if missing := [name for name in required if name not in header]:
                    raise InputError(f"{file}: no column {missing[0]!r}; the header is {','.join(header)!r}")
                if len(set(header)) < len(header):
                    raise InputError(f"{file}: a column stands twice in the header {','.join(header)!r}")
                columns = [list(rows) for _ in header]
                line = reader.line_num + 1
                for fields in reader:
                    if any(map(str.strip, fields)):
                        if len(fields) != len(header):
                            first = "first row" if rows else "header"
                            raise InputError(f"{file}: row {line}: {len(fields)} fields, the {first} has {len(header)}")
                        for column, field in zip(columns, fields):
                            column.append(field.strip())
                        lines.append(line)
                    line = reader.line_num + 1
            except csv.Error as error:
                raise InputError(f"{file}: row {line}: {error}") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(f"{file}: row {_line_that_is_not_utf8(file)}: not UTF-8") from None
    if not lines:
        raise InputError(f"{file}: no rows")
    return _Table(file, dict(zip(header, columns, strict=True)), lines)


def _line_that_is_not_utf8(file: Path) -> int:
    data = file.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return len((data[: error.start] + b"x").splitlines())
    raise AssertionError(f"{file} changed while it was read")


def _labels(table: _Table, name: str) -> list[int]:
    column = table.columns[name]
    if wrong := set(column).difference(("0", "1")):
        row = next(i for i, value in enumerate(column) if value in wrong)
        raise table.error(row, f"label {column[row]!r} is neither 0 (real) nor 1 (fake)")
    return [int(value) for value in column]


def _inside(root: Path, folder: str, table: _Table, name: str) -> list[str]:
    """The column's paths with `folder` before each; InputError for the row of one that leads out of root.

    Symlinks are followed. Each folder is resolved once, and a file only where it is a symlink itself: resolving
    takes longer than all the rest.
    """
    top = root.resolve()

    def plain(path: str) -> str | None:
        """folder/path without doubled slashes and dots; None where it leads out of root."""
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not (root / folder / pure).resolve().is_relative_to(top):
            return None
        return (folder / pure).as_posix()

    folders: dict[str, str | None] = {}  # what stands before a file's name -> the same in plain form
    inside: list[str] = []
    for row, path in enumerate(table.columns[name]):
        file = path.rpartition("/")[2]
        before = path[: len(path) - len(file)]
        try:
            if "\0" in path:
                raise ValueError("embedded null byte")
            if before not in folders:
                found = plain(before)
                folders[before] = found and (f"{found}/" if found != "." else "")
            whole = folders[before]
            if whole is not None:
                whole += file
                if file in ("", ".", "..") or os.path.islink(f"{root}/{whole}"):  # noqa: PTH114 - a Path takes 5 x longer
                    whole = plain(path) if PurePosixPath(path).parts else None
        except (OSError, RuntimeError, ValueError) as error:  # a loop of symlinks, a NUL
            raise table.error(row, f"path {path!r} is no path: {error}") from None
        if whole is None:
            raise table.error(row, f"path {path!r} leads out of {root}")
        inside.append(whole)
    return inside
