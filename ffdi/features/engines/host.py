"""A worker on a cluster, seen from within: it makes its work once, and does it for one item after another."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ffdi.errors import FfdiError, one_line, said

Tell = Callable[[Any], None]  # what a worker calls to tell the driver something in the midst of its work


@dataclass(frozen=True)
class Opened:
    """A worker's name, and why it cannot work if it cannot. What its work says `about` itself must be the same for all."""

    name: str
    error: FfdiError | None
    about: Any = None


@dataclass(frozen=True)
class Attempt:
    """What became of a try: its result or its error, and what the worker told since it was last asked."""

    result: Any
    error: FfdiError | None
    told: tuple[Any, ...] = ()


class Host:
    """The object that lives on a worker. Its methods raise nothing: other libraries' tracebacks stay where they are."""

    def __init__(self, make_work: Callable[[], Callable[[Any, Tell], Any]], gpus: float) -> None:
        self._make_work, self._gpus = make_work, gpus
        self._told: dict[int, list[Any]] = {}

    def open(self) -> Opened:
        """Make the work."""
        if not self._gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is not this worker's must not decide its bytes
        os.environ.pop("OMP_NUM_THREADS", None)  # of Ray: threads, and so bytes, are those of the work's own settings
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            self._work = self._make_work()
        except Exception as error:
            return Opened(host_name(), as_ffdi_error(error))
        return Opened(host_name(), None, getattr(self._work, "about", None))

    def work(self, number: int, item: Any) -> Attempt:
        """Work on an item; `number` is its number among all."""
        told = self._told[number] = []
        try:
            result, error = self._work(item, told.append), None
        except Exception as raised:
            result, error = None, as_ffdi_error(raised)
        del self._told[number]
        return Attempt(result, error, tuple(told))

    def told(self) -> list[tuple[int, Any]]:
        """What the items in hand have told since this was last asked, by their numbers."""
        heard = []
        for number, told in list(self._told.items()):
            while told:
                heard.append((number, told.pop(0)))
        return heard


def host_name() -> str:
    """The name of this process among the workers: its machine and its PID."""
    return f"{socket.gethostname()}:{os.getpid()}"


def as_ffdi_error(error: Exception) -> FfdiError:
    """The error on one line; where it is a fault of the code, with its place there."""
    if isinstance(error, FfdiError):
        return type(error)(str(error))
    if isinstance(error, OSError):
        return FfdiError(f"{error.filename}: {said(error)}" if error.filename else said(error))
    if isinstance(error, MemoryError):
        return FfdiError("out of memory: set fewer workers a node by a higher cpus_per_task, or a smaller batch_size")
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" in {last[0].filename}:{last[0].lineno}" if last else ""
    return FfdiError(f"{type(error).__name__}: {one_line(error)}{place}")
