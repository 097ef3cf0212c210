"""A set of shards becomes another one without ever losing a reusable row.

The new set is written aside, in `next/`, and swapped in when it is complete: its index is the commit point, and a swap
that was cut off is finished by the next run. What a killed run left in `next/` is reused: shard by shard, or row by row
from `salvage/` when the rows of the shards have changed since.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffdi.errors import ShardError
from ffdi.features.feature_spec import FeatureSpec, Keys, Row, Rows, row_keys
from ffdi.features.shard_index import INDEX, Index, Maker, ShardEntry, read_index, shard_name
from ffdi.features.shard_place import LocalPlace, Place
from ffdi.features.shard_task import Origins, Places, ShardTask, Source
from ffdi.features.shards import Shard
from ffdi.features.stored_set import STORE, StoredSet, read_set
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
    def missing(self) -> Rows:
        """The rows that are to be computed, in order."""
        return Rows.of(task.missing for task in self.tasks)

    @property
    def bytes(self) -> int:
        """The bytes that are to be written, uncompressed."""
        return sum(len(task.rows) * task.spec.row_bytes for task in self.tasks if task.origins is not None)


@dataclass(frozen=True)
class Found:
    """What is there already of a goal: whole shards of it by their number, with their entry where that is known, and
    other shards with rows of its features.

    `named` shards have an index, which says what made them; no index names the maker of the `unnamed` ones.
    """

    written: Mapping[int, ShardEntry | None]
    named: Sequence[NamedShards]
    unnamed: Mapping[Source, Keys]


class NamedShards(NamedTuple):
    """Shards with their keys, and what made them."""

    shards: Mapping[Source, Keys]
    made_by: tuple[Maker, ...]


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
        finish_swap(self.folder, self._next)
        stored = set_of(self.goal.spec, self.folder)
        present = stored.intact() if stored else {}
        if stored and stored.remote is None and holds(stored, present, self.goal):
            if stored.index.spec.cut_grid != self.goal.spec.cut_grid:  # an older ffdi did not ask for it
                replace(stored.index, spec=self.goal.spec).write(self.folder)
            tidy(self.folder, _named(stored.index))
            return None
        self._next.mkdir(exist_ok=True)
        written = self._keep_matching()
        unnamed = read_shards(self._salvage, self.goal.spec)
        if stored is None:
            unnamed |= read_shards(self.folder, self.goal.spec)
        named = [NamedShards(present, stored.index.made_by)] if stored else []
        return make_plan(self.goal, LocalPlace(self._next), Found(written, named, unnamed), self.folder)

    def commit(self, plan: Plan, entries: Sequence[ShardEntry], made_by: Sequence[Maker]) -> None:
        """Write the index of the new set, whose shards are synced, and swap the set in.

        `made_by` says what computed the missing and the unnamed rows.
        """
        index_of(self.goal, plan, entries, made_by).write(self._next)
        finish_swap(self.folder, self._next)

    def _keep_matching(self) -> dict[int, ShardEntry | None]:
        """The shards of next/ that the goal can use as they are; all others move to salvage/, for their rows."""
        goal, written, shards = self.goal, dict[int, ShardEntry | None](), self.goal.shards
        for file in _shard_files(self._next):
            number = int(file.stem.removeprefix("shard-"))
            wanted = row_keys(shards[number]) if number < len(shards) else None
            if wanted is not None and np.array_equal(_keys(file, goal.spec, goal.compression, read=True), wanted):
                written[number] = None
            else:
                self._salvage.mkdir(exist_ok=True)
                os.replace(file, self._salvage / f"{len(list(self._salvage.iterdir())):05d}-{file.name}")
        return written


def make_plan(goal: Goal, place: Place, found: Found, folder: Path) -> Plan:
    """The tasks of a goal in `place`, with every row taken from what is `found`, or derived from wider shards in `folder`
    or beside it."""
    old = dict(found.unnamed)
    for named in found.named:
        old |= named.shards
    tasks, wider = _tasks(goal, place, found.written, old), list[WiderSet]()
    further = wider_sets(goal.spec, folder)  # a set's shards are checked when it is asked for
    while any(task.missing for task in tasks) and (wide := next(further, None)):
        wider.append(wide)
        old |= wide.shards
        tasks = _tasks(goal, place, found.written, old)
    taken = _rows_taken(tasks)
    derived = {wide.folder: sum(taken[source] for source in wide.shards) for wide in wider}
    makers = [named.made_by for named in found.named if not named.shards.keys().isdisjoint(taken)]
    makers += [wide.index.made_by for wide in wider if derived[wide.folder]]
    unnamed = bool(found.written or found.unnamed)
    return Plan(
        tasks, tuple(itertools.chain(*makers)), unnamed, {folder: rows for folder, rows in derived.items() if rows}
    )


def index_of(goal: Goal, plan: Plan, entries: Sequence[ShardEntry], made_by: Sequence[Maker]) -> Index:
    """The index of a set whose shards are written; `made_by` says what computed the missing and the unnamed rows."""
    makers = {canonical_json(maker): maker for maker in (*plan.makers, *made_by)}
    unique = tuple(makers[key] for key in sorted(makers))
    return Index(goal.spec, goal.provenance, tuple(entries), goal.compression, unique)


def set_in(folder: Path) -> StoredSet | None:
    """The set in a folder, or to which it points, when it can be read."""
    try:
        return read_set(folder)
    except ShardError:
        return None


def set_of(spec: FeatureSpec, folder: Path) -> StoredSet | None:
    """The same when its features are those of `spec`."""
    stored = set_in(folder)
    return stored if stored and stored.index.spec == spec else None


def holds(stored: StoredSet, intact: Mapping[Source, Keys], goal: Goal) -> bool:
    """Whether a set, of which these shards are `intact`, is that of the goal, every byte of it."""
    index = stored.index
    if index.provenance != goal.provenance or index.compression != goal.compression:
        return False
    if [len(rows) for rows in goal.shards] != [entry["rows"] for entry in index.shards]:
        return False
    keys = np.concatenate([np.empty(0, "S33"), *intact.values()])
    return len(intact) == len(index.shards) and np.array_equal(keys, row_keys(goal.rows))


def _tasks(
    goal: Goal, place: Place, written: Mapping[int, ShardEntry | None], old: Mapping[Source, Keys]
) -> tuple[ShardTask, ...]:
    """A task for each shard of the goal; rows that `old` shards have are copied."""
    shards, files = goal.shards, list(old)
    rows = Rows.of(part for number, part in enumerate(shards) if number not in written)
    file, row_of = _locate(rows, list(old.values()))
    tasks, start = [], 0
    for number, part in enumerate(shards):
        origins = None
        if number not in written:
            here = slice(start, start + len(part))
            origins = _origins(files, file[here], row_of[here])
            start = here.stop
        entry = written.get(number)
        tasks.append(ShardTask(place, shard_name(number), goal.spec, part, goal.compression, origins, entry))
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
    wanted, there = row_keys(rows), Rows.of(map(Rows, sources)).keys
    if not len(there):
        return np.full(len(rows), -1), np.full(len(rows), -1)
    order = np.argsort(there, kind="stable")
    flat = order[np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)]
    starts = np.cumsum([0, *(len(source) for source in sources)])
    number = np.searchsorted(starts, flat, side="right") - 1
    found = there[flat] == wanted
    return np.where(found, number, -1), np.where(found, flat - starts[number], -1)


def finish_swap(folder: Path, following: Path) -> None:
    """Move a complete new set into place. The index comes last, so a reader never takes a mixture for a set."""
    if not (following / INDEX).exists():
        return
    index = read_index(following)
    (folder / INDEX).unlink(missing_ok=True)
    (folder / STORE).unlink(missing_ok=True)
    for entry in index.shards:
        if (following / entry["name"]).exists():
            os.replace(following / entry["name"], folder / entry["name"])
    os.replace(following / INDEX, folder / INDEX)
    tidy(folder, _named(index))


def tidy(folder: Path, named: Set[str]) -> None:
    """Delete what is not `named`: shards of former sets, salvage, temporary files."""
    for path in folder.iterdir():
        if path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _named(index: Index) -> set[str]:
    return {INDEX, *(entry["name"] for entry in index.shards)}


def read_shards(folder: Path, spec: FeatureSpec) -> dict[Source, Keys]:
    """The shards in a folder without an index that hold features of `spec` and read without error."""
    files, place = _shard_files(folder), LocalPlace(folder)
    keys = {Source(place, file.name, spec): _keys(file, spec, read=True) for file in files}
    return {source: of_source for source, of_source in keys.items() if len(of_source)}


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
