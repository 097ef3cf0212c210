"""Judgements as text: a table for readers; csv, jsonl and Parquet for programs. A row is what one or more models say of a picture."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from typing import Any, BinaryIO, TextIO

from ffdi.deploy.judgement import UNLIKE, FaceJudgement, Judgement, Row, track_of
from ffdi.errors import printable
from ffdi.intake.table_files.csv_lines import CsvLines

Show = Callable[[str], str]
_BOX = 12  # columns that a place takes more than its heading
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
    return {"path": row[0].path, **of_each, "reason": row[0].reason, **_of_faces(names, row)}


def _of_faces(names: Sequence[str], row: Row) -> dict[str, Any]:
    """The columns of several models of face crops: the place is that of the crop that the first one finds most fake."""
    faces = [judgement for judgement in row if isinstance(judgement, FaceJudgement)]
    if not faces:
        return {}
    first = faces[0]
    apart = {f"frame_spread_{name}": face.frame_spread for name, face in zip(names, faces, strict=True)}
    return {"track": first.track, "frames": first.frames, **apart, "seconds": first.seconds, "box": first.box}


def write_jsonl(names: Sequence[str], rows: Iterable[Row], text: TextIO) -> None:
    """An object a line, in ASCII; what is not known is null."""
    for row in rows:
        text.write(json.dumps(record(names, row)) + "\n")
        text.flush()


def nothing(names: Sequence[str], faces: bool) -> Row:
    """A row that tells nothing: its record has the columns."""
    return tuple((FaceJudgement if faces else Judgement)("") for _ in names)


def write_csv(
    names: Sequence[str], rows: Iterable[Row], text: TextIO, shown: Show = str, *, faces: bool = False
) -> None:
    """What is not known is empty. `shown` writes a name; rows of `faces` have more columns.

    With one model, `verdict` has the reason as well where an image cannot be read: that is where it stood before there
    was a column for it.
    """
    table = csv.writer(CsvLines(text), lineterminator=CsvLines.END)
    table.writerow(record(names, nothing(names, faces)))
    for row in rows:
        fields = record(names, row)
        if len(row) == 1:
            fields["verdict"] = fields["verdict"] or fields["reason"]
        fields["path"] = shown(fields["path"])
        table.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in fields.values())
        text.flush()


def write_parquet(names: Sequence[str], rows: Iterable[Row], out: BinaryIO, *, faces: bool = False) -> None:
    """Typed columns, null for what is not known; names that are not UTF-8 are escaped."""
    import pyarrow as pa  # takes long to load

    from ffdi.intake.table_files.parquet_file import write_rows

    kinds = {"score": pa.float64(), "spread": pa.float64(), "unlike": pa.bool_(), "frame": pa.float64()}
    kinds |= {"track": pa.int64(), "frames": pa.int64(), "seconds": pa.float64()}
    columns = record(names, nothing(names, faces))
    kind_of = {name: kinds.get(name, kinds.get(name.partition("_")[0], pa.string())) for name in columns}
    escaped = (
        {**of, "path": of["path"].encode(errors="backslashreplace").decode()}
        for of in (record(names, row) for row in rows)
    )
    write_rows(out, pa.schema(list(kind_of.items())), escaped)


def write_aligned(
    names: Sequence[str], rows: Iterable[Row], text: TextIO, *, longest: int, width: int, faces: bool = False
) -> None:
    """Columns that a reader takes in at a glance: `width` is the terminal's, `longest` that of the longest name.

    Names that are too long are cut in the middle, and what would act on a terminal is escaped. With `faces`, the rows of
    people stand below that of their file where there are several.
    """
    one = len(names) == 1
    head = f"score  {'verdict':<9}  spread" if one else "  ".join(_fitted(name, _OF_MODEL) for name in names)
    more = f"  {'frames':>6}  {'±':>5}  most fake at" if faces else ""
    room = max(_NARROWEST, min(longest, width - len(head) - 4 - (len(more) + _BOX if faces else len(UNLIKE))))
    rows = iter(_without_lone_people(rows) if faces else rows)
    first = list(islice(rows, 1))  # lines about what computes come before the table
    text.write(f"{_fitted('path', room)}  {head}{more}".rstrip() + "\n")
    for row in chain(first, rows):
        name = _fitted(printable(row[0].path) if (person := track_of(row)) is None else f"  person {person}", room)
        text.write(f"{name}  {_cells(names, row)}".rstrip() + "\n")
        text.flush()


def _without_lone_people(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows without that of a person who is alone in a file: it says the same."""
    waiting: list[Row] = []
    for row in rows:
        if track_of(row) is None:
            waiting = []
            yield row
            continue
        waiting.append(row)
        if len(waiting) > 1:
            yield from waiting if len(waiting) == 2 else waiting[-1:]


def _cells(names: Sequence[str], row: Row) -> str:
    if row[0].score is None:
        return printable(row[0].reason or "")
    unlike = [name for name, judgement in zip(names, row, strict=True) if judgement.unlike]
    mark = UNLIKE + (f" of {', '.join(unlike)}" if len(row) > 1 else "") if unlike else ""
    if len(row) == 1:
        spread = "" if row[0].spread is None else f"{row[0].spread:.3f}"
        cells = f"{row[0].score:.3f}  {row[0].verdict or '':<9}  {spread:>6}"
    else:
        cells = "  ".join(f"{judgement.score:.3f} {judgement.verdict or '':<9}" for judgement in row)
    return "  ".join(filter(None, [cells, *_face_cells(row[0]), mark]))


def _face_cells(face: Judgement) -> list[str]:
    """Of a row of faces: how many crops, the spread of their scores, and where the most fake one is."""
    if not isinstance(face, FaceJudgement):
        return []
    apart = "" if face.frame_spread is None else f"{face.frame_spread:.3f}"
    at = "" if face.seconds is None else f"{face.seconds:.1f} s, "
    return [f"{face.frames:>6}", f"{apart:>5}", f"{at}{face.box}"]


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
