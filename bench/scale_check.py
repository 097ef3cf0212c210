"""Is the simulation to be believed? What it says of 1 and 2 workers here, beside Ray with 1 and 2 workers."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cluster_model import Cluster as SimulatedCluster
from cluster_model import Costs, Job, simulate
from page import machine
from scale_inputs import MAX_PIXELS, Lab, write_and_seal

from ffdi.features.engines.ray import Cluster
from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.settings import ExtractSettings, RaySettings
from ffdi.intake.decoding.images import ImageSource

BACKBONE, VIEWS, SHARD_ROWS = "mobilenet_v2", 5, 96
ITEMS = 300


@dataclass(frozen=True)
class Nothing:
    """Makes a worker that gives its items back."""

    def __call__(self) -> Callable[[int, object], int]:
        return _same


def _same(item: int, tell: object) -> int:
    return item


def task_seconds() -> float:
    """Seconds of the driver a task that does nothing, its way there and back included; one worker, two at a time."""
    settings = RaySettings(address="local", cpus_per_task=1, max_in_flight=1)
    with Cluster(settings) as cluster:
        done = cluster.map(Nothing(), list(range(ITEMS)), at_once=2)
        next(done)
        started = time.perf_counter()
        for _ in done:
            pass
        return (time.perf_counter() - started) / (ITEMS - 1)


def extracted(lab: Lab, engine: ExtractSettings) -> ExtractionSummary:
    """All images with their views, from nothing."""
    images = lab.table().assign(role="train")
    with tempfile.TemporaryDirectory() as folder:
        source = ImageSource(lab.root, MAX_PIXELS)
        return extract_features(
            images, lab.extractor(BACKBONE, VIEWS), Path(folder) / "x", source=source, settings=engine
        )


def engines() -> dict[str, ExtractSettings]:
    """Each engine with one core and with two, in the same shards."""
    plain = ExtractSettings(shard_rows=SHARD_ROWS)
    on_ray = [RaySettings(address="local", cpus_per_task=1, gpus_per_task=0, max_in_flight=n) for n in (1, 2)]
    return {
        "local, 1 thread": replace(plain, workers=1),
        "local, 2 threads": replace(plain, workers=2),
        "ray, 1 worker": replace(plain, engine="ray", ray=on_ray[0]),
        "ray, 2 workers": replace(plain, engine="ray", ray=on_ray[1]),
    }


def check(lab: Lab, inputs: Path, runs: int) -> Iterator[str]:
    """The lines of docs/scale.md; the driver's seconds a task go into `inputs`."""
    load = os.getloadavg()[0]
    task = task_seconds()
    if inputs.exists():
        inputs.write_text(json.dumps(json.loads(inputs.read_text()) | {"task": task}, indent=2) + "\n")
    rounds = [{name: extracted(lab, engine).seconds for name, engine in engines().items()} for _ in range(runs)]
    count = len(lab.table())
    rows = count * (VIEWS + 1)
    write, seal = write_and_seal(lab, BACKBONE, SHARD_ROWS)

    def middle(name: str, part: str) -> float:
        return statistics.median(one[name][part] for one in rounds)

    one, two = "local, 1 thread", "local, 2 threads"
    crowded = statistics.median(each[two]["prefix"] / each[one]["prefix"] for each in rounds)
    costs = Costs(
        decode=middle(one, "decode") / count,
        view=middle(one, "views") / rows,
        prefix=middle(one, "prefix") / rows,
        write=write,
        seal=seal,
        plan=0.0,
        task=task,
        start=0.0,
    )
    job = Job(count, VIEWS + 1, 0.0, lab.extractor(BACKBONE, VIEWS).spec.row_bytes, SHARD_ROWS)

    def simulated(workers: int, slower: float) -> float:
        here = SimulatedCluster(workers, workers, cores=1, prefix_on_cores=True)
        slow = replace(
            costs, **{part: getattr(costs, part) * slower for part in ("decode", "view", "prefix", "write", "seal")}
        )
        return simulate(job, slow, here).seconds

    yield f"{machine()}; {rows:,} rows of {BACKBONE} in shards of {SHARD_ROWS}; medians of {runs} rounds."
    if load > 1:
        yield f"**Other programs ran on this machine (load {load:.1f}), which no simulation knows of: to be repeated.**"
    yield ""
    yield "| | seconds, measured here | simulated from the parts of 1 thread | error | and both cores at work | error |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name in engines():
        workers = 2 if "2" in name else 1
        seen, plain = middle(name, "work"), simulated(workers, 1.0)
        busy = simulated(workers, crowded if workers == 2 else 1.0)
        yield f"| {name} | {seen:.2f} | {plain:.2f} | {plain / seen - 1:+.1%} | {busy:.2f} | {busy / seen - 1:+.1%} |"
    yield ""
    yield (
        f"With both cores at work, the prefix of a row takes {crowded:.2f} times as long as with one (local engine). "
        f"A task that does nothing takes the driver {task * 1e3:.1f} ms; the first rows came {middle('ray, 1 worker', 'start'):.1f} s "
        f"after Ray was asked to start, and {middle('ray, 2 workers', 'start'):.1f} s with two workers."
    )
