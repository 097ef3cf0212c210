"""Label files: tables that name images below a root. A row whose meaning is not certain is refused."""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TextIO
from unicodedata import normalize

from ffdi.errors import InputError
from ffdi.intake.decoding.formats import MEDIA_SUFFIXES
from ffdi.intake.listing.dialects import AS_CSV, CODE_PAGES, Dialect, find_dialect, header_names
from ffdi.intake.listing.parquet_labels import parquet_header, read_parquet_labels
from ffdi.intake.table_files.names import is_parquet


@dataclass(frozen=True)
class LabelFile:
    """A label file: its columns, stripped of spaces, and the line at which each row begins.

    `told` is a line about how it was read, where it is no plain csv.
    """

    file: Path
    columns: dict[str, list[str]]
    lines: array[int]
    told: str = ""

    def error(self, row: int, problem: str) -> InputError:
        return InputError(f"{self.file}: row {self.lines[row]}: {problem}")


def read_list(
    file: Path, root: Path, say: Callable[[str], None] = lambda line: None
) -> tuple[list[tuple[str, Path]], tuple[str, list[int]] | None]:
    """(listed names, true labels) of a list of images to score.

    The names are (name as listed, the file below root that it means) of every row, in order, whether or not the file
    exists. The labels are (column, label of every row) where the list has both 0 and 1 in a column target or label, and
    None otherwise. `file` is a table with a column img_name, whose other columns are ignored, or a list of file names
    without a header. A list may be of videos. `say` is told what is unlike a plain csv. Raises InputError naming file, row and rule, in particular
    for a path that leads out of root.
    """
    if not root.is_dir():
        raise InputError(f"{root}: is no folder: name the one that the list is of")
    table = read_label_file(file, ("img_name",), headless=True, root=root)
    if table.told:
        say(table.told)
    paths = inside(root, "", table, "img_name")
    listed = [(name, root / path) for name, path in zip(table.columns["img_name"], paths, strict=True)]
    known = next((name for name in ("target", "label") if set(table.columns.get(name, ())) == {"0", "1"}), None)
    return listed, None if known is None else (known, [int(label) for label in table.columns[known]])


def read_header(file: Path) -> list[str]:
    """The names of a table's columns; no row is read. Raises InputError for a file that is no table."""
    try:
        if is_parquet(file):
            return parquet_header(file)
        dialect = find_dialect(file, ())
        with open(file, encoding=dialect.encoding, newline="", errors="replace") as text:
            _, first = next(_rows(file, text, dialect), (1, []))
            return header_names(first, ())
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error


def read_label_file(
    file: Path, required: tuple[str, ...], *, headless: bool = False, hint: str = "", root: Path | None = None
) -> LabelFile:
    """Read a label file, csv or Parquet, as spreadsheets write it too; empty lines and columns are left out.

    Raises InputError naming file, row and rule. The error for a missing column ends with `hint`. Where the file may be
    `headless`, a first line of one field with the suffix of an image is a row of the one required column. Text that is
    not UTF-8 is read where the first required column is of paths below `root` and one encoding finds all of them.
    """
    try:
        if is_parquet(file):
            return _read_parquet(file, required, hint)
        dialect = find_dialect(file, required)
        try:
            return _read_text(file, dialect, required, headless, hint)
        except UnicodeDecodeError as error:
            if dialect.encoding != "utf-8-sig":
                raise InputError(f"{file}: not {dialect.told[0]}, as its first bytes say: {AS_CSV}") from error
            for page in CODE_PAGES if root else ():
                told = (f"encoding {page}, in which its names are those on disk", *dialect.told)
                with suppress(UnicodeDecodeError, InputError):
                    table = _read_text(file, replace(dialect, encoding=page, told=told), required, headless, hint)
                    if root and _all_there(root, table.columns[required[0]]):
                        return table
            raise InputError(f"{file}: row {_line_that_is_not_utf8(file)}: not UTF-8: {AS_CSV}") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error


