"""What the workers of an extraction have done, in one progress bar: rows, failed shards, and the rate of each worker."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ffdi.console import Console
from ffdi.features.engines.jobs import Failure
from ffdi.features.shard_task import ShardTask


class Computed(NamedTuple):
    """How many rows of its shard a worker has computed in this try."""

    worker: str
    rows: int


class ShardTally:
    """Counts the rows that workers tell of, each row once, however often a shard is tried."""

    def __init__(self, total: int, console: Console) -> None:
        self._console = console
        self._rows: dict[str, int] = {}  # shown, by shard in hand
        self._by_worker: dict[str, tuple[float, int]] = {}  # since when, and rows since then
        self._last: dict[str, int] = {}  # what a worker told last of a shard
        self._failed = 0
        self._steps: deque[int] = deque()
        self._bar = iter(console.progress(self._blocks(), total, unit="views", note=self._note))

    def hear(self, task: ShardTask, told: Any) -> None:
        """A worker has computed rows of a shard, has a line to say, or its shard failed for good."""
        if isinstance(told, str):
            self._console.warn(told)
        elif isinstance(told, Failure):
            self._failed += 1
        elif isinstance(told, Computed):
            self._count(task, told)

    def _count(self, task: ShardTask, told: Computed) -> None:
        now = time.perf_counter()
        since, rows = self._by_worker.setdefault(told.worker, (now, 0))
        last = self._last.get(task.name, 0)
        self._by_worker[told.worker] = since, rows + max(0, told.rows - last)
        self._last[task.name] = told.rows
        self._show(task, told.rows)

    def finish(self, task: ShardTask) -> None:
        """A shard is done."""
        self._show(task, len(task.missing))
        self._rows.pop(task.name, None)
        self._last.pop(task.name, None)

    def close(self) -> None:
        """End the bar."""
        self._steps.append(0)
        next(self._bar, None)
        next(self._bar, None)

    def _show(self, task: ShardTask, rows: int) -> None:
        shown = self._rows.get(task.name, 0)
        if rows > shown:
            self._rows[task.name] = rows
            self._steps.append(rows - shown)
            next(self._bar, None)

    def _blocks(self) -> Iterator[Any]:
        """An array of as many rows for each step; a step of none is the last."""
        while self._steps and (rows := self._steps.popleft()):
            yield np.empty((rows, 0))

    def _note(self) -> str:
        now = time.perf_counter()
        rates = [
            f"{name} {rows / (now - since):.0f}/s" for name, (since, rows) in self._by_worker.items() if now > since
        ]
        return ", ".join([*([f"{self._failed} shards failed"] if self._failed else []), *rates[:8]])
