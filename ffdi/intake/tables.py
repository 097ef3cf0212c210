"""images.csv and folds.csv: reading checks their columns, writing gives the same bytes on every machine."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ffdi.errors import InputError, one_line
from ffdi.files import replacing, sha256_file
from ffdi.intake.table_files.columns import AGAIN, equal_texts, repeated, whole_numbers
from ffdi.intake.table_files.csv_file import csv_rows, read_csv, write_csv
from ffdi.intake.table_files.names import CSV, PARQUET, is_parquet
from ffdi.intake.table_files.parquet_file import parquet_rows, read_parquet, write_parquet

IMAGE_COLUMNS = ("image_id", "path", "label", "group", "given_split", "width", "height", "format", "phash")
SPREADSHEETS_CHANGE = ("image_id", "phash", "cluster")  # hex digits that may look like a number: 12e5...
FOLD_COLUMNS = ("image_id", "group", "cluster", "role", "fold")
CROP_COLUMNS = (
    "source",
    "video",
    "frame",
    "seconds",
    "track",
    "box",
    "score",
)  # where a face crop is from, as attributes
HELD_OUT_COLUMNS = ("held_out", "also_out")  # more of them, where values are held out


def ending_of(file: Path) -> str:
    """The ending of the tables that are written beside this one: that of Parquet, or of csv."""
    return PARQUET if is_parquet(file) else CSV


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet where the name ends so, and otherwise as csv.

    csv is UTF-8 with LF; fields are quoted only where needed, missing values are empty. Parquet has the columns of TYPES,
    a missing text is "", and a fold of "" is null; row groups have statistics and a page index.
    """
    with replacing(file) as temporary:
        if is_parquet(file):
            write_parquet(temporary, table)
        else:
            write_csv(temporary, table)


def read_table(file: Path, columns: Sequence[str], *, others: bool = True) -> pd.DataFrame:
    """The table of a file; InputError where the file or a column is missing, or there is no row.

    Of a csv, all columns are text ("" where empty); one that a spreadsheet has saved, with a BOM, CRLF or semicolons, is
    read as before. Of a Parquet file, text is the same, numbers are int64 or float64, and one of `columns` that has another
    type than TYPES states is an error. Without `others` the table need not have more than `columns`.
    """
    with _one_line_errors(file):
        table = read_parquet(file, columns, others=others) if is_parquet(file) else read_csv(file)
    if missing := [c for c in columns if c not in table.columns]:
        raise InputError(f"{file}: no column {missing[0]!r}; it has {', '.join(table.columns)}: {AGAIN}")
    if table.empty:
        raise InputError(f"{file}: no rows: {AGAIN}")
    return table


def count_rows(file: Path) -> int:
    """How many rows a table has; raises InputError as read_table does. Those of a Parquet file stand at its end."""
    with _one_line_errors(file):
        return parquet_rows(file) if is_parquet(file) else csv_rows(file)


@contextmanager
def _one_line_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{file}: no such file: run the stage that writes it first") from None
    except (pa.ArrowException, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: not a readable table: {one_line(error)}") from error
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or one_line(error)}") from error


