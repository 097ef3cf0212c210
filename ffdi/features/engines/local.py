"""Perform the tasks of an extraction on this machine: threads compute, this thread writes, another one seals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from ffdi.console import Console
from ffdi.features.compute import FeatureComputer
from ffdi.features.engines.engine import EngineResult
from ffdi.features.extractor import Extractor
from ffdi.features.feature_spec import Features, Rows
from ffdi.features.image_views import ImageFiles
from ffdi.features.settings import ExtractSettings
from ffdi.features.shard_index import ShardEntry
from ffdi.features.shard_place import LocalPlace
from ffdi.features.shard_task import BlockReader, ShardTask, run_shard
from ffdi.timing import PartTimer

_UNSEALED = 4  # shards that are written and not yet sealed


def run_locally(
    tasks: Sequence[ShardTask],
    extractor: Extractor,
    images: ImageFiles,
    settings: ExtractSettings,
    console: Console,
) -> EngineResult:
    """The missing rows of all tasks are one stream, so the threads never wait at the end of a shard."""
    missing = Rows.of(task.missing for task in tasks)
    if not missing:
        return EngineResult(write_shards(tasks, ()), (), {})
    timer = PartTimer()
    computer = FeatureComputer(extractor, images, timer, console)
    workers = None if settings.workers == "auto" else settings.workers
    # Whatever goes wrong, closing cancels what the threads have not yet begun.
    with closing(computer.blocks(missing, workers)) as blocks:
        entries = write_shards(tasks, _timed(console.progress(blocks, len(missing), unit="views"), timer))
    computer.warn_of_fallbacks()
    return EngineResult(entries, computer.runtime.made_by, timer.seconds)


def write_shards(tasks: Sequence[ShardTask], blocks: Iterable[Features]) -> tuple[ShardEntry, ...]:
    """Write and seal the shards of `tasks`; `blocks` are all their missing rows in order.

    Shards are sealed while the next ones are written, which wait while _UNSEALED are neither: at a URL each of those
    takes room in $TMPDIR until it is uploaded.
    """
    computed = BlockReader(blocks)
    on_disk = all(isinstance(task.place, LocalPlace) for task in tasks)
    with ThreadPoolExecutor(1 if on_disk else _UNSEALED) as sealing:
        entries: list[Future[ShardEntry]] = []
        for task in tasks:
            if len(entries) >= _UNSEALED:
                entries[-_UNSEALED].result()
            entries.append(run_shard(task, computed, sealing))
    return tuple(entry.result() for entry in entries)


def _timed(blocks: Iterable[Features], timer: PartTimer) -> Iterator[Features]:
    """The same blocks; the wait for each is added to the part `wait`."""
    waiting = iter(blocks)
    while True:
        with timer.timed("wait"):
            block = next(waiting, None)
        if block is None:
            return
        yield block
