"""The bounded, ordered map."""

import ctypes
import itertools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffdi.memory import memory_limit
from ffdi.parallel import bounded_map, cpu_count, ordered_map, tasks_ahead, worker_count


@pytest.mark.parametrize("workers", [1, 3])
def test_order_is_kept_whatever_finishes_first(workers: int) -> None:
    def slow_when_even(item: int) -> int:
        time.sleep(0.002 * (item % 2 == 0))
        return item * item

    assert list(ordered_map(slow_when_even, range(30), workers)) == [i * i for i in range(30)]
    assert list(ordered_map(slow_when_even, [], workers)) == []


def test_no_more_is_taken_than_is_needed() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for item in itertools.count(1):
            taken.append(item)
            yield item

    results = ordered_map(lambda item: item, endless(), workers=2)
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    assert len(taken) == 3 + 2 * 2  # the three given out and twice the workers beyond
    results.close()


def test_the_first_error_ends_it() -> None:
    started: list[int] = []

    def fail_on_two(item: int) -> int:
        started.append(item)
        if item == 2:
            raise ValueError("two")
        if item == 3:
            time.sleep(0.3)  # under way when the error is met: it may end, and nothing follows it
        return item

    results = ordered_map(fail_on_two, range(1000), workers=1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert set(started) <= {0, 1, 2, 3}


def test_a_long_task_hears_that_the_map_has_ended() -> None:
    ended = threading.Event()

    def task(number: int) -> bool:
        if number == 0:
            raise ValueError
        return ended.wait(60)  # seconds

    started = time.perf_counter()
    with pytest.raises(ValueError):
        list(ordered_map(task, range(2), workers=2, ended=ended))
    assert time.perf_counter() - started < 30


def test_cpu_count_is_this_process_s_own() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone manages memory so")
def test_freed_memory_is_kept_for_the_next_allocation() -> None:
    """Pages that are mapped anew are faults: 100 blocks of 64 MB in turn take those of the first one alone, of 16,384 (32 where pages are huge)."""
    code = """
import resource, sys
import numpy as np
from ffdi.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()  # of imports
for _ in range(100):
    np.ones(2**23)
print(faults() - before)
"""
    given = [subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True) for how in ("keep", "-")]
    kept, returned = (int(done.stdout) for done in given)
    assert kept < returned / 2


def system(folder: Path, files: dict[str, str]) -> Path:
    """A file tree such as Linux shows to a container."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder


V1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/"
CONTAINERS = [
    ({}, 128, math.inf),  # no Linux
    ({"proc/self/cgroup": "0::/"}, 128, math.inf),
    (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"},
        128,
        math.inf,
    ),
    (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000", "sys/fs/cgroup/memory.max": "4096"},
        2,
        4096,
    ),
    ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2, math.inf),  # one and a half: two
    ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "5000 100000"}, 1, math.inf),
    (  # a pod's limit binds what is nested in it
        {
            "proc/self/cgroup": "0::/pod/own",
            "sys/fs/cgroup/pod/own/cpu.max": "max 100000",
            "sys/fs/cgroup/pod/own/memory.max": "max",
            "sys/fs/cgroup/pod/cpu.max": "400000 100000",
            "sys/fs/cgroup/pod/memory.max": "8192",
            "sys/fs/cgroup/cpu.max": "max 100000",
        },
        4,
        8192,
    ),
    (  # the path is the host's, the container sees its own group as the root
        {"proc/self/cgroup": "0::/kubepods/x", "sys/fs/cgroup/cpu.max": "300000 100000"},
        3,
        math.inf,
    ),
    (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "600000",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "1000",
        },
        6,
        1000,
    ),
    (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        128,
        math.inf,
    ),
]


@pytest.mark.parametrize(("files", "processors", "memory"), CONTAINERS)
def test_a_container_s_limits_are_kept(
    files: dict[str, str], processors: int, memory: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(128)), raising=False)
    where = system(tmp_path, files)
    assert cpu_count(where) == processors and memory_limit(where) == memory


def test_the_tighter_of_taskset_and_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    where = system(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "800000 100000"})
    assert cpu_count(where) == 2


def test_what_waits_is_bounded_in_bytes_however_many_workers(tmp_path: Path) -> None:
    """Wide ResNet's batch of 64 is 26 MB of features and 10 MB of images: 128 workers with two each had 9 GB."""
    mb, gb = 10**6, 2**30
    assert tasks_ahead(16, 1 * mb) == 32 and tasks_ahead(2, mb, spare=512) == 512  # two a worker, or what may be spare
    assert tasks_ahead(128, 36 * mb) == 29 and 29 * 36 * mb < gb < 30 * 36 * mb
    assert tasks_ahead(4, mb, spare=10**6) == gb // mb
    assert tasks_ahead(4, 5 * gb) == 1
    small = system(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(800 * mb)})
    assert tasks_ahead(16, 10 * mb, system=small) == 10


def test_a_run_holds_no_more_tasks_than_the_bytes_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffdi.parallel._AHEAD_BYTES", 3000)
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = bounded_map(lambda item: item, tasks(), workers=16, item_bytes=1000)
    assert next(results) == 0 and len(taken) == 4  # three wait, and the one that was given out
    assert list(results) == list(range(1, 100))


def test_threads_that_decode_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffdi.parallel.cpu_count", lambda: 128)
    assert worker_count() == 64
