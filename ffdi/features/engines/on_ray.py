"""Perform the tasks of an extraction on a Ray cluster: each worker computes one shard while it seals another.

Features never go through Ray: a worker writes its shards where they are to lie, and answers with their entries.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from ffdi.console import Console
from ffdi.features.compute import FeatureComputer
from ffdi.features.engines.engine import EngineResult
from ffdi.features.engines.host import Tell, host_name
from ffdi.features.engines.ray import Cluster
from ffdi.features.engines.same_machine import Machine
from ffdi.features.engines.tally import Computed, ShardTally
from ffdi.features.extractor import Extractor
from ffdi.features.feature_spec import Features
from ffdi.features.image_views import ImageFiles
from ffdi.features.settings import ExtractSettings
from ffdi.features.shard_index import Maker, ShardEntry
from ffdi.features.shard_task import BlockReader, ShardTask, find_shard, run_shard
from ffdi.intake.decoding.images import ImageSource
from ffdi.timing import PartTimer

_AT_ONCE = 2  # shards of a worker: one is computed, one is sealed


class TaskWithImages(NamedTuple):
    """What a worker gets: a task with the files of those images alone that it computes rows of."""

    task: ShardTask
    images: ImageFiles


class ShardResult(NamedTuple):
    """A shard that is done, what computed its rows, the seconds of each part and of all, and what the decoder fell back on."""

    entry: ShardEntry
    made_by: tuple[Maker, ...]
    seconds: Mapping[str, float]
    took: float
    fallbacks: str


def run_on_ray(
    tasks: Sequence[ShardTask],
    extractor: Extractor,
    images: ImageFiles,
    settings: ExtractSettings,
    console: Console,
) -> EngineResult:
    """Whichever worker is free takes the next shard; entries come in the order of the tasks.

    A shard that fails in all its tries is named with its worker and image once all others are done. They stay, and the
    next run computes the rest alone.
    """
    started = time.perf_counter()
    tally = ShardTally(sum(len(task.missing) for task in tasks), console)
    results: list[ShardResult] = []
    begun = math.inf
    with Cluster(settings.ray, console) as cluster, Machine.here(extractor, tasks, images) as machine:
        share = cluster.share
        threads = settings.workers if settings.workers != "auto" else max(1, int(share["num_cpus"]))
        parts = f"{share['num_cpus']:g} CPUs and {share['num_gpus']:g} GPUs"
        by = f", and computes by {extractor.spec.policy['runtime']}" if extractor.backbone.has_prefix else ""
        console.warn(f"Ray: each worker takes {parts}{by}")
        done = cluster.map(
            ShardWork(extractor, images.source, threads, machine),
            tasks,
            packed=lambda task: TaskWithImages(task, images.of(task.missing)),
            named=lambda task: task.name,
            heard=tally.hear,
            at_once=_AT_ONCE,
        )
        with closing(done), closing(tally):
            for task, result in done:
                tally.finish(task)
                results.append(result)
                begun = min(begun, time.perf_counter() - result.took)
    for line in sorted({result.fallbacks for result in results if result.fallbacks}):
        console.warn(line)
    return _joined(results, min(begun, time.perf_counter()) - started)


def _joined(results: Sequence[ShardResult], start: float) -> EngineResult:
    """The result of all; `start` is the seconds until a worker began. The other parts are summed over them."""
    seconds = {"start": start}
    for result in results:
        for part, spent in result.seconds.items():
            seconds[part] = seconds.get(part, 0.0) + spent
    made_by = tuple(maker for result in results for maker in result.made_by)
    return EngineResult(tuple(result.entry for result in results), made_by, seconds)


@dataclass(frozen=True)
class ShardWork:
    """Makes what a worker does with tasks: it opens the runtime once."""

    extractor: Extractor
    source: ImageSource
    threads: int
    machine: Machine

    def __call__(self) -> Callable[[TaskWithImages, Tell], ShardResult]:
        """ShardError when this worker would not compute the features of the driver, or does not see its files."""
        extractor = self.machine.extractor_here(self.extractor)
        return _ShardWorker(extractor, ImageFiles(self.source, {}), self.threads)


class _ShardWorker:
    """Computes one shard at a time; another one may be sealed meanwhile."""

    def __init__(self, extractor: Extractor, images: ImageFiles, threads: int) -> None:
        self._timer, self._threads = PartTimer(), threads
        self._lines: list[str] = []
        self._computer = FeatureComputer(extractor, images, self._timer, Console(say=self._lines.append))
        self._turn, self._sealing = threading.Lock(), ThreadPoolExecutor(1)
        self.about = {key: value for key, value in self._computer.runtime.maker.items() if key != "batch"}

    def __call__(self, item: TaskWithImages, tell: Tell) -> ShardResult:
        """Do a task. One that an earlier try has written whole is found, not computed again."""
        started = time.perf_counter()
        with self._turn:
            if entry := find_shard(item.task):
                return ShardResult(entry, self._computer.runtime.made_by, {}, 0.0, "")
            before = dict(self._timer.seconds)
            computer = self._computer.reading(item.images)
            with closing(computer.blocks(item.task.missing, self._threads)) as blocks, self._timer.timed("write"):
                sealed = run_shard(item.task, BlockReader(self._told(blocks, tell)), self._sealing)
            spent = {part: total - before.get(part, 0.0) for part, total in self._timer.seconds.items()}
        spent["write"] -= spent.pop("wait", 0.0)  # for computed rows
        while self._lines:
            tell(self._lines.pop())
        runtime, line = computer.runtime, computer.fallbacks
        line = f"{host_name()}: {line}" if line else ""
        return ShardResult(sealed.result(), runtime.made_by, spent, time.perf_counter() - started, line)

    def _told(self, blocks: Iterator[Features], tell: Tell) -> Iterator[Features]:
        """The same blocks; the driver is told how many rows they have had."""
        rows, name = 0, host_name()
        while True:
            with self._timer.timed("wait"):
                block = next(blocks, None)
            if block is None:
                return
            rows += len(block)
            tell(Computed(name, rows))
            yield block
