"""The set of shards at a URL becomes another one without ever losing a reusable row, as that of a folder does.

Shards are uploaded under names that nothing else has, see remote_place.py. The index at the URL is the commit point: it is
written last, and only where it is still the one that this run began with. Then the folder gets the same index, and
store.json says where the shards are. What no index names any more is deleted after that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ffdi.errors import LockedError, LostRaceError, ShardError, StorageError
from ffdi.features.feature_spec import Keys, row_keys
from ffdi.features.remote_place import RemotePlace, hash_in, key_in, keys_name, remote_name
from ffdi.features.shard_index import INDEX, Index, Maker, ShardEntry, shard_name
from ffdi.features.shard_place import open_shard
from ffdi.features.shard_set import (
    Found,
    Goal,
    NamedShards,
    Plan,
    finish_swap,
    holds,
    index_of,
    make_plan,
    read_shards,
    set_in,
    set_of,
    tidy,
)
from ffdi.features.shard_task import Source, key_prefix, shard_key
from ffdi.features.stored_set import STORE, RemoteFiles, StoredSet, set_at
from ffdi.files import sha256_file
from ffdi.parallel import ordered_map
from ffdi.storage import RemoteFile
from ffdi.urls import checked_url

_AT_A_TIME = 16  # small requests


class RemoteShardSet:
    """The shards at `url`, which are to become those of `goal`; `folder` points there. Hold the folder's lock.

    Perform the tasks of plan(), then commit() their entries. The bytes are those of a run from nothing.
    """

    def __init__(self, folder: Path, goal: Goal, url: str) -> None:
        self.folder, self.goal, self._place = folder, goal, RemotePlace(checked_url(url))
        self._listed, self._listed_keys = dict[str, RemoteFile](), set[str]()
        self._stored: StoredSet | None = None
        self._etag: str | None = None

    def plan(self) -> Plan | None:
        """What is to be done, with every row reused that can be; None when the URL already holds the goal."""
        goal, spec = self.goal, self.goal.spec
        self.folder.mkdir(parents=True, exist_ok=True)
        finish_swap(self.folder, self.folder / "next")
        self._stored, self._etag = self._set_there()
        self._refuse_others()
        stored = self._stored if self._stored and self._stored.index.spec == spec else None
        troubles = stored.troubles() if stored else []
        present = stored.intact(troubles=troubles) if stored else {}
        if stored and stored.remote and holds(stored, present, goal):
            self._point(replace(stored.index, spec=spec), stored.remote)
            return None
        named = [NamedShards(present, stored.index.made_by)] if stored else []
        here = set_of(spec, self.folder)
        if here and here.place != self._place:  # the shards were in the folder until now, or at another URL
            named.append(NamedShards(here.intact(), here.index.made_by))
        unnamed = {} if here else read_shards(self.folder, spec)
        for left in (self.folder / "next", self.folder / "salvage"):
            unnamed |= read_shards(left, spec)
        self._listed, self._listed_keys = self._place.listed(), self._place.listed_keys()
        state = dict(zip(stored.names, troubles, strict=True)) if stored else {}
        names = self._written({name for name in {*self._listed, *state} if not state.get(name)})
        written = {number: self._entry(number, name) for number, name in names.items()}
        plan = make_plan(goal, self._place, Found(written, named, unnamed), self.folder)
        known = {*names.values(), *state}
        if plan.missing and (left_there := self._unnamed(known)):
            unnamed |= left_there
            plan = make_plan(goal, self._place, Found(written, named, unnamed), self.folder)
        of_set = set(stored.names) if stored else set()
        makers = stored.index.made_by if stored and not of_set.isdisjoint(names.values()) else ()
        return replace(
            plan, makers=(*plan.makers, *makers), unnamed=bool(unnamed) or not of_set.issuperset(names.values())
        )

    def commit(self, plan: Plan, entries: Sequence[ShardEntry], made_by: Sequence[Maker]) -> None:
        """Write the index of the new set, whose shards are uploaded, to the URL, and let the folder point there.

        `made_by` says what computed the missing and the unnamed rows. LockedError when another run has committed a set
        since plan(); ShardError when a shard is not there.
        """
        index, remote = index_of(self.goal, plan, entries, made_by), self._place.remote
        names = [remote_name(task.key, entry["sha256"]) for task, entry in zip(plan.tasks, entries, strict=True)]
        there = self._place.now(names)
        if lost := set(names) - set(there):
            where = self._place.where(min(lost))
            raise ShardError(f"{where}: was deleted while others were uploaded: run extract again")
        files = RemoteFiles(remote.url, tuple(there[name] for name in names), self._upload_keys())
        text = json.dumps(index.to_dict() | {"store": files.to_dict()}, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            written = remote.put_bytes(f"{text}\n".encode(), INDEX, if_absent=self._etag is None, if_etag=self._etag)
        except LostRaceError:
            what = "another run has written its set there while this one was computed"
            raise LockedError(f"{remote.url}: {what}: let one run write there, and run extract again") from None
        self._point(index, files)
        self._delete_others(files, written.etag)

    def _set_there(self) -> tuple[StoredSet | None, str | None]:
        """The set at the URL and the ETag of its index. A damaged index counts as none, and is replaced."""
        try:
            return set_at(self._place.url)
        except ShardError:
            there = self._place.remote.file(INDEX)
            return None, there.etag if there else None

    def _refuse_others(self) -> None:
        """ShardError when the URL has rows that the goal has not, and the folder does not point there: another project's."""
        here, there, goal = set_in(self.folder), self._stored, self.goal
        if there is None or (here and here.place == self._place):
            return
        try:
            keys = there.all_keys()
        except ShardError:  # nobody can read this set
            return
        if there.index.spec != goal.spec or not np.isin(keys, row_keys(goal.rows)).all():
            whose = f"holds features that {self.folder} does not point to, perhaps another project's"
            cure = (
                f"name another extract.store, or `dvc pull {self.folder}` if they are of this project, or delete them"
            )
            raise ShardError(f"{self._place.url}: {whose}: {cure}")

    def _written(self, whole: set[str]) -> dict[int, str]:
        """The names of the goal's shards among those that are at the URL, of the present set or of a killed run."""
        goal, there = self.goal, {key_in(name): name for name in sorted(whole)}
        keys = [shard_key(goal.spec, row_keys(rows), goal.compression) for rows in goal.shards]
        return {number: there[key] for number, key in enumerate(keys) if key in there}

    def _entry(self, number: int, name: str) -> ShardEntry:
        return {"name": shard_name(number), "rows": len(self.goal.shards[number]), "sha256": hash_in(name)}

    def _unnamed(self, known: set[str]) -> dict[Source, Keys]:
        """What a killed run has uploaded towards another goal. Each shard is downloaded: it alone says which rows it has."""
        prefix, spec = key_prefix(self.goal.spec), self.goal.spec
        found = dict[Source, Keys]()
        for name in sorted(self._listed.keys() - known):
            if key_in(name).startswith(prefix):
                with suppress(ShardError), open_shard(self._place, name, spec) as shard:
                    found[Source(self._place, name, spec)] = shard.keys
        return found

    def _upload_keys(self) -> RemoteFile:
        """The file with the keys of all rows: who plans or opens the set does not download shards for them."""
        goal, draft = self.goal, self._place.draft("keys.npy")
        draft.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            head = {"descr": "|S33", "fortran_order": False, "shape": (len(goal.rows),)}
            np.lib.format.write_array_header_1_0(file, head)
            for rows in goal.shards:
                file.write(row_keys(rows).tobytes())
        uploaded = self._place.remote.put(draft, keys_name(sha256_file(draft)))
        draft.unlink()
        return uploaded

    def _point(self, index: Index, files: RemoteFiles) -> None:
        """Let the folder point to the URL. Its index comes last, and what else was there goes."""
        here = set_of(index.spec, self.folder)
        if here is None or here.remote != files.plain() or here.index.to_dict() != index.to_dict():
            (self.folder / INDEX).unlink(missing_ok=True)
            files.write(self.folder)
            index.write(self.folder)
        tidy(self.folder, {INDEX, STORE})

    def _delete_others(self, files: RemoteFiles, etag: str) -> None:
        """Delete what former indexes named and what killed runs left, as far as this run has seen it when it began.

        What cannot be deleted stays for the next run: the set is complete without that. Once the index is no longer the
        one of `etag`, nothing is deleted: another run may have taken it into its set.
        """
        old = {*self._listed, *self._listed_keys}
        if self._stored and self._stored.remote:
            old |= {*self._stored.names, self._stored.remote.keys.path}
        old -= {files.keys.path, *files.names}
        for _ in ordered_map(partial(self._delete, etag), sorted(old), _AT_A_TIME):
            pass

    def _delete(self, etag: str, name: str) -> None:
        with suppress(StorageError):
            there = self._place.remote.file(INDEX)
            if there and there.etag == etag:
                self._place.remote.delete(name)
