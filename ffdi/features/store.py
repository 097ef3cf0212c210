"""Read features by image and view from a set of shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.byte_cache import cache_bound
from ffdi.errors import ShardError
from ffdi.features.feature_spec import Features, Row, key_rows, row_keys
from ffdi.features.shards import Shard
from ffdi.features.stored_set import read_set
from ffdi.parallel import ordered_map

_KEPT_OPEN = 256  # files; a process may usually open 1024
_DOWNLOADS = 4  # shards at a time


class FeatureStore:
    """Read features by (image_id, view) from a folder of shards, or from those at a URL.

    Opening a store checks the index, the sha256 of every file and every schema. (HDF5 keeps some strings without a
    checksum, and a flipped bit there can hang its reader.) Of shards at a URL it checks the sizes; each is hashed when it
    is downloaded into the cache of this machine, and when this process first takes it from there. Files are opened for each read, unless `keep_open` keeps the
    last ones open for many small reads. Either way a store can be handed to other threads and processes.

        store = FeatureStore(Path("data/features/mobilenet_v2"))
        x = store.read([(image_id, 0) for image_id in ids])    # (N, C, H, W) float16
    """

    def __init__(self, folder: Path | str, *, keep_open: bool = False) -> None:
        self.folder = folder
        self.keep_open = keep_open
        self._open: dict[
            tuple[int, int], Shard
        ] = {}  # by process and number, because HDF5's state must not cross a fork
        self._set = read_set(folder)
        self.index = self._set.index
        self.spec = self.index.spec
        self.verify()
        self._keys = self._set.all_keys()
        if not np.all(self._keys[:-1] < self._keys[1:]):
            raise ShardError(f"{folder}: rows are not sorted by image and view: run extract again")
        files = self._set.remote.shards if self._set.remote else ()
        of_cache = [cache_bound() // 2 // file.size for file in files]  # an open file takes room although it is deleted
        self._most_open = max(1, min([_KEPT_OPEN, *of_cache]))
        self._starts = np.cumsum([0, *(int(entry["rows"]) for entry in self.index.shards)])

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, row: Row) -> bool:
        return bool(self._positions([row])[0] >= 0)

    @property
    def rows(self) -> list[Row]:
        """Every (image_id, view), sorted."""
        return key_rows(self._keys)

    def views(self, image_id: str) -> list[int]:
        """The stored views of an image, ascending."""
        low, high = np.searchsorted(self._keys, row_keys([(image_id, 0), (image_id, 255)]))
        return [view for image, view in key_rows(self._keys[low : high + 1]) if image == image_id]

    def read(self, rows: Sequence[Row]) -> Features:
        """(N, *shape) features in the order of `rows`; ShardError names the first row that is missing."""
        positions = self.refuse_missing(rows)
        out = np.empty((len(rows), *self.spec.shape), self.spec.reads_as)
        number = np.searchsorted(self._starts, positions, side="right") - 1
        order = np.argsort(positions, kind="stable")
        for this in self._at_hand(np.unique(number).tolist()):
            in_shard = order[number[order] == this]
            with self._reading(this) as shard:
                for start in range(0, len(in_shard), 256):
                    part = in_shard[start : start + 256]
                    offsets = positions[part] - self._starts[this]
                    low, high = int(offsets[0]), int(offsets[-1]) + 1
                    # One contiguous read is far faster than h5py's selection of points; sparse rows are read one by one.
                    if high - low <= 2 * len(part):
                        out[part] = shard.read(slice(low, high))[offsets - low]
                    else:
                        out[part] = np.concatenate([shard.read(slice(at, at + 1)) for at in map(int, offsets)])
        return out

    def refuse_missing(self, rows: Sequence[Row]) -> npt.NDArray[np.int64]:
        """(N,) the positions of `rows` in the set; ShardError names the first row that has no features."""
        positions = self._positions(rows)
        if (positions < 0).any():
            image_id, view = rows[int(np.argmax(positions < 0))]
            raise ShardError(f"{self.folder}: no features of image {image_id} view {view}: run extract again")
        return positions

    def refuse_other_weights(self, sha256: str) -> None:
        """ShardError when the features were made with weights of another hash."""
        if sha256 != self.spec.weights_sha256:
            raise ShardError(
                f"{self.folder}: made with weights {self.spec.weights_sha256[:12]}, the file given is {sha256[:12]}: "
                "run extract again"
            )

    def verify(self) -> None:
        """ShardError naming the first shard that is missing or whose bytes are not those that the index says."""
        for number, trouble in enumerate(self._set.troubles()):
            if trouble:
                raise ShardError(f"{self._set.where(number)}: {trouble}: run extract again")

    def verify_bytes(self) -> None:
        """As verify, of every byte: shards at a URL are downloaded, past the cache."""
        self._set.check_bytes()

    def shard(self, number: int) -> Shard:
        """Open a shard of the index; the caller closes it."""
        return self._set.open(number)

    def _at_hand(self, numbers: list[int]) -> Iterator[int]:
        """The same numbers of shards. What lies at a URL is downloaded a few shards ahead."""
        if self._set.remote is None or len(numbers) == 1:
            return iter(numbers)
        ahead = min(_DOWNLOADS, self._most_open)
        return ordered_map(self._set.download, numbers, ahead, ahead - 1)

    @contextmanager
    def _reading(self, number: int) -> Iterator[Shard]:
        if not self.keep_open:
            with self.shard(number) as shard:
                yield shard
            return
        place = (os.getpid(), number)
        if place not in self._open:
            if len(self._open) >= self._most_open:
                self._open = {}
            self._open[place] = self.shard(number)
        yield self._open[place]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def _positions(self, rows: Sequence[Row]) -> npt.NDArray[np.int64]:
        """(N,) positions of rows in the set; -1 where a row is not there."""
        keys = row_keys(rows)
        at = np.minimum(np.searchsorted(self._keys, keys), max(0, len(self._keys) - 1))
        return np.where(self._keys[at] == keys, at, -1) if len(self._keys) else np.full(len(rows), -1)
