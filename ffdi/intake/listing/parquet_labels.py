"""Label files as Parquet: their cells as a csv would hold them."""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffdi.errors import InputError, one_line

_ROWS = 1 << 16  # that are read at a time
_MIDNIGHT = re.compile(r" 00:00:00(\.0+)?$")  # of a time that is a date, which pandas writes as one


def read_parquet_labels(file: Path) -> tuple[dict[str, list[str]], array[int]]:
    """(cells of each column, number of each row from 1); rows with empty cells alone are skipped.

    A missing value is "", a number what Python writes of it. Raises InputError for a file that is no Parquet and for a
    column of lists, bytes or the like: it is no attribute of an image.
    """
    columns: dict[str, list[str]] = {}
    rows = array("Q")
    try:
        with open(file, "rb"), pq.ParquetFile(file) as opened:
            for field in opened.schema_arrow:
                if holds_images(field.type):
                    cure = "write each to a file below the root, and its name in a column of paths in place of this one"
                    raise InputError(
                        f"{file}: column {field.name!r} holds the images themselves ({field.type}): {cure}"
                    )
                if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
                    raise InputError(f"{file}: column {field.name!r} is {field.type}, no text or number: leave it out")
            columns = {name: [] for name in opened.schema_arrow.names}
            start = 1
            for batch in opened.iter_batches(_ROWS):
                cells = [_cells(column) for column in batch.columns]
                kept = [at for at, row in enumerate(zip(*cells, strict=True)) if any(row)]
                for of_file, of_batch in zip(columns.values(), cells, strict=True):
                    of_file += of_batch if len(kept) == len(of_batch) else [of_batch[at] for at in kept]
                rows.extend(start + at for at in kept)
                start += batch.num_rows
    except pa.ArrowException as error:
        raise InputError(f"{file}: not a readable table: {one_line(error)}") from error
    return columns, rows


def parquet_header(file: Path) -> list[str]:
    """The names of the columns; InputError for a file that is no Parquet."""
    try:
        with open(file, "rb"), pq.ParquetFile(file) as opened:
            return list(opened.schema_arrow.names)
    except pa.ArrowException as error:
        raise InputError(f"{file}: not a readable table: {one_line(error)}") from error


def holds_images(kind: pa.DataType) -> bool:
    """Whether a column is of embedded images, as the data sets of Hugging Face have them: {bytes, path}."""
    fields = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    return {"bytes", "path"} <= fields


def _cells(column: pa.Array) -> list[str]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        column = column.cast(pa.large_string())  # dates too
    values: list[Any] = column.to_pylist()
    if pa.types.is_timestamp(kind):
        values = [value and _MIDNIGHT.sub("", value) for value in values]
    return ["" if value is None or value != value else str(value).strip() for value in values]
