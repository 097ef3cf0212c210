"""The process that judges: it survives what a picture does to it, and it says what `ffdi predict` says."""

from __future__ import annotations

import json
import struct
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Tiny, Trained
from served_app import FACTS, read_light_judge, read_nothing

from ffdi.deploy.app.worker import Answer, JudgingProcess
from ffdi.errors import FfdiError

if TYPE_CHECKING:
    from ffdi.deploy.app.judging import Judge


def told(answer: Answer) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(answer.body)
    return loaded


def test_it_starts_afresh_after_a_picture_that_hangs_or_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    with closing(JudgingProcess(read_light_judge, 1)) as light:
        check_fresh_starts(light, capfd)


def check_fresh_starts(light: JudgingProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert light.facts == FACTS
    first = told(light.ask(b"12345"))
    assert first["length"] == 5
    failed = light.ask(b"raise")
    assert (failed.status, told(failed)) == (500, {"error": "The model failed on this picture."})
    assert capfd.readouterr().err == "ffdi app: RuntimeError: inside /home/somebody\n"
    assert told(light.ask(b"1"))["process"] == first["process"], "an error of one picture ends no process"
    late = light.ask(b"sleep 60")
    assert (late.status, told(late)["error"]) == (504, "This picture was given up after 1 seconds.")
    second = told(light.ask(b"1"))
    assert second["process"] != first["process"]
    assert light.ask(b"exit").status == 500
    assert told(light.ask(b"1"))["process"] not in (first["process"], second["process"])


def test_a_model_that_cannot_be_read_is_said_at_once() -> None:
    with pytest.raises(FfdiError, match=r"bundle\.json: missing"):
        JudgingProcess(read_nothing, 1)


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels whose data is not there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture(scope="module")
def judge(trained: Trained) -> Judge:
    from ffdi.deploy.app.judging import Judge

    return Judge(trained.model, 10**6)


def test_it_says_what_predict_says(judge: Judge, trained: Trained, tiny: Tiny) -> None:
    from ffdi.deploy.app.judging import MEANING, UNLIKE
    from ffdi.deploy.detector import load

    files = sorted(tiny.root.glob("*.jpg"))[:4]
    table = load(trained.model).predict(files)
    for file, row in zip(files, table.to_dict("records"), strict=True):
        status, found = judge(file.read_bytes())
        assert status == 200
        (answer,) = found["pictures"]
        assert answer["score"] == pytest.approx(row["score"], abs=1e-6)
        assert (answer["verdict"], answer["unlike"]) == (row["verdict"], row["unlike"])
        assert answer["warning"] == (UNLIKE if row["unlike"] else "")
        assert answer["spread"] == pytest.approx(row["spread"], abs=1e-6)
        assert answer["meaning"] == MEANING[answer["verdict"]]
        assert answer["low"] == answer["high"] == answer["threshold"]
        assert answer["picture"].startswith("data:image/jpeg;base64,")
        assert answer["heat"].startswith("data:image/jpeg;base64,")
        assert answer["heat"] != answer["picture"]


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"a letter", 422, "This is no picture that can be read (not an image format that Pillow knows)."),
        (bomb(1001), 413, "This picture has more than 1 megapixels, the most that is judged here."),
        (bomb(60_000), 413, "This picture has more than 1 megapixels, the most that is judged here."),
        (bomb(100), 422, None),
    ],
    ids=["letter", "bomb", "bomb for Pillow", "no pixels"],
)
def test_what_is_no_picture_is_told_so(judge: Judge, data: bytes, status: int, sentence: str | None) -> None:
    found, answer = judge(data)
    assert found == status
    assert sentence in (None, answer["error"])
    assert "/" not in answer["error"]
