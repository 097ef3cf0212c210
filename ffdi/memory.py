"""How much memory a process may use, how it keeps what it frees, and when Python looks for garbage in it."""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ffdi.container import control_group_settings


def memory_limit(system: Path = Path("/")) -> float:
    """The bytes that the container lets its processes use; infinite where there is no container or no limit."""
    v2 = control_group_settings(system, "", "memory.max")
    v1 = control_group_settings(system, "memory", "memory.limit_in_bytes")
    return min((float(value) for value in (*v2, *v1) if value.isdigit()), default=math.inf)


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage in the body, which makes many objects and no cycles: imports, or lists of a row an image.

    torch's objects cost a tenth of a start. Python counts objects, not the items of a list, before it looks at all of
    them again, so that with ten million rows a third of the time went to that.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def only_new_collected() -> Iterator[None]:
    """In the body, the search for garbage passes over what is there now, such as lists of a row an image."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next allocation, for the rest of the process. Does nothing elsewhere.

    A training step allocates and frees some hundred MB of activations. If they were given back to the system, every
    page would be mapped and zeroed again, which takes a fifth to a third of the time of a MobileNetV2 tail on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h
