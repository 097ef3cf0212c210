"""Label files: tables that name images below a root, read where their meaning is certain, else refused by row."""

from __future__ import annotations

import csv
import os
from array import array
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ffdi.errors import InputError
from ffdi.intake.decoding.formats import SUFFIXES


@dataclass(frozen=True)
class LabelFile:
    """A label file: its columns, stripped of spaces, and the line at which each row begins."""

    file: Path
    columns: dict[str, list[str]]
    lines: array[int]

    def error(self, row: int, problem: str) -> InputError:
        return InputError(f"{self.file}: row {self.lines[row]}: {problem}")


def read_list(file: Path, root: Path) -> tuple[list[tuple[str, Path]], tuple[str, list[int]] | None]:
    """(name as listed, the file below root that it means) of every row, in order, whether or not the file exists; and
    (the column, the label of every row) where the list has true labels, 0 and 1 both among them, else None.

    `file` is a table with a column img_name, all others but target and label ignored, or a list of file names without a
    header: its first line is the name of an image. Raises InputError naming file, row and rule, above all for a path out
    of root.
    """
    if not root.is_dir():
        raise InputError(f"{root}: is no folder")
    table = read_label_file(file, ("img_name",), headless=True)
    paths = inside(root, "", table, "img_name")
    listed = [(name, root / path) for name, path in zip(table.columns["img_name"], paths, strict=True)]
    known = next((name for name in ("target", "label") if set(table.columns.get(name, ())) == {"0", "1"}), None)
    return listed, None if known is None else (known, [int(label) for label in table.columns[known]])


def read_label_file(file: Path, required: tuple[str, ...], *, headless: bool = False, hint: str = "") -> LabelFile:
    """Read a label file; a BOM, CRLF and empty lines are read away. Raises InputError naming file, row and rule.

    A `hint` ends the error for a column that is not there. Where it may be `headless`, a first line of one field with an
    image's suffix is a row of the one required column.
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
                    header_is = f"no column {missing[0]!r}; the header is {','.join(header)!r}"
                    raise InputError(f"{file}: {header_is}{hint and f'; {hint}'}")
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
    return LabelFile(file, dict(zip(header, columns, strict=True)), lines)


def _line_that_is_not_utf8(file: Path) -> int:
    data = file.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return len((data[: error.start] + b"x").splitlines())
    raise AssertionError(f"{file} changed while it was read")


def inside(root: Path, folder: str, table: LabelFile, name: str) -> list[str]:
    """The column's paths with `folder` before each; InputError for the row of one that leads out of root.

    An absolute path below root is given as such, resolved. Symlinks are followed. Each folder is resolved once, and a file only where it is a symlink itself: resolving
    takes longer than all the rest.
    """
    top = root.resolve()

    def plain(path: str) -> str | None:
        """folder/path without doubled slashes and dots; None where it leads out of root."""
        pure = PurePosixPath(path)
        if ".." in pure.parts or not (found := (root / folder / pure).resolve()).is_relative_to(top):
            return None
        return found.as_posix() if pure.is_absolute() else (folder / pure).as_posix()

    folders: dict[str, str | None] = {}  # what stands before a file's name -> the same in plain form
    found_inside: list[str] = []
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
                if file in ("", ".", "..") or os.path.islink(os.path.join(root, whole)):  # noqa: PTH114, PTH118 - 5 x faster
                    whole = plain(path) if PurePosixPath(path).parts else None
        except (OSError, RuntimeError, ValueError) as error:  # a loop of symlinks, a NUL
            raise table.error(row, f"path {path!r} is no path: {error}") from None
        if whole is None:
            raise table.error(row, f"path {path!r} leads out of {root}")
        found_inside.append(whole)
    return found_inside
