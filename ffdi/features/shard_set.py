"""A set of shards becomes another one without ever losing a reusable row.

The new set is written aside, in `next/`, and swapped in when it is complete: its index is the commit point, and a swap
that was cut off is finished by the next run. What a killed run left in `next/` is reused: shard by shard, or row by row
from `salvage/` when the rows of the shards have changed since.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ffdi.errors import ShardError
from ffdi.features.feature_spec import FeatureSpec, Keys, Row, row_keys
from ffdi.features.shard_index import INDEX, Index, Maker, ShardEntry, read_index, shard_name, unchanged_files
from ffdi.features.shard_place import LocalPlace
from ffdi.features.shard_task import Origins, Places, ShardTask, Source
from ffdi.features.shards import Shard
from ffdi.features.wider import WiderSet, wider_sets
from ffdi.files import canonical_json


@dataclass(frozen=True)
class Goal:
    """What a folder is to hold: `rows` of `spec` in shards of `shard_rows`, and what its index says of them."""

    spec: FeatureSpec
    rows: Sequence[Row]
    shard_rows: int
    provenance: Mapping[str, Any]
    compression: str = "none"

    @property
    def shards(self) -> list[Sequence[Row]]:
        """The rows of each shard."""
        return [self.rows[i : i + self.shard_rows] for i in range(0, len(self.rows), self.shard_rows)]


@dataclass(frozen=True)
class Plan:
    """How a folder comes to hold its goal: a task for each shard, in order.

    `makers` computed the reused rows of the present set and those that others are derived from. `unnamed` rows, which no
    index names a maker of, are reused too. `derived` counts the rows that come from wider shards, by their folder.
    """

    tasks: tuple[ShardTask, ...]
    makers: tuple[Maker, ...]
    unnamed: bool
    derived: Mapping[Path, int]

    @cached_property
    def missing(self) -> list[Row]:
        """The rows that are to be computed, in order."""
        return [row for task in self.tasks for row in task.missing]

    @property
    def bytes(self) -> int:
        """The bytes that are to be written, uncompressed."""
        return sum(len(task.rows) * task.spec.row_bytes for task in self.tasks if task.origins is not None)


class ShardSet:
    """The shards in `folder`, which are to become those of `goal`. Hold the folder's lock.

    Perform the tasks of plan(), then commit() their entries. The bytes are those of a run from nothing.
    """

    def __init__(self, folder: Path, goal: Goal) -> None:
        self.folder, self.goal = folder, goal
        self._next, self._salvage = folder / "next", folder / "salvage"

    def plan(self) -> Plan | None:
        """What is to be done, with every row reused that can be; None when the folder already holds the goal."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _finish_swap(self.folder, self._next)
        index = self._index()
        present = self._intact_shards(index)
        if index and self._is_current(index, present):
            if index.spec.cut_grid != self.goal.spec.cut_grid:  # an older ffdi did not ask for it
                replace(index, spec=self.goal.spec).write(self.folder)
            _tidy(self.folder, index)
            return None
        self._next.mkdir(exist_ok=True)
        written = self._keep_matching()
        salvaged = self._read_shards(self._salvage)
        old = present | salvaged
        tasks, wider = self._tasks(written, old), list[WiderSet]()
        further = wider_sets(self.goal.spec, self.folder)  # a set's shards are hashed when it is asked for
        while any(task.missing for task in tasks) and (wide := next(further, None)):
            wider.append(wide)
            old |= wide.shards
            tasks = self._tasks(written, old)
        taken = _rows_taken(tasks)
        derived = {wide.folder: sum(taken[source] for source in wide.shards) for wide in wider}
        makers = index.made_by if index and not present.keys().isdisjoint(taken) else ()
        makers += tuple(maker for wide in wider if derived[wide.folder] for maker in wide.index.made_by)
        unnamed = bool(written or salvaged or (index is None and present))
        return Plan(tasks, makers, unnamed, {folder: rows for folder, rows in derived.items() if rows})

    def commit(self, plan: Plan, entries: Sequence[ShardEntry], made_by: Sequence[Maker]) -> None:
        """Write the index of the new set, whose shards are synced, and swap the set in.

        `made_by` says what computed the missing and the unnamed rows.
        """
        makers = {canonical_json(maker): maker for maker in (*plan.makers, *made_by)}
        unique = tuple(makers[key] for key in sorted(makers))
        goal = self.goal
        Index(goal.spec, goal.provenance, tuple(entries), goal.compression, unique).write(self._next)
        _finish_swap(self.folder, self._next)

    def _index(self) -> Index | None:
        """The index of the present set when its features are those of the goal."""
        try:
            index = read_index(self.folder)
        except ShardError:
            return None
        return index if index.spec == self.goal.spec else None

    def _intact_shards(self, index: Index | None) -> dict[Source, Keys]:
        """The unchanged shards of the present set with their keys; without an index, those that read without error."""
        spec = self.goal.spec
        if index is None:
            return self._read_shards(self.folder)
        files = unchanged_files(self.folder, index)
        return {Source(LocalPlace(self.folder), file.name, spec): _keys(file, spec) for file in files}

    def _read_shards(self, folder: Path) -> dict[Source, Keys]:
        """The shards in a folder without an index that are of the goal's features and read without error."""
        spec = self.goal.spec
        files, place = _shard_files(folder), LocalPlace(folder)
        keys = {Source(place, file.name, spec): _keys(file, spec, read=True) for file in files}
        return {source: of_source for source, of_source in keys.items() if len(of_source)}

    def _is_current(self, index: Index, shards: Mapping[Source, Keys]) -> bool:
        """Whether the folder already holds the goal, every byte of it."""
        goal = self.goal
        if index.provenance != goal.provenance or index.compression != goal.compression:
            return False
        if [len(rows) for rows in goal.shards] != [entry["rows"] for entry in index.shards]:
            return False
        keys = list(shards.values())
        return len(shards) == len(index.shards) and np.array_equal(np.concatenate(keys), row_keys(goal.rows))

    def _keep_matching(self) -> set[int]:
        """The shards of next/ that the goal can use as they are; all others move to salvage/, for their rows."""
        goal, written, shards = self.goal, set(), self.goal.shards
        for file in _shard_files(self._next):
            number = int(file.stem.removeprefix("shard-"))
            wanted = row_keys(shards[number]) if number < len(shards) else None
            if wanted is not None and np.array_equal(_keys(file, goal.spec, goal.compression, read=True), wanted):
                written.add(number)
            else:
                self._salvage.mkdir(exist_ok=True)
                os.replace(file, self._salvage / f"{len(list(self._salvage.iterdir())):05d}-{file.name}")
        return written

    def _tasks(self, written: set[int], old: Mapping[Source, Keys]) -> tuple[ShardTask, ...]:
        """A task for each shard of the goal; rows that `old` shards have are copied."""
        shards, files = self.goal.shards, list(old)
        rows = [row for number, part in enumerate(shards) if number not in written for row in part]
        file, place = _locate(rows, list(old.values()))
        tasks, start = [], 0
        for number, part in enumerate(shards):
            origins = None
            if number not in written:
                here = slice(start, start + len(part))
                origins = _origins(files, file[here], place[here])
                start = here.stop
            there, name = LocalPlace(self._next), shard_name(number)
            tasks.append(ShardTask(there, name, self.goal.spec, part, self.goal.compression, origins))
        return tuple(tasks)


