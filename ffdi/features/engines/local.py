"""Run an extraction's tasks on this machine's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ffdi.parallel import ordered_map, tasks_ahead, worker_count

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    mapper: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int | None, task_bytes: int, spare: int = 0
) -> Iterator[Result]:
    """Yield mapper(task) in order; memory is bounded by what tasks_ahead says of tasks of `task_bytes`."""
    workers = workers or worker_count()
    return ordered_map(mapper, tasks, workers, tasks_ahead(workers, task_bytes, spare))
