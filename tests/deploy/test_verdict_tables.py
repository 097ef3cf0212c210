"""Judgements as text, each line by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffdi.deploy.judgement import Judgement, Tally
from ffdi.deploy.verdict_tables import write_aligned, write_csv, write_jsonl, write_parquet

ONE = [
    (Judgement("a.jpg", 0.25, "real", 0.125, False),),
    (Judgement("photos/of/a/long/journey/0001.jpg", 0.9996, "fake", None, True),),
    (Judgement('b\n"c".jpg', reason="empty file"),),
    (Judgement("人人人人人人人人人人人.jpg", 0.5, "undecided", 0.0, None),),
]
TWO = [
    (Judgement("a.jpg", 0.25, "real", 0.1, None), Judgement("a.jpg", 0.75, "fake", None, True)),
    (Judgement("b.jpg", reason="empty file"), Judgement("b.jpg", reason="empty file")),
]


def written(write: Callable[..., None], *arguments: Any, **options: Any) -> str:
    text = io.StringIO()
    write(*arguments, text, **options)
    return text.getvalue()


def test_a_table_for_readers() -> None:
    assert written(write_aligned, ["m"], ONE, longest=33, width=71).splitlines() == [
        "path                 score  verdict    spread",
        "a.jpg                0.250  real        0.125",
        "photo...ey/0001.jpg  1.000  fake               unlike the training data",
        'b\\n"c".jpg           empty file',
        "人人...人人人人.jpg  0.500  undecided   0.000",  # each of these takes two columns
    ]
    assert written(write_aligned, ["first", "models/second"], TWO, longest=5, width=90).splitlines() == [
        "path              first            models/second",
        "a.jpg             0.250 real       0.750 fake       unlike the training data of models/second",
        "b.jpg             empty file",
    ]


def test_csv_for_programs() -> None:
    """The first three columns are those of the first version, in which the reason stood in `verdict`."""
    assert written(write_csv, ["m"], ONE) == (
        "path,score,verdict,spread,unlike,reason\n"
        "a.jpg,0.250000,real,0.125000,False,\n"
        "photos/of/a/long/journey/0001.jpg,0.999600,fake,,True,\n"
        '"b\n""c"".jpg",,empty file,,,empty file\n'
        "人人人人人人人人人人人.jpg,0.500000,undecided,0.000000,,\n"
    )
    assert written(write_csv, ["x", "y"], TWO) == (
        "path,score_x,verdict_x,score_y,verdict_y,spread_x,spread_y,unlike_x,unlike_y,reason\n"
        "a.jpg,0.250000,real,0.750000,fake,0.100000,,,True,\n"
        "b.jpg,,,,,,,,,empty file\n"
    )


def test_jsonl_for_programs() -> None:
    lines = [json.loads(line) for line in written(write_jsonl, ["m"], ONE).splitlines()]
    facts = {"spread": None, "unlike": None, "reason": "empty file"}
    assert lines[2] == {"path": 'b\n"c".jpg', "score": None, "verdict": None} | facts
    assert (lines[1]["score"], lines[1]["unlike"], lines[3]["path"]) == (0.9996, True, ONE[3][0].path)
    first = json.loads(written(write_jsonl, ["x", "y"], TWO).splitlines()[0])
    assert first["score_x"] == 0.25 and first["verdict_y"] == "fake" and first["spread_x"] == 0.1
    assert (first["unlike_x"], first["unlike_y"], first["reason"]) == (None, True, None)


def test_rows_are_counted_as_they_pass() -> None:
    tally = Tally(1)
    assert list(tally.counted(ONE)) == ONE and (tally.rows, tally.unreadable) == (4, 1)
    assert list(tally.lines(["m"])) == [
        "4 images: 1 fake, 1 real, 1 undecided, 1 unlike the training data, 1 unreadable"
    ]
    tally = Tally(2)
    assert len(list(tally.counted(TWO))) == 2
    assert list(tally.lines(["x", "y"])) == [
        "x: 2 images: 0 fake, 1 real, 1 unreadable",
        "y: 2 images: 1 fake, 0 real, 1 unlike the training data, 1 unreadable",
    ]


def test_parquet_for_programs() -> None:
    for names, rows in ((["m"], ONE), (["x", "y"], TWO)):
        buffer = io.BytesIO()
        write_parquet(names, rows, buffer)
        table = pq.read_table(pa.BufferReader(buffer.getvalue()))
        assert table.to_pylist() == [json.loads(line) for line in written(write_jsonl, names, rows).splitlines()]
        kinds = {str(field.type) for field in table.schema if field.name.startswith(("score", "spread"))}
        assert kinds == {"double"} and table.schema.field("path").type == pa.string()
