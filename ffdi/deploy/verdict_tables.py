"""Judgements as text: a table for readers; csv, jsonl and Parquet for programs. A row is what one or more models say of a picture."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import chain, islice
from typing import Any, BinaryIO, TextIO

from ffdi.deploy.judgement import UNLIKE, Judgement, Row
from ffdi.errors import printable
from ffdi.intake.table_files.csv_lines import CsvLines

Show = Callable[[str], str]
_NARROWEST, _OF_MODEL = 16, len("0.500 undecided")  # columns of paths, and of a model beside others


def record(names: Sequence[str], row: Row) -> dict[str, Any]:
    """The fields of a row: those of a Judgement; with several models, `score_NAME`, `verdict_NAME` and so on of each."""
    if len(row) == 1:
        return asdict(row[0])
    of_each = {
        f"{column}_{name}": getattr(judgement, column)
        for columns in (("score", "verdict"), ("spread",), ("unlike",))
        for name, judgement in zip(names, row, strict=True)
        for column in columns
    }
    return {"path": row[0].path, **of_each, "reason": row[0].reason}


def write_jsonl(names: Sequence[str], rows: Iterable[Row], text: TextIO) -> None:
    """An object a line, in ASCII; what is not known is null."""
    for row in rows:
        text.write(json.dumps(record(names, row)) + "\n")
        text.flush()


def write_csv(names: Sequence[str], rows: Iterable[Row], text: TextIO, shown: Show = str) -> None:
    """What is not known is empty. `shown` writes a name.

    With one model, `verdict` has the reason as well where an image cannot be read: that is where it stood before there
    was a column for it.
    """
    table = csv.writer(CsvLines(text), lineterminator=CsvLines.END)
    nothing = tuple(Judgement("") for _ in names)
    table.writerow(record(names, nothing))
    for row in rows:
        fields = record(names, row)
        if len(row) == 1:
            fields["verdict"] = fields["verdict"] or fields["reason"]
        fields["path"] = shown(fields["path"])
        table.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in fields.values())
        text.flush()


def write_parquet(names: Sequence[str], rows: Iterable[Row], out: BinaryIO) -> None:
    """Typed columns, null for what is not known; names that are not UTF-8 are escaped."""
    import pyarrow as pa  # takes long to load

    from ffdi.intake.table_files.parquet_file import write_rows

    kinds = {"score": pa.float64(), "spread": pa.float64(), "unlike": pa.bool_()}
    columns = record(names, tuple(Judgement("") for _ in names))
    kind_of = {name: kinds.get(name, kinds.get(name.partition("_")[0], pa.string())) for name in columns}
    escaped = (
        {**of, "path": of["path"].encode(errors="backslashreplace").decode()}
        for of in (record(names, row) for row in rows)
    )
    write_rows(out, pa.schema(list(kind_of.items())), escaped)


def write_aligned(names: Sequence[str], rows: Iterable[Row], text: TextIO, *, longest: int, width: int) -> None:
    """Columns that a reader takes in at a glance: `width` is the terminal's, `longest` that of the longest name.

    Names that are too long are cut in the middle, and what would act on a terminal is escaped.
    """
    one = len(names) == 1
    head = f"score  {'verdict':<9}  spread" if one else "  ".join(_fitted(name, _OF_MODEL) for name in names)
    room = max(_NARROWEST, min(longest, width - len(head) - 4 - len(UNLIKE)))
    rows = iter(rows)
    first = list(islice(rows, 1))  # lines about what computes come before the table
    text.write(f"{_fitted('path', room)}  {head}".rstrip() + "\n")
    for row in chain(first, rows):
        name = _fitted(printable(row[0].path), room)
        text.write(f"{name}  {_cells(names, row)}".rstrip() + "\n")
        text.flush()


def _cells(names: Sequence[str], row: Row) -> str:
    if row[0].score is None:
        return printable(row[0].reason or "")
    unlike = [name for name, judgement in zip(names, row, strict=True) if judgement.unlike]
    if len(row) == 1:
        spread = "" if row[0].spread is None else f"{row[0].spread:.3f}"
        return f"{row[0].score:.3f}  {row[0].verdict or '':<9}  {spread:>6}  {UNLIKE if unlike else ''}"
    scores = "  ".join(f"{judgement.score:.3f} {judgement.verdict or '':<9}" for judgement in row)
    return f"{scores}  {UNLIKE} of {', '.join(unlike)}" if unlike else scores


def _columns_of(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fitted(text: str, room: int) -> str:
    """The text in exactly `room` columns, cut in the middle where it is longer."""
    if (columns := _columns_of(text)) <= room:
        return text + " " * (room - columns)
    left = _start(text, (room - 3) // 3)
    right = _start(text[::-1], room - 3 - _columns_of(left))[::-1]
    return _fitted(f"{left}...{right}", room)


def _start(text: str, room: int) -> str:
    end = next((end for end in range(len(text), 0, -1) if _columns_of(text[:end]) <= room), 0)
    return text[:end]