def _read_text(file: Path, dialect: Dialect, required: tuple[str, ...], headless: bool, hint: str) -> LabelFile:
    lines = array("Q")
    comments = 0
    with open(file, encoding=dialect.encoding, newline="") as text:
        rows = _rows(file, text, dialect)
        first_line, first = next(rows, (1, []))
        header = header_names(first, required)
        columns: list[list[str]] = [[] for _ in header]
        is_headless = headless and len(header) == 1 and header[0].lower().endswith(MEDIA_SUFFIXES)
        if is_headless:
            columns, header = [[first[0].strip()]], list(required)
            lines.append(first_line)
        _check_header(file, header, required, hint)
        for line, fields in rows:
            if not any(map(str.strip, fields)):
                continue
            if len(fields) != len(header):
                if len(fields) == 1 and fields[0].startswith("#"):
                    comments += 1
                    continue
                if len(fields) < len(header) or any(map(str.strip, fields[len(header) :])):
                    expected = f"the {'first row' if is_headless else 'header'} has {len(header)}"
                    raise InputError(f"{file}: row {line}: {len(fields)} fields, {expected}")
            for column, field in zip(columns, fields):  # a row may end with empty fields too many
                column.append(field.strip())
            lines.append(line)
    if not lines:
        raise InputError(f"{file}: no rows")
    told = [*dialect.told, *([f"without {comments} line{'s' * (comments != 1)} of comment"] if comments else [])]
    named = _named_columns(file, header, columns)
    return LabelFile(file, named, lines, f"{file}: read with {', '.join(told)}" if told else "")


def _named_columns(file: Path, header: list[str], columns: list[list[str]]) -> dict[str, list[str]]:
    """The columns by name; one without a name is left out if it is empty, as a spreadsheet leaves them on the right."""
    kept = [(name, cells) for name, cells in zip(header, columns, strict=True) if name or any(cells)]
    if [name for name, _ in kept].count("") > 1:
        raise InputError(
            f"{file}: several columns have values and no name in the header {','.join(header)!r}: name them"
        )
    return dict(kept)


def _all_there(root: Path, names: list[str]) -> bool:
    """Whether the names that are not ASCII are those of files below root, in any normal form; False if there are none."""
    odd = [name.replace("\\", "/") for name in names if not name.isascii()]
    return bool(odd) and all(
        any(os.path.lexists(root / normalize(form, name)) for form in ("NFC", "NFD")) for name in odd
    )


def _read_parquet(file: Path, required: tuple[str, ...], hint: str) -> LabelFile:
    columns, numbers = read_parquet_labels(file)
    _check_header(file, list(columns), required, hint)
    if not numbers:
        raise InputError(f"{file}: no rows")
    return LabelFile(file, columns, numbers)


def _rows(file: Path, text: TextIO, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """(line at which the row begins, fields) of each row; InputError for one that is no CSV."""
    for _ in range(dialect.start):
        text.readline()
    reader = csv.reader(text, strict=True, delimiter=dialect.delimiter)
    line = 1 + dialect.start
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1 + dialect.start
    except csv.Error as error:
        raise InputError(f"{file}: row {line}: {error}") from None


def _check_header(file: Path, header: list[str], required: tuple[str, ...], hint: str) -> None:
    if missing := [name for name in required if name not in header]:
        header_is = f"no column {missing[0]!r}; the header is {','.join(header)!r}"
        raise InputError(f"{file}: {header_is}{hint and f'; {hint}'}")
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise InputError(f"{file}: a column stands twice in the header {','.join(header)!r}: rename one")


def _line_that_is_not_utf8(file: Path) -> int:
    data = file.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return len((data[: error.start] + b"x").splitlines())
    raise AssertionError(f"{file} changed while it was read")


def inside(root: Path, folder: str, table: LabelFile, name: str) -> list[str]:
    """The column's paths with `folder` before each; InputError for the row of one that leads out of root.

    An absolute path below root stays absolute, resolved. Symlinks are followed. Resolving takes longer than all the
    rest, so each folder is resolved once, and a file only where it is a symlink itself.
    """
    top = root.resolve()

    def plain(path: str) -> str | None:
        """folder/path without doubled slashes and dots; None where it leads out of root."""
        pure = PurePosixPath(path)
        if ".." in pure.parts or not (found := (root / folder / pure).resolve()).is_relative_to(top):
            return None
        return found.as_posix() if pure.is_absolute() else (folder / pure).as_posix()

    folders: dict[str, str | None] = {}  # what stands before a file's name -> the same in plain form
    inside_root: list[str] = []
    for row, path in enumerate(table.columns[name]):
        file = path.rpartition("/")[2]
        before = path[: len(path) - len(file)]
        try:
            if "\0" in path:
                raise ValueError("embedded null byte")
            if before not in folders:
                found = plain(before)
                folders[before] = found and (f"{found}/" if found != "." else "")
            full = folders[before]
            if full is not None:
                full += file
                if file in ("", ".", "..") or os.path.islink(os.path.join(root, full)):  # noqa: PTH114, PTH118 - faster
                    full = plain(path) if PurePosixPath(path).parts else None
        except (OSError, RuntimeError, ValueError) as error:  # a loop of symlinks, a NUL
            raise table.error(row, f"path {path!r} is no path: {error}") from None
        if full is None:
            raise table.error(row, f"path {path!r} leads out of {root}: write it from that folder on")
        inside_root.append(full)
    return inside_root
