"""How the suite shares a machine: a worker a core, each with cores of its own, the longest files first.

conftest imports this module before torch and numpy: both count the cores when they are imported.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffdi.files import locked
from ffdi.parallel import cpu_count, memory_limit

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, ...; none in a run without workers
RAY = "Ray"  # the group of the files that share a cluster
WORKER_BYTES = 3 << 30  # what a worker and the stages that it starts hold


def take_cores() -> None:
    """Bind this worker to its share of the cores, so that torch, the stages and their threads do not wait for others'."""
    if not WORKER or not hasattr(os, "sched_setaffinity"):
        return
    cores, workers = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    share = max(1, len(cores) // workers)
    first = int(WORKER.removeprefix("gw")) * share % len(cores)
    os.sched_setaffinity(0, cores[first : first + share])


take_cores()
gc.disable()  # until the tests and their libraries are imported, none of which is garbage


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: a worker a core, as far as the memory goes. xdist itself would count physical cores."""
    memory = min(memory_limit(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return max(1, min(cpu_count(), int(memory // WORKER_BYTES)))


def group_of(test: str) -> str:
    """What runs in one worker, one after another: a file's tests, and those of all files that share a Ray cluster."""
    file = test.partition("::")[0]
    return RAY if file.endswith("ray.py") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """--dist loadfile hands out groups of tests instead of files."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OfGroups(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return OfGroups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups with the most slow tests come first: a worker that began one last would keep the others waiting."""
    slow = Counter(group_of(item.nodeid) for item in items if item.get_closest_marker("slow"))
    places = {group: place for place, group in enumerate(dict.fromkeys(group_of(item.nodeid) for item in items))}
    items.sort(key=lambda item: (-slow[group_of(item.nodeid)], places[group_of(item.nodeid)]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """No search for garbage goes through what was imported: a million objects, which took a tenth of the time of the suite."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # and seldom through what the tests import later
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()  # else nanobind takes what is left for a leak, and says so


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that the first worker to ask has filled by `make`; the other workers of the run read it."""
    base = factory.getbasetemp()
    folder = (base.parent if WORKER else base) / name
    finished = folder / ".finished"
    with locked(folder.with_name(f"{name}.lock"), wait=True):
        if not finished.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            finished.touch()
    return folder
