"""Seconds are written beside the results, never among the metrics: they are not compared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ffdi.files import write_json


@contextmanager
def stopwatch(name: str, folder: Path) -> Iterator[dict[str, float]]:
    """Write the wall-clock seconds of the body to `<folder>/<name>.json`.

    What the body puts into the mapping is written beside them. A run that computed nothing (`computed` is 0) leaves the
    times of the last run that did.
    """
    started = time.perf_counter()
    more: dict[str, float] = {}
    yield more
    seconds = {"seconds": time.perf_counter() - started} | more
    if seconds.get("computed") != 0 or not (folder / f"{name}.json").exists():
        write_json(folder / f"{name}.json", {key: round(value, 4) for key, value in seconds.items()})


def stage_seconds_file(stage: str) -> Path:
    """Where a stage that DVC runs leaves the seconds of its last run, such as `train@NAME`, start-up included."""
    return Path("data/timings/stages") / f"{stage}.json"
