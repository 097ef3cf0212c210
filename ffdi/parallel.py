"""What a process has of the machine, and a bounded, ordered map over threads, for decoding and inference leave Python's lock."""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


MOST_WORKERS = 64  # threads that decode: more of them would only wait for Python's lock
_AHEAD_BYTES = 1 << 30  # of all tasks that are under way or wait, however many processors there are


def cpu_count(system: Path = Path("/")) -> int:
    """The processors this process may use, which taskset or a container's quota may have made fewer than the machine's."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _cpu_quota(system))))


def worker_count() -> int:
    """How many threads share out a stage's images."""
    return min(cpu_count(), MOST_WORKERS)


def tasks_ahead(workers: int, task_bytes: int, spare: int = 0, system: Path = Path("/")) -> int:
    """How many tasks of `task_bytes` may wait in ordered_map, at least one.

    Two a worker, or `spare` of them where those are more, but never beyond a GB, or an eighth of a container's memory.
    """
    most = min(_AHEAD_BYTES, memory_limit(system) / 8)
    return max(1, min(max(2 * workers, spare), int(most // task_bytes)))


def memory_limit(system: Path = Path("/")) -> float:
    """The bytes that the container lets its processes have; infinite where there is no container or no limit."""
    found = [*_settings(system, "", "memory.max"), *_settings(system, "memory", "memory.limit_in_bytes")]
    return min((float(value) for value in found if value.isdigit()), default=math.inf)


def _cpu_quota(system: Path) -> float:
    """Processors' worth of time that the container may have in each period; infinite where there is no limit."""
    quotas = [value.split() for value in _settings(system, "", "cpu.max")]  # "150000 100000", "max 100000"
    v1 = (_settings(system, "cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    quotas += [[quota, period] for quota, period in zip(*v1, strict=False)]  # -1: no limit
    return min((int(q) / int(p) for q, p in quotas if q.isdigit() and p.isdigit() and int(p)), default=math.inf)


def _settings(system: Path, controller: str, name: str) -> list[str]:
    """The values of a setting of this process's control group and of those around it; of version 2 for no `controller`.

    Linux binds a group by its parents' limits too. A container sees its own group as the root.
    """
    found = []
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:  # "0::/user.slice/x" or "4:cpu,cpuacct:/docker/x"
        _, controllers, group = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        own = Path(group.lstrip("/"))
        for mounted in dict.fromkeys((controllers, controller)):
            for place in (own, *own.parents):
                try:
                    found.append(
                        (system / "sys/fs/cgroup" / mounted / place / name).read_text(encoding="ascii").strip()
                    )
                except OSError:
                    continue
    return found


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next allocation, for the rest of the process; elsewhere nothing.

    A step of training frees and asks for some hundred MB of activations. Given back to the system, each page of them is
    mapped and cleared anew: a fifth to a third of the time of a MobileNetV2 tail on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, waiting: int | None = None
) -> Iterator[Result]:
    """Yield function(item) in the order of `items`; at most `waiting` + 1 items (2 x workers + 1) are under way or done.

    More may wait where the consumer pauses, so that the workers do not pause with it. The first exception ends the map:
    tasks not yet started are cancelled and it is raised here.
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
        pool.shutdown(wait=True, cancel_futures=True)


class Parts:
    """Seconds spent in each part of some work, summed over the threads that do it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the body to `part`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started
