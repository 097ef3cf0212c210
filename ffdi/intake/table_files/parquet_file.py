"""Parquet on disk: typed columns, by row groups that have statistics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ffdi.errors import InputError
from ffdi.intake.table_files.columns import AGAIN, BLOCK, NONE_IS, TYPES, in_memory, text_of

# Each row has another value: a dictionary of these would only cost time
_ALL_DIFFERENT = ("image_id", "path", "phash", "cluster", "logit", "score")


def write_parquet(file: Path, table: pd.DataFrame) -> None:
    """Write the table by row groups of BLOCK rows, with the types of TYPES, statistics and a page index."""
    columns = {str(name): table[name] for name in table}
    schema = pa.schema(
        [pa.field(name, _type_of(name, column), nullable=name in NONE_IS) for name, column in columns.items()]
    )
    repeated = [name for name in columns if name not in _ALL_DIFFERENT]
    options = {"compression": "zstd", "use_dictionary": repeated, "write_statistics": True, "write_page_index": True}
    with pq.ParquetWriter(file, schema, store_schema=False, **options) as out:
        for start in range(0, len(table), BLOCK):
            arrays = [_typed(columns[field.name].iloc[start : start + BLOCK], field.type) for field in schema]
            out.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_rows(out: BinaryIO, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows that come one by one, with the types of `schema`; BLOCK of them are in memory."""
    waiting = iter(rows)
    with pq.ParquetWriter(out, schema, store_schema=False, compression="zstd") as written:
        while block := list(islice(waiting, BLOCK)):
            written.write_table(pa.Table.from_pylist(block, schema=schema))


def parquet_rows(file: Path) -> int:
    """How many rows a Parquet file says that it has."""
    return int(pq.read_metadata(file).num_rows)


def _type_of(name: str, column: pd.Series[Any]) -> pa.DataType:
    if name in TYPES:
        return TYPES[name]
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb":
        return pa.from_numpy_dtype(column.dtype)
    return pa.string()


def _typed(column: pd.Series[Any], kind: pa.DataType) -> pa.Array:
    """Part of a column as it is stored; text becomes the number that it says, and null where it is empty."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb":
        numbers = pa.array(column.to_numpy())
        missing = NONE_IS.get(str(column.name))
        return pc.cast(numbers if missing is None else pc.if_else(pc.equal(numbers, missing), None, numbers), kind)
    text = text_of(column)
    return pc.cast(text if pa.types.is_string(kind) else pc.if_else(pc.equal(text, ""), None, text), kind)


def read_parquet(file: Path, columns: Collection[str], *, others: bool = True) -> pd.DataFrame:
    """The table of a file, read a column at a time: those of `columns` that it has, and maybe all `others`.

    InputError where one of `columns` has another type than TYPES states, or lacks a number. Others may hold anything.
    """
    with open(file, "rb"), pq.ParquetFile(file) as opened:  # open says what is wrong with a name in fewer words
        found: dict[str, Any] = {}
        for field in opened.schema_arrow:
            checked = field.name in columns or field.name in NONE_IS
            if not (checked or others):
                continue
            stated = TYPES.get(field.name, field.type) if checked else field.type
            if not (stated == field.type or _is_like(field.type, stated)):
                raise InputError(f"{file}: column {field.name!r} is {field.type}, and has to be {stated}: {AGAIN}")
            column = _plain(opened.read([field.name]).column(0), stated)
            if field.name in NONE_IS:
                column = pc.fill_null(column, NONE_IS[field.name])
            elif checked and pa.types.is_integer(column.type) and column.null_count:
                row = pc.index(pc.is_null(column), True).as_py() + 1
                raise InputError(f"{file}: row {row}: no {field.name}: {AGAIN}")
            found[field.name] = in_memory(pa.table({field.name: column}))[field.name]
    return pd.DataFrame(found)


def _is_like(found: pa.DataType, stated: pa.DataType) -> bool:
    """Whether a column may stand for one of the stated type: another width, or text by a dictionary, as other writers do."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_string(stated):
        return _is_text(found)
    if pa.types.is_integer(stated):
        return bool(pa.types.is_integer(found))
    return bool(pa.types.is_floating(found) or pa.types.is_integer(found))


def _plain(column: pa.ChunkedArray, stated: pa.DataType) -> pa.ChunkedArray:
    """A column without a dictionary, with "" for missing text, int64 for whole numbers and float64 for others."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if _is_text(kind):
        return pc.fill_null(column.cast(pa.large_string()), "")
    if pa.types.is_floating(stated) or pa.types.is_floating(kind):
        return pc.fill_null(column.cast(pa.float64()), float("nan"))
    return column.cast(pa.int64()) if pa.types.is_integer(kind) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
