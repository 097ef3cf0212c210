"""A set of shards that is complete: in a folder, or at a URL, where a folder has its index and `store.json` alone.

At a URL the index is one object, `index.json`, which also says the name and size of each file of the set. It is written
last, and a file is named by its bytes, so whoever reads an index reads the set that it was written for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ffdi.errors import FfdiError, NoFileError, ShardError
from ffdi.features.feature_spec import Keys
from ffdi.features.keep import Keep
from ffdi.features.remote_place import RemotePlace, check_remote, fetched, hash_in, is_keys_name, is_remote_name
from ffdi.features.shard_index import INDEX, Index, parse_index, read_index, unchanged_shards
from ffdi.features.shard_place import LocalPlace, Place, open_shard
from ffdi.features.shard_task import Source
from ffdi.features.shards import Shard
from ffdi.files import write_json
from ffdi.parallel import ordered_map
from ffdi.storage import Remote, RemoteFile
from ffdi.urls import checked_url, is_url

STORE = "store.json"
_DOWNLOADS = 4  # shards at a time
_OTHER = "sha256 differs from the index"


@dataclass(frozen=True)
class RemoteFiles:
    """The files of a set at a URL: of each shard its name, bytes and ETag, and of the keys of all rows (an npy file).

    The index at the URL has the ETags. store.json does not, for they are the store's: its bytes are those of the features.
    """

    url: str
    shards: tuple[RemoteFile, ...]
    keys: RemoteFile

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of the shards below the URL, in the order of the index."""
        return tuple(file.path for file in self.shards)

    def to_dict(self) -> dict[str, Any]:
        """As the index at the URL says it."""
        return {"keys": asdict(self.keys), "shards": [asdict(file) for file in self.shards]}

    def write(self, folder: Path) -> None:
        """Write it as `folder`/store.json, without ETags."""
        plain = self.plain()
        shards = [{"path": file.path, "size": file.size} for file in plain.shards]
        write_json(folder / STORE, {"url": self.url, "keys": plain.keys.path, "shards": shards})

    def plain(self) -> RemoteFiles:
        """The same as store.json says it."""
        shards = tuple(replace(file, etag="") for file in self.shards)
        return replace(self, shards=shards, keys=RemoteFile(self.keys.path, 0, ""))

    @classmethod
    def of(cls, url: str, stored: Any, index: Index, where: str) -> RemoteFiles:
        """What was stored; ShardError, which names `where`, when these are not the files of `index`."""
        try:
            keys = stored["keys"] if isinstance(stored["keys"], dict) else {"path": stored["keys"]}
            shards = tuple(map(_remote_file, stored["shards"]))
            files = cls(checked_url(url), shards, _remote_file(keys))
        except (KeyError, TypeError, ValueError) as error:
            raise ShardError(f"{where}: names no files of shards ({error!r}): run extract again") from error
        named = [hash_in(name) if is_remote_name(name) else "" for name in files.names]
        if named != [entry["sha256"] for entry in index.shards] or not is_keys_name(files.keys.path):
            raise ShardError(f"{where}: names other shards than its index: run extract again")
        return files