def skipped_table(skipped: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """skipped.csv: path and reason of files that no row lists, sorted by path; names that are not UTF-8 are escaped."""
    rows = sorted((path.encode(errors="backslashreplace").decode(), reason) for path, reason in skipped)
    return pd.DataFrame(rows, columns=["path", "reason"])


def read_images(file: Path) -> pd.DataFrame:
    """images.csv with `label`, `width` and `height` as integers."""
    table = _with_integers(file, read_table(file, IMAGE_COLUMNS), ("label", "width", "height"))
    digits = table["phash"].str.len()
    if len(wrong := table.index[digits < digits.max()]):  # a spreadsheet drops leading zeros
        raise InputError(
            f"{file}: {_row(file, wrong[0])}: phash {table['phash'][wrong[0]]!r} has lost digits: a spreadsheet changed it: {AGAIN}"
        )
    return table


def read_folds(file: Path) -> pd.DataFrame:
    """folds.csv with `fold` as an integer, -1 for rows in no fold: those of role test or dropped.

    So is `also_out`, where the file has it: -1 for rows that one fold alone leaves out.
    """
    table = read_table(file, FOLD_COLUMNS)
    numbers = [column for column in ("fold", "also_out") if column in table]
    if not is_parquet(file):
        table = table.assign(**{name: table[name].replace("", "-1") for name in numbers})
    table = _with_integers(file, table, numbers)
    if bad := sorted(set(table["role"]) - {"train", "test", "dropped"}):
        raise InputError(f"{file}: role {bad[0]!r} is neither train nor test, nor dropped: {AGAIN}")
    return table


def _with_integers(file: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    for column in () if is_parquet(file) else SPREADSHEETS_CHANGE:
        if column in table and len(wrong := table.index[table[column].str.fullmatch(r"\d([.,]\d+)?E[+-]\d+")]):
            value = table[column][wrong[0]]
            raise InputError(f"{file}: {_row(file, wrong[0])}: {column} {value!r}: a spreadsheet made it a number")
    numbers = {} if is_parquet(file) else {column: _whole_numbers(file, table[column]) for column in columns}
    if len(twice := table.index[repeated(table["image_id"])]):
        value = table["image_id"][twice[0]]
        raise InputError(f"{file}: {_row(file, twice[0])}: image_id {value!r} stands there twice: {AGAIN}")
    return table.assign(**numbers)


def _whole_numbers(file: Path, column: pd.Series[str]) -> npt.NDArray[np.int64]:
    if len(wrong := column.index[~column.str.fullmatch(r"-?\d{1,18}")]):
        value = column[wrong[0]]
        raise InputError(f"{file}: {_row(file, wrong[0])}: {column.name} {value!r} is no whole number: {AGAIN}")
    return whole_numbers(column)


def _row(file: Path, index: int) -> str:
    """What a row is called in a message: by its line in a csv, which has a header, and by its number in Parquet."""
    return f"row {index + (1 if is_parquet(file) else 2)}"


def join(images: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Rows of images.csv with the role, fold, cluster and final group of folds.csv, by image_id; without dropped rows.

    The group of images.csv becomes `intake_group`. Raises InputError where one table has an image that the other lacks.
    """
    left = images.rename(columns={"group": "intake_group"})
    if equal_texts(images["image_id"], folds["image_id"]):  # as both stages write them: there is nothing to look up
        joined = pd.concat([left.reset_index(drop=True), folds.drop(columns="image_id").reset_index(drop=True)], axis=1)
    else:
        lone = set(images["image_id"]) ^ set(folds["image_id"])
        if lone:
            differ = f"{len(lone)} images, such as {min(lone)}"
            raise InputError(f"images.csv and folds.csv differ in {differ}: run split again")
        joined = left.merge(folds, on="image_id", validate="one_to_one")
    return joined[joined["role"] != "dropped"].reset_index(drop=True)


def second_folds(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """(N,) the second fold in which each row does not train, -1 for none, of folds.csv or what is joined with it."""
    return rows["also_out"].to_numpy(np.int64) if "also_out" in rows else np.full(len(rows), -1)


def sides(folds: pd.DataFrame) -> npt.NDArray[np.str_]:
    """(N,) the side of each row of folds.csv: `test`, `fold K` or `dropped`. No group may be on two sides."""
    place = pd.to_numeric(folds["fold"], errors="coerce").fillna(-1).to_numpy(np.int64)  # "" before it is written
    names = np.array([f"fold {number}" for number in range(int(place.max(initial=-1)) + 1)] + ["test", "dropped"])
    elsewhere = np.where(folds["role"] == "test", len(names) - 2, len(names) - 1)
    return names[np.where(folds["role"] == "train", place, elsewhere)]


def tables_digest(images: Path, folds: Path) -> str:
    """The text of data/audit.ok: the sha256 of both tables, a line each."""
    return "".join(
        f"{sha256_file(file)}  {name}{ending_of(file)}\n" for name, file in (("images", images), ("folds", folds))
    )
