"""A shard as a task: which rows it has, which of them are copied from old shards, and which are to be computed.

A task is plain data that can be handed to another process. Whoever performs it needs the blocks of its missing rows:

    with ThreadPoolExecutor(1) as sealing:
        entry = run_shard(task, BlockReader(compute(task.missing)), sealing).result()
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffdi.errors import ShardError
from ffdi.features.feature_spec import Features, FeatureSpec, Keys, Row, Rows, row_keys
from ffdi.features.keep import Keep, keep_features
from ffdi.features.shard_index import ShardEntry
from ffdi.features.shard_place import Place, open_shard
from ffdi.features.shards import Piece, Shard, StoredRow, write_shard
from ffdi.files import canonical_json

Places = npt.NDArray[np.int64]
_BLOCK = 32  # rows of a wider shard that are read together


@dataclass(frozen=True)
class Source:
    """A shard that rows are taken from. With `part`, its features hold the wanted ones, and `part` is what to keep of them."""

    place: Place
    name: str
    spec: FeatureSpec = field(compare=False)
    part: Keep | None = None

    def open(self) -> Shard:
        """The shard, opened."""
        return open_shard(self.place, self.name, self.spec)


@dataclass(frozen=True, eq=False)
class Origins:
    """Where each row of a shard comes from: row `place[i]` of the old shard `files[file[i]]`; -1: it is computed."""

    files: tuple[Source, ...]
    file: Places
    place: Places


@dataclass(frozen=True, eq=False)
class ShardTask:
    """One shard of the new set: what it holds, and where it is to lie.

    `origins` is None when a killed run has written it already: it is only sealed. `entry` is then known where that run
    had sealed it, too.
    """

    place: Place
    name: str
    spec: FeatureSpec
    rows: Sequence[Row]
    compression: str
    origins: Origins | None
    entry: ShardEntry | None = None

    @cached_property
    def key(self) -> str:
        """What decides the shard's bytes: see shard_key."""
        return shard_key(self.spec, row_keys(self.rows), self.compression)

    @property
    def missing(self) -> Rows:
        """The rows that are to be computed, in their order."""
        return Rows(row_keys(self.rows)[self.origins.file < 0 if self.origins else slice(0)])


class BlockReader:
    """Computed rows, taken from their blocks in order."""

    def __init__(self, blocks: Iterable[Features]) -> None:
        self._blocks = iter(blocks)
        self._rest: Features | None = None

    def take(self, most: int) -> Features:
        """The next 1 to `most` rows."""
        if self._rest is None or not len(self._rest):
            self._rest = next(self._blocks)
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken


def write_task(task: ShardTask, computed: BlockReader) -> None:
    """Write the shard of a task. It is not yet synced: see seal.

    `computed` gives the missing rows in order, each checked to be finite.
    """
    if task.origins is not None:
        pieces = _pieces(task, task.origins, computed)
        write_shard(task.place.draft(task.name), task.spec, task.rows, pieces, task.compression, checked=True)


def seal(task: ShardTask) -> ShardEntry:
    """The entry of a written shard in the index, once its bytes are safe in their place. At a URL this is the upload."""
    return task.entry or task.place.publish(task.name, task.key, len(task.rows))


def run_shard(task: ShardTask, computed: BlockReader, sealing: Executor) -> Future[ShardEntry]:
    """Write the shard of a task with the computed rows that are its missing ones; `sealing` seals it meanwhile.

    What every engine does: it changes nothing but its own shard, which has the same bytes whoever writes it, how often
    and from whatever blocks.
    """
    write_task(task, computed)
    return sealing.submit(seal, task)


def find_shard(task: ShardTask) -> ShardEntry | None:
    """The entry of the task's shard when an earlier try has written it, every byte of it; it is sealed."""
    if entry := task.entry or task.place.find(task.name, task.key, len(task.rows)):
        return entry
    draft = task.place.draft(task.name)
    return seal(task) if draft.exists() and _is_whole(draft, task) else None


def _is_whole(file: Path, task: ShardTask) -> bool:
    try:
        with Shard(file, task.spec) as shard:
            for start in range(0, len(shard.keys), _BLOCK):
                shard.read(slice(start, start + _BLOCK))
            return shard.compression == task.compression and np.array_equal(shard.keys, row_keys(task.rows))
    except ShardError:
        return False


def shard_key(spec: FeatureSpec, keys: Keys, compression: str) -> str:
    """What decides the bytes of a shard, in 49 characters: its features, and a hash of its rows and their compression."""
    digest = hashlib.sha256(
        canonical_json(spec.attributes() | {"compression": compression}) + keys.tobytes()
    ).hexdigest()
    return f"{key_prefix(spec)}{digest[:32]}"


def key_prefix(spec: FeatureSpec) -> str:
    """How the keys of all shards begin that hold features of `spec`."""
    return f"{spec.fingerprint[:16]}-"


def _pieces(task: ShardTask, origins: Origins, computed: BlockReader) -> Iterator[Piece]:
    """Each row from its old shard, or from `computed`. Runs of rows stay blocks: h5py is slow row by row."""
    with ExitStack() as opened:
        number, shard = -1, None
        row = 0
        while row < len(origins.file):
            file, end = int(origins.file[row]), row + _run(origins, row)
            if file < 0:
                block = computed.take(end - row)
                row += len(block)
                yield block
                continue
            source = origins.files[file]
            if shard is None or file != number:
                opened.close()
                number, shard = file, opened.enter_context(source.open())
            place = int(origins.place[row])
            at = slice(place, place + end - row)
            if source.part is None:
                yield from (StoredRow(shard, stored) for stored in range(at.start, at.stop))
            else:
                yield _derived(source, shard, at, task.rows[row:end])
            row = end


def _run(origins: Origins, row: int) -> int:
    """How many rows from `row` on are computed, or lie in one file one after the other; of these at most _BLOCK."""
    if origins.file[row] < 0:
        old = origins.file[row:] >= 0
        return int(old.argmax()) if old.any() else len(old)
    here = slice(row, row + _BLOCK)
    steps = np.arange(len(origins.file[here]))
    others = (origins.file[here] != origins.file[row]) | (origins.place[here] - steps != origins.place[row])
    return int(others.argmax()) if others.any() else len(steps)


def _derived(source: Source, shard: Shard, at: slice, rows: Sequence[Row]) -> Features:
    """The wanted part of the features of `rows`, which lie `at` these places of a shard that holds more."""
    if not np.array_equal(shard.keys[at], row_keys(rows)):
        raise ShardError(
            f"{source.place.where(source.name)}: was changed while features were derived from it: run extract again"
        )
    assert source.part is not None
    return keep_features(shard.read(at), source.part, source.spec.tokens)
