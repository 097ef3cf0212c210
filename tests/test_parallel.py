"""The bounded, ordered map."""

import ctypes
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ffdi.parallel import cpu_count, ordered_map


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


def test_cpu_count_is_this_process_s_own() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone manages memory so")
def test_freed_memory_is_kept_for_the_next_allocation() -> None:
    """Pages that are mapped anew are faults: 100 blocks of 64 MB in turn take those of the first one alone, of 16,384."""
    code = """
import resource, sys
import numpy as np
from ffdi.parallel import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(100):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
    given = [subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True) for how in ("keep", "-")]
    kept, returned = (int(done.stdout) for done in given)
    assert kept < returned / 2
