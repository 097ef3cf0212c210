"""images.csv and folds.csv: reading checks their columns, writing gives the same bytes on every machine."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.files import replacing, sha256_file

AGAIN = "correct it, or run the stage that writes it again"
IMAGE_COLUMNS = ("image_id", "path", "label", "group", "given_split", "width", "height", "format", "phash")
SPREADSHEETS_CHANGE = ("image_id", "phash", "cluster")  # hex digits that may look like a number: 12e5...
FOLD_COLUMNS = ("image_id", "group", "cluster", "role", "fold")
HELD_OUT_COLUMNS = ("held_out", "also_out")  # more of them, where values are held out


class CsvLines:
    """A text file for csv.writer(..., lineterminator=CsvLines.END): lines end in LF, and a carriage return is quoted.

    Before Python 3.13 the csv module quotes only the characters of its own line end, so a lone carriage return needs
    this line end.
    """

    END = "\r\n"

    def __init__(self, text: TextIO) -> None:
        self.text = text

    def write(self, line: str) -> int:
        return self.text.write(line.removesuffix(self.END) + "\n")


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write a table as UTF-8 with LF; fields are quoted only where needed, missing values are empty."""
    with replacing(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as text:
        lines: Any = CsvLines(text)
        table.to_csv(lines, index=False, lineterminator=CsvLines.END, quoting=csv.QUOTE_MINIMAL)


def skipped_table(skipped: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """skipped.csv: path and reason of files that no row lists, sorted by path; names that are not UTF-8 are escaped."""
    rows = sorted((path.encode(errors="backslashreplace").decode(), reason) for path, reason in skipped)
    return pd.DataFrame(rows, columns=["path", "reason"])


def read_table(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """All columns as text ("" where empty); InputError where the file or a column is missing, or there is no row.

    A table that a spreadsheet has saved, with a BOM, CRLF or semicolons, is read as before.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            header = text.readline()
        table = pd.read_csv(
            file,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            sep=";" if ";" in header and "," not in header else ",",
        )
    except FileNotFoundError:
        raise InputError(f"{file}: no such file: run the stage that writes it first") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a readable table: {' '.join(str(error).split())}") from error
    if missing := [c for c in columns if c not in table.columns]:
        raise InputError(f"{file}: no column {missing[0]!r}; it has {', '.join(table.columns)}: {AGAIN}")
    if table.empty:
        raise InputError(f"{file}: no rows: {AGAIN}")
    return table


def read_images(file: Path) -> pd.DataFrame:
    """images.csv with `label`, `width` and `height` as integers."""
    table = _with_integers(file, read_table(file, IMAGE_COLUMNS), ("label", "width", "height"))
    digits = table["phash"].str.len()
    if len(wrong := table.index[digits < digits.max()]):  # a spreadsheet drops leading zeros
        raise InputError(
            f"{file}: row {wrong[0] + 2}: phash {table['phash'][wrong[0]]!r} has lost digits: a spreadsheet changed it: {AGAIN}"
        )
    return table


def read_folds(file: Path) -> pd.DataFrame:
    """folds.csv with `fold` as an integer, -1 for rows in no fold: those of role test or dropped.

    So is `also_out`, where the file has it: -1 for rows that one fold alone leaves out.
    """
    table = read_table(file, FOLD_COLUMNS)
    numbers = [column for column in ("fold", "also_out") if column in table]
    table = _with_integers(file, table.assign(**{n: table[n].replace("", "-1") for n in numbers}), numbers)
    if bad := sorted(set(table["role"]) - {"train", "test", "dropped"}):
        raise InputError(f"{file}: role {bad[0]!r} is neither train nor test, nor dropped: {AGAIN}")
    return table


def _with_integers(file: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    for column in SPREADSHEETS_CHANGE:
        if column in table and len(wrong := table.index[table[column].str.fullmatch(r"\d([.,]\d+)?E[+-]\d+")]):
            value = table[column][wrong[0]]
            raise InputError(f"{file}: row {wrong[0] + 2}: {column} {value!r}: a spreadsheet made it a number")
    for column in columns:
        wrong = table.index[~table[column].str.fullmatch(r"-?\d+")]
        if len(wrong):
            raise InputError(
                f"{file}: row {wrong[0] + 2}: {column} {table[column][wrong[0]]!r} is no whole number: {AGAIN}"
            )
    if len(twice := table.index[table["image_id"].duplicated()]):
        raise InputError(
            f"{file}: row {twice[0] + 2}: image_id {table['image_id'][twice[0]]!r} stands there twice: {AGAIN}"
        )
    typed: pd.DataFrame = table.astype(dict.fromkeys(columns, int))
    return typed


def join(images: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Rows of images.csv with the role, fold, cluster and final group of folds.csv, by image_id; without dropped rows.

    The group of images.csv becomes `intake_group`. Raises InputError where one table has an image that the other lacks.
    """
    lone = set(images["image_id"]) ^ set(folds["image_id"])
    if lone:
        raise InputError(f"images.csv and folds.csv differ in {len(lone)} images, such as {min(lone)}: run split again")
    joined: pd.DataFrame = images.rename(columns={"group": "intake_group"}).merge(
        folds, on="image_id", validate="one_to_one"
    )
    return joined[joined["role"] != "dropped"].reset_index(drop=True)


def second_folds(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """(N,) the second fold in which each row does not train, -1 for none, of folds.csv or what is joined with it."""
    return rows["also_out"].to_numpy(np.int64) if "also_out" in rows else np.full(len(rows), -1)


def sides(folds: pd.DataFrame) -> npt.NDArray[np.str_]:
    """(N,) the side of each row of folds.csv: `test`, `fold K` or `dropped`. No group may be on two sides."""
    return np.where(folds["role"] == "train", "fold " + folds["fold"].astype(str), folds["role"]).astype(str)


def tables_digest(images: Path, folds: Path) -> str:
    """The text of data/audit.ok: the sha256 of both tables, a line each."""
    return f"{sha256_file(images)}  images.csv\n{sha256_file(folds)}  folds.csv\n"
