"""A set of shards becomes another one without ever losing a reusable row.

The new generation is written aside (`next/`) and swapped in when it is whole: its index is the commit point, and a
swap that was cut off is finished by the next run. What a killed run left in `next/` is reused, shard by shard, or row
by row from `salvage/` when the plan has changed since.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.errors import ShardError
from ffdi.features.feature_spec import Features, FeatureSpec, Keys, Row, row_keys
from ffdi.features.shards import INDEX, Index, Shard, Stored, read_index, shard_name, unharmed, write_shard
from ffdi.files import canonical_json, sha256_file, synced

Compute = Callable[[Sequence[Row]], Generator[Features, None, None]]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """What a folder is to hold: rows of `spec` in shards of `shard_rows`, and what its index says of them."""

    spec: FeatureSpec
    plan: Sequence[Row]
    shard_rows: int
    provenance: Facts
    compression: str = "none"

    @property
    def parts(self) -> list[Sequence[Row]]:
        """The rows of each shard."""
        return [self.plan[i : i + self.shard_rows] for i in range(0, len(self.plan), self.shard_rows)]


def build(
    folder: Path,
    goal: Goal,
    compute: Compute,
    *,
    made_by: Callable[[], Sequence[Facts]] = tuple,
    reserve: Callable[[int], None] = lambda needed: None,
    finite: bool = False,
) -> tuple[int, int]:
    """Make `folder` hold exactly the rows of the goal; returns (reused, computed) rows. Hold the folder's lock.

    `compute` gets all missing rows at once, in order, and yields their features in blocks in that order (`finite`: it
    has looked at each); `made_by` is asked afterwards what computed them. The bytes are those of a run from nothing.
    `reserve` is told beforehand how many bytes this run will write, and may refuse.
    """
    following, salvage = folder / "next", folder / "salvage"
    folder.mkdir(parents=True, exist_ok=True)
    _finish_swap(folder, following)
    index = _index_of(folder, goal.spec)
    shards = _sound_shards(folder, index, goal.spec)
    if index and _is_current(index, shards, goal):
        _tidy(folder, index)
        return len(goal.plan), 0

    following.mkdir(exist_ok=True)
    parts = goal.parts
    done = _keep_matching(following, salvage, goal)
    old = shards | {file: _rows(file, goal.spec, read=True) for file in _shard_files(salvage)}
    waiting = [number for number in range(len(parts)) if number not in done]
    rows = [row for number in waiting for row in parts[number]]
    reserve(len(rows) * goal.spec.row_bytes)
    place, at = _find(rows, list(old.values()))
    missing = [row for row, file in zip(rows, place, strict=True) if file < 0]
    # Whatever goes wrong, the workers' tasks are cancelled; a shard is sealed while the next one is written.
    with closing(compute(missing)) as blocks, ThreadPoolExecutor(1) as sealing:
        fresh = _Fresh(blocks)
        digests = {number: sealing.submit(_sealed, following / shard_name(number)) for number in done}
        start = 0
        for number in waiting:
            file, own = following / shard_name(number), slice(start, start + len(parts[number]))
            pieces = _pieces(place[own], at[own], list(old), goal.spec, fresh)
            write_shard(file, goal.spec, parts[number], pieces, goal.compression, finite=finite)
            digests[number] = sealing.submit(_sealed, file)
            start = own.stop
    entries = tuple(
        {"name": shard_name(n), "rows": len(part), "sha256": digests[n].result()} for n, part in enumerate(parts)
    )
    makers = list(index.made_by) if index and (place < len(shards))[place >= 0].any() else []
    if index is None or missing or done or len(old) > len(shards):
        makers += made_by()
    told = {canonical_json(maker): maker for maker in makers}
    unique = tuple(told[key] for key in sorted(told))
    Index(goal.spec, goal.provenance, entries, goal.compression, unique).write(following)
    _finish_swap(folder, following)
    return len(goal.plan) - len(missing), len(missing)


def _sealed(file: Path) -> str:
    """The sha256 of a shard that is on the disk; until then its checksums must vouch for it."""
    return sha256_file(synced(file))


def _index_of(folder: Path, spec: FeatureSpec) -> Index | None:
    """The index of the present generation, where its features are those that are asked for."""
    try:
        index = read_index(folder)
    except ShardError:
        return None
    return index if index.spec == spec else None


def _sound_shards(folder: Path, index: Index | None, spec: FeatureSpec) -> dict[Path, Keys]:
    """The unharmed shards of the present generation with their rows; without an index, those that read without error."""
    if index is None:
        return {file: keys for file in _shard_files(folder) if len(keys := _rows(file, spec, read=True))}
    whole = unharmed(folder, index.shards)
    files = [folder / entry["name"] for entry, good in zip(index.shards, whole, strict=True) if good]
    return {file: _rows(file, spec) for file in files}


def _is_current(index: Index, shards: Mapping[Path, Keys], goal: Goal) -> bool:
    """Whether the folder already holds the goal, every byte of it."""
    if index.provenance != goal.provenance or index.compression != goal.compression:
        return False
    if [len(part) for part in goal.parts] != [entry["rows"] for entry in index.shards]:
        return False
    keys = list(shards.values())
    return len(shards) == len(index.shards) and np.array_equal(np.concatenate(keys), row_keys(goal.plan))


def _keep_matching(following: Path, salvage: Path, goal: Goal) -> set[int]:
    """The shards of next/ that the goal can use as they are; all others move to salvage/, for their rows."""
    done, parts = set(), goal.parts
    for file in _shard_files(following):
        number = int(file.stem.removeprefix("shard-"))
        wanted = row_keys(parts[number]) if number < len(parts) else None
        if wanted is not None and np.array_equal(_rows(file, goal.spec, goal.compression, read=True), wanted):
            done.add(number)
        else:
            salvage.mkdir(exist_ok=True)
            os.replace(file, salvage / f"{len(list(salvage.iterdir())):05d}-{file.name}")
    return done


Places = npt.NDArray[np.int64]


def _find(rows: Sequence[Row], sources: Sequence[Keys]) -> tuple[Places, Places]:
    """For each row the number of a source that has it and its place there; -1 where none has."""
    wanted, there = row_keys(rows), np.concatenate([np.empty(0, "S33"), *sources])
    if not len(there):
        return np.full(len(rows), -1), np.full(len(rows), -1)
    order = np.argsort(there, kind="stable")
    flat = order[np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)]
    starts = np.cumsum([0, *(len(source) for source in sources)])
    number = np.searchsorted(starts, flat, side="right") - 1
    found = there[flat] == wanted
    return np.where(found, number, -1), np.where(found, flat - starts[number], -1)


def _pieces(
    place: Places, at: Places, files: Sequence[Path], spec: FeatureSpec, fresh: _Fresh
) -> Iterator[Features | Stored]:
    """Each row from the old shard that has it, else from `fresh`, whose runs of rows stay blocks: h5py is slow by row."""
    held: tuple[int, Shard] | None = None
    row = 0
    try:
        while row < len(place):
            number = int(place[row])
            if number < 0:
                run = place[row:] >= 0
                block = fresh.take(int(run.argmax()) if run.any() else len(run))
                row += len(block)
                yield block
                continue
            if held is None or held[0] != number:
                if held:
                    held[1].__exit__()
                held = (number, Shard(files[number], spec))
            yield Stored(held[1], int(at[row]))
            row += 1
    finally:
        if held:
            held[1].__exit__()


class _Fresh:
    """Computed rows, taken from their blocks in order."""

    def __init__(self, blocks: Iterator[Features]) -> None:
        self._blocks = blocks
        self._rest: Features | None = None

    def take(self, most: int) -> Features:
        """The next 1 to `most` rows."""
        if self._rest is None or not len(self._rest):
            self._rest = next(self._blocks)
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken


def _finish_swap(folder: Path, following: Path) -> None:
    """Move a whole next generation into place; the final index comes last, so a reader never sees a mixture as whole."""
    if not (following / INDEX).exists():
        return
    index = read_index(following)
    (folder / INDEX).unlink(missing_ok=True)
    for entry in index.shards:
        if (following / entry["name"]).exists():
            os.replace(following / entry["name"], folder / entry["name"])
    os.replace(following / INDEX, folder / INDEX)
    _tidy(folder, index)


def _tidy(folder: Path, index: Index) -> None:
    """Delete what the index does not name: shards of former plans, salvage, temporary files."""
    named = {INDEX, *(entry["name"] for entry in index.shards)}
    for path in folder.iterdir():
        if path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _shard_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*shard-*.h5"))


def _rows(file: Path, spec: FeatureSpec, compression: str | None = None, *, read: bool = False) -> Keys:
    """The rows of a shard of this spec; none when it is damaged, of other features, or compressed in another way.

    `read` looks at every checksum, where no index vouches for the bytes.
    """
    try:
        with Shard(file, spec) as shard:
            if compression not in (None, shard.compression):
                return np.empty(0, "S33")
            for start in range(0, len(shard.keys) if read else 0, 64):
                shard.read(slice(start, start + 64))
            return shard.keys
    except ShardError:
        return np.empty(0, "S33")
