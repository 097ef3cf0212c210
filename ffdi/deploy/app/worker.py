"""The process that holds the model and judges one picture at a time.

Pictures from strangers are decoded here, apart from the server: a file that hangs a decoder, or ends it, costs this
process, which is then started afresh. Bytes of the file go in, a status and JSON come out; nothing is pickled on the way.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ffdi.errors import FfdiError, one_line, printable

START_SECONDS = 600  # to read a model: a large one from a slow disk
_OK, _FAILED = b"200", b"500"


class Answer(NamedTuple):
    """What the browser gets: an HTTP status and JSON."""

    status: int
    body: bytes


class Judging(Protocol):
    """A model that answers for a file with an HTTP status and what the page is told. `facts` are those of the page."""

    facts: Mapping[str, Any]

    def __call__(self, data: bytes) -> tuple[int, Mapping[str, Any]]: ...


def refusal(status: int, sentence: str) -> Answer:
    """An answer that says why there is no verdict."""
    return Answer(status, json.dumps({"error": sentence}).encode())


def judge_of(model: Path, max_pixels: int) -> Callable[[], Judging]:
    """What the process calls to read a model; it imports torch only there."""
    return partial(_read_judge, model, max_pixels)


def _read_judge(model: Path, max_pixels: int) -> Judging:
    from ffdi.deploy.app.judging import Judge

    return Judge(model, max_pixels)


class JudgingProcess:
    """A model in a process of its own. One thread at a time is answered; others wait.

    The process calls `read` for the model: a function that pickle can name. Raises FfdiError when it cannot be read.
    A picture that takes more than `seconds` ends the process.
    """

    def __init__(self, read: Callable[[], Judging], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._turn = threading.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self.facts: Mapping[str, Any] = self._start()

    def ask(self, data: bytes) -> Answer:
        """The verdict on a file, or why there is none: also when its time is up, or when the process ends over it."""
        with self._turn:
            try:
                if self._process is None or not self._process.is_alive():
                    self._start()
                assert self._pipe is not None
                self._pipe.send_bytes(data)
                if not self._pipe.poll(self._seconds):
                    self.close()
                    return refusal(504, f"This picture was given up after {self._seconds:g} seconds.")
                return Answer(int(self._pipe.recv_bytes()), self._pipe.recv_bytes())
            except (EOFError, OSError):
                self.close()
                return refusal(500, "The process that judges ended over this picture. The next one gets a new process.")
            except FfdiError as error:  # its message may name a folder, so the browser does not get it
                tell_operator(error)
                return refusal(500, "The model can no longer be read: see the window where ffdi app runs.")

    def close(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None  # the server may end it while a picture is judged
        if process is not None:
            process.kill()
            process.join()

    def _start(self) -> Mapping[str, Any]:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, inner = spawn.Pipe()
        self._process = spawn.Process(target=_judge_for_ever, args=(self._read, inner), daemon=True)
        self._process.start()
        inner.close()
        try:
            if not self._pipe.poll(START_SECONDS):
                self.close()
                raise FfdiError(f"the model was not read within {START_SECONDS} seconds")
            status, told = self._pipe.recv_bytes(), json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self.close()
            raise FfdiError("the process that reads the model ended: is there enough memory?") from None
        if status != _OK:
            self.close()
            raise FfdiError(told["error"])
        facts: Mapping[str, Any] = told
        return facts


def _judge_for_ever(read: Callable[[], Judging], pipe: Connection) -> None:
    """The process: facts of the model first, then an answer for each file, until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the server ends this process
    try:
        judge = read()
    except FfdiError as error:
        _send(pipe, _FAILED, {"error": str(error)})
        return
    _send(pipe, _OK, judge.facts)
    while True:
        try:
            data = pipe.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        try:
            status, told = judge(data)
        except Exception as error:  # one picture ends no app; the reason is for whoever runs it
            tell_operator(error)
            status, told = 500, {"error": "The model failed on this picture."}
        _send(pipe, str(status).encode(), told)


def _send(pipe: Connection, status: bytes, told: Mapping[str, Any]) -> None:
    pipe.send_bytes(status)
    pipe.send_bytes(json.dumps(told).encode())


def tell_operator(error: Exception) -> None:
    """One line on stderr, where ffdi app runs; a browser never gets it."""
    print(f"ffdi app: {type(error).__name__}: {printable(one_line(error))}", file=sys.stderr, flush=True)
