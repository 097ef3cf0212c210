"""Columns of tables between pandas and Arrow, and the types that are stated for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

AGAIN = "correct it, or run the stage that writes it again"
BLOCK = 1 << 17  # rows that are written at a time: a row group of Parquet

# The stated schema: columns of these names have these types in Parquet, in every table. Other text is `string`, and numbers
# have the type that they have in memory.
TYPES = {
    **dict.fromkeys(("image_id", "path", "group", "given_split", "format", "phash", "cluster", "role"), pa.string()),
    **dict.fromkeys(("held_out", "reason"), pa.string()),
    **dict.fromkeys(("width", "height", "fold", "also_out"), pa.int32()),
    **dict.fromkeys(("logit", "score"), pa.float64()),
    "label": pa.int8(),
}
NONE_IS = {"fold": -1, "also_out": -1}  # the whole numbers that may be missing, and what stands for them in memory


def text_of(column: pd.Series[Any]) -> pa.LargeStringArray:
    """A column of text in one piece, "" where it is missing; ArrowInvalid or ArrowTypeError for any other."""
    text = _texts(column)
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def whole_numbers(column: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """The numbers that a column of digits says; ArrowInvalid for a text that says none."""
    numbers: npt.NDArray[np.int64] = pc.cast(_texts(column), pa.int64()).to_numpy()
    return numbers


def repeated(column: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    """(N,) whether each row's text stood in an earlier row. Of a sorted column without any, it takes no memory."""
    text = _texts(column)
    if pc.all(pc.less(text[:-1], text[1:]), min_count=0).as_py():
        return np.zeros(len(column), bool)
    return column.duplicated().to_numpy()


def equal_texts(a: pd.Series[Any], b: pd.Series[Any]) -> bool:
    """Whether two columns have the same texts in the same order."""
    return len(a) == len(b) and bool(pc.all(pc.equal(_texts(a), _texts(b)), min_count=0).as_py())


def _texts(column: pd.Series[Any]) -> pa.LargeStringArray | pa.ChunkedArray:
    """The same as text_of in the pieces that it has, which are not copied."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind not in "OU":
        raise pa.ArrowTypeError(f"{column.dtype} is no text")
    return pc.fill_null(pa.array(column, pa.large_string(), from_pandas=True), "")


def in_memory(table: pa.Table) -> pd.DataFrame:
    """A table as pandas has it: text as `str`, without a Python object a row, numbers as NumPy's, and no index."""
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True, ignore_metadata=True)
    return frame