def _rows_taken(tasks: Sequence[ShardTask]) -> Counter[Source]:
    """How many rows are taken from each shard."""
    taken = Counter[Source]()
    for task in tasks:
        if task.origins is not None:
            file = task.origins.file
            taken.update(dict(zip(task.origins.files, np.bincount(file[file >= 0]).tolist(), strict=True)))
    return taken


def _origins(files: Sequence[Source], file: Places, place: Places) -> Origins:
    """The same places, with those files alone that are used."""
    used = np.unique(file[file >= 0])
    renumbered = np.where(file < 0, -1, np.searchsorted(used, file))
    return Origins(tuple(files[number] for number in used.tolist()), renumbered, place)


def _locate(rows: Sequence[Row], sources: Sequence[Keys]) -> tuple[Places, Places]:
    """(N,) the number of a source that has each row, and (N,) its place there; -1 where none has it."""
    wanted, there = row_keys(rows), np.concatenate([np.empty(0, "S33"), *sources])
    if not len(there):
        return np.full(len(rows), -1), np.full(len(rows), -1)
    order = np.argsort(there, kind="stable")
    flat = order[np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)]
    starts = np.cumsum([0, *(len(source) for source in sources)])
    number = np.searchsorted(starts, flat, side="right") - 1
    found = there[flat] == wanted
    return np.where(found, number, -1), np.where(found, flat - starts[number], -1)


def _finish_swap(folder: Path, following: Path) -> None:
    """Move a complete new set into place. The index comes last, so a reader never takes a mixture for a set."""
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
    """Delete what the index does not name: shards of former sets, salvage, temporary files."""
    named = {INDEX, *(entry["name"] for entry in index.shards)}
    for path in folder.iterdir():
        if path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _shard_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*shard-*.h5"))


def _keys(file: Path, spec: FeatureSpec, compression: str | None = None, *, read: bool = False) -> Keys:
    """The keys of a shard of this spec; empty when it is damaged, of other features, or compressed in another way.

    `read` checks every checksum, for files whose sha256 no index has confirmed.
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