def _remote_file(stored: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(str(stored["path"]), int(stored.get("size", 0)), str(stored.get("etag", "")))


@dataclass(frozen=True, eq=False)
class StoredSet:
    """The shards that an index names, and the place where they are; `remote` says more of them when that is a URL."""

    index: Index
    place: Place
    names: tuple[str, ...]
    remote: RemoteFiles | None = None

    @classmethod
    def in_folder(cls, folder: Path, index: Index) -> StoredSet:
        """The set whose shards lie in the folder itself."""
        return cls(index, LocalPlace(folder), tuple(entry["name"] for entry in index.shards))

    @classmethod
    def at_url(cls, index: Index, files: RemoteFiles) -> StoredSet:
        """The set whose shards lie at a URL."""
        return cls(index, RemotePlace(files.url), files.names, files)

    def where(self, number: int) -> str:
        """How messages name a shard."""
        return self.place.where(self.names[number])

    def open(self, number: int) -> Shard:
        """A shard, opened; the caller closes it."""
        return open_shard(self.place, self.names[number], self.index.spec)

    def sizes(self) -> list[int | None]:
        """The bytes of each shard that is there now; None where it is not."""
        if self.remote is None:
            files = [self.place.fetch(name) for name in self.names]
            return [file.stat().st_size if file.exists() else None for file in files]
        now = RemotePlace(self.remote.url).now(self.names)
        return [now[name].size if name in now else None for name in self.names]

    def download(self, number: int) -> int:
        """The number, once the shard is in the cache."""
        self.place.fetch(self.names[number])
        return number

    def troubles(self) -> list[str]:
        """Of each shard what is wrong with it, "" for nothing.

        In a folder every file is hashed. At a URL the sizes are compared, and where the ETag is known and another one,
        the shard is downloaded and hashed; any other shard is hashed when it is read.
        """
        if self.remote is None:
            assert isinstance(self.place, LocalPlace)
            same = unchanged_shards(self.place.folder, self.index.shards)
            there = [fine or self.place.fetch(name).exists() for fine, name in zip(same, self.names, strict=True)]
        else:
            now = RemotePlace(self.remote.url).now(self.names)
            there = [name in now for name in self.names]
            same = list(ordered_map(lambda said: self._is_same(said, now), self.remote.shards, _DOWNLOADS))
        wrong = [_OTHER if is_there else self._missing for is_there in there]
        return ["" if fine else trouble for fine, trouble in zip(same, wrong, strict=True)]

    def _is_same(self, said: RemoteFile, now: Mapping[str, RemoteFile]) -> bool:
        found = now.get(said.path)
        if found is None or found.size != said.size or said.etag in ("", found.etag):
            return found is not None and found.size == said.size
        try:
            check_remote(self.remote.url if self.remote else "", said.path)
        except ShardError:
            return False
        return True

    def check_bytes(self) -> None:
        """ShardError naming the first shard at the URL whose bytes, downloaded now, are not those of its sha256."""
        if self.remote is None:
            return  # troubles() has hashed them
        for _ in ordered_map(partial(check_remote, self.remote.url), self.names, _DOWNLOADS):
            pass

    def intact(self, part: Keep | None = None, troubles: Sequence[str] | None = None) -> dict[Source, Keys]:
        """The shards without trouble, with their keys; `part` is what is to be taken of their features."""
        shards = dict[Source, Keys]()
        try:
            troubles = self.troubles() if troubles is None else troubles
        except NoFileError:  # the bucket is gone
            return shards
        for number, trouble in enumerate(troubles):
            if not trouble:
                with suppress(ShardError):
                    shards[Source(self.place, self.names[number], self.index.spec, part)] = self.keys(number)
        return shards

    def keys(self, number: int) -> Keys:
        """The keys of a shard's rows. ShardError when they are not as many as the index says."""
        rows = int(self.index.shards[number]["rows"])
        if self.remote is not None:
            return self._remote_keys[self._starts[number] : self._starts[number] + rows]
        with self.open(number) as shard:
            if len(shard.keys) != rows:
                raise ShardError(f"{shard.called}: {len(shard.keys)} rows, the index says {rows}: run extract again")
            return shard.keys

    def all_keys(self) -> Keys:
        """The keys of all rows. ShardError when a shard cannot be read."""
        if self.remote is not None:
            return self._remote_keys
        return np.concatenate([np.empty(0, "S33"), *map(self.keys, range(len(self.names)))])

    @cached_property
    def _remote_keys(self) -> Keys:
        assert self.remote is not None
        name = self.remote.keys.path
        keys: Keys = np.load(
            fetched(self.remote.url, name), "r" if self.index.rows else None
        )  # nothing cannot be mapped
        if keys.shape != (self.index.rows,) or keys.dtype != np.dtype("S33"):
            raise ShardError(f"{self.remote.url}/{name}: not the keys of {self.index.rows} rows: run extract again")
        return keys

    @cached_property
    def _starts(self) -> list[int]:
        """The number of the first row of each shard."""
        return [0, *itertools.accumulate(int(entry["rows"]) for entry in self.index.shards)]

    @cached_property
    def _missing(self) -> str:
        """What is said of a shard that is not there: at a URL, another run may have replaced the set."""
        with suppress(FfdiError):
            now = set_at(self.remote.url)[0] if self.remote else None
            if now and now.names != self.names:
                return "missing, and the URL holds another set by now"
        return "missing"


def read_set(place: Path | str) -> StoredSet:
    """The set in a folder, or at the URL that is given or that the folder's store.json names; ShardError when there is none."""
    if is_url(str(place)):
        stored = set_at(str(place))[0]
        if stored is None:
            raise ShardError(f"{place}/{INDEX}: missing: run the extract stage first")
        return stored
    folder = Path(place)
    index = read_index(folder)
    try:
        stated = json.loads((folder / STORE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return StoredSet.in_folder(folder, index)
    except (OSError, ValueError) as error:
        raise ShardError(f"{folder / STORE}: not readable ({error}): run extract again") from error
    url = stated.get("url", "") if isinstance(stated, dict) else ""
    return StoredSet.at_url(index, RemoteFiles.of(str(url), stated, index, str(folder / STORE)))


def set_at(url: str) -> tuple[StoredSet | None, str | None]:
    """The set at a URL and the ETag of its index; None for each that is not there. ShardError for a damaged index."""
    remote = Remote(url)
    there = remote.file(INDEX)
    if there is None:
        return None, None
    try:
        text = remote.read(INDEX, there.size)
    except NoFileError:  # deleted in the meantime
        return None, None
    index = parse_index(text, remote.at(INDEX))
    files = RemoteFiles.of(remote.url, json.loads(text).get("store", {}), index, remote.at(INDEX))
    return StoredSet.at_url(index, files), there.etag
