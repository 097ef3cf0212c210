"""How many processors this process may use, and an ordered map over threads that holds a bounded number of results.

Threads are enough: decoding and inference release Python's lock.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TypeVar

from ffdi.container import control_group_settings
from ffdi.memory import memory_limit

Item = TypeVar("Item")
Result = TypeVar("Result")


MOST_WORKERS = 64  # decoding threads: more of them would only wait for Python's lock
_AHEAD_BYTES = 1 << 30  # of all tasks that are running or waiting, however many processors there are


def cpu_count(system: Path = Path("/")) -> int:
    """The processors this process may use: taskset or a container's quota may allow fewer than the machine has."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _cpu_quota(system))))


def worker_count() -> int:
    """How many threads a stage uses for its images."""
    return min(cpu_count(), MOST_WORKERS)


def tasks_ahead(workers: int, task_bytes: int, spare: int = 0, system: Path = Path("/")) -> int:
    """How many tasks of `task_bytes` may wait in ordered_map, at least one.

    Two for each worker, or `spare` if that is more, but at most 1 GB or an eighth of a container's memory in all.
    """
    most = min(_AHEAD_BYTES, memory_limit(system) / 8)
    return max(1, min(max(2 * workers, spare), int(most // task_bytes)))


def _cpu_quota(system: Path) -> float:
    """Processors' worth of time that the container may use in each period; infinite where there is no limit."""
    quotas = [value.split() for value in control_group_settings(system, "", "cpu.max")]  # "150000 100000", "max 100000"
    v1 = (control_group_settings(system, "cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    quotas += [[quota, period] for quota, period in zip(*v1, strict=False)]  # -1: no limit
    return min((int(q) / int(p) for q, p in quotas if q.isdigit() and p.isdigit() and int(p)), default=math.inf)


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    waiting: int | None = None,
    ended: Event | None = None,
) -> Iterator[Result]:
    """Yield function(item) in the order of `items`; at most `waiting` + 1 items (2 x workers + 1) are running or done.

    A higher `waiting` keeps the workers busy while the consumer pauses. The first exception ends the map: tasks that
    have not started are cancelled and the exception is raised here, once the others are done; a long task looks at
    `ended`, which is set then, and need not go on.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > (2 * workers if waiting is None else waiting):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        if ended:
            ended.set()
        pool.shutdown(wait=True, cancel_futures=True)


def bounded_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None, item_bytes: int, spare: int = 0
) -> Iterator[Result]:
    """ordered_map with as many items ahead as tasks_ahead allows for `item_bytes` each; all processors by default."""
    workers = workers or worker_count()
    return ordered_map(function, items, workers, tasks_ahead(workers, item_bytes, spare))
