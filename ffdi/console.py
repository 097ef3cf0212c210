"""How the library reports to its user: one-line messages and progress. It never prints by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Say = Callable[[str], None]
Note = Callable[[], str]


class Progress(Protocol):
    """Yield `items` unchanged while a display counts them up to `total`. An array counts as its number of rows.

    `phase` tells the parts of one piece of work apart, such as `search`; `note` says what else there is to show now.
    """

    def __call__(
        self, items: Iterable[Item], total: int, *, unit: str = "images", phase: str = "", note: Note | None = None
    ) -> Iterable[Item]: ...


def _silent(line: str) -> None:
    pass


def _unseen(
    items: Iterable[Item], total: int, *, unit: str = "images", phase: str = "", note: Note | None = None
) -> Iterable[Item]:
    return items


@dataclass(frozen=True)
class Console:
    """Where a long piece of work says what it does. By default it is silent: `Console()`.

    Warnings go where all lines go, or to `alert`.
    """

    say: Say = _silent
    progress: Progress = _unseen
    alert: Say | None = None

    def warn(self, line: str) -> None:
        """Say what the user should know even where the other lines are not shown."""
        (self.alert or self.say)(line)


@contextmanager
def only_errors(logger: str | None = None, level: int = logging.ERROR) -> Iterator[None]:
    """The logger of another's library, by default that of all, says nothing below `level` meanwhile."""
    named = logging.getLogger(logger)
    before = named.level
    named.setLevel(level)
    try:
        yield
    finally:
        named.setLevel(before)
