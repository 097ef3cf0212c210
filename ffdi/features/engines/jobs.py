"""Items that workers are to work on: which one is next, which are tried again and when, and which have failed."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ffdi.errors import FfdiError

Result = TypeVar("Result")
LONGEST_PAUSE = 60.0  # seconds between two tries


@dataclass(frozen=True)
class Failure:
    """What a worker met, after which try."""

    worker: str
    error: FfdiError
    tries: int


def pause_after(tries: int, first: float = 1.0) -> float:
    """Seconds to wait after so many tries that failed: each time twice as long, up to LONGEST_PAUSE."""
    return min(LONGEST_PAUSE, first * 2.0 ** min(tries - 1, 16))


class Jobs(Generic[Result]):
    """The items 0 to `count` - 1, each of which is tried up to `retries` + 1 times, with a pause in between.

    Items are begun in their order; those that are to be tried again come as soon as their pause is over. `results` are the
    caller's to take.
    """

    def __init__(
        self, count: int, retries: int, *, pause: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.results: dict[int, Result] = {}
        self.failures: dict[int, Failure] = {}
        self.left = count  # how many have neither a result nor failed
        self._count, self._retries, self._pause, self._clock = count, retries, pause, clock
        self._fresh = 0
        self._again: list[tuple[float, int]] = []  # a heap: when, which
        self._tries: dict[int, int] = {}

    @property
    def waiting(self) -> int:
        """How many items no worker has in its hands."""
        return self._count - self._fresh + len(self._again)

    def next(self) -> int | None:
        """An item that may begin now; None when there is none."""
        if self._again and self._again[0][0] <= self._clock():
            return heapq.heappop(self._again)[1]
        if self._fresh < self._count:
            self._fresh += 1
            return self._fresh - 1
        return None

    def done(self, number: int, result: Result) -> None:
        """An item has its result."""
        self._tries.pop(number, None)
        self.results[number] = result
        self.left -= 1

    def failed(self, number: int, worker: str, error: FfdiError) -> bool:
        """A try failed; whether there will be another one."""
        tries = self._tries[number] = self._tries.get(number, 0) + 1
        if tries > self._retries:
            self.failures[number] = Failure(worker, error, tries)
            self.left -= 1
            return False
        heapq.heappush(self._again, (self._clock() + pause_after(tries, self._pause), number))
        return True
