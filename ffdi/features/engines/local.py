"""Run an extraction's tasks on this machine's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ffdi.parallel import cpu_count, ordered_map

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    mapper: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int | None, waiting: int
) -> Iterator[Result]:
    """Yield mapper(task) in order; memory is bounded by the tasks under way and `waiting` (see ordered_map)."""
    workers = workers or cpu_count()
    return ordered_map(mapper, tasks, workers, max(waiting, 2 * workers))
