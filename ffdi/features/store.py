"""Read features by image and view from a set of shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.errors import ShardError
from ffdi.features.feature_spec import Features, Keys, Row, key_rows, row_keys
from ffdi.features.shard_index import read_index, unchanged_shards
from ffdi.features.shards import Shard

_KEPT_OPEN = 256  # files; a process may usually open 1024


class FeatureStore:
    """Read features by (image_id, view) from a folder of shards.

    Opening a store checks the index, the sha256 of every file and every schema. (HDF5 keeps some strings without a
    checksum, and a flipped bit there can hang its reader.) Files are opened for each read, unless `keep_open` keeps the
    last ones open for many small reads. Either way a store can be handed to other threads and processes.

        store = FeatureStore(Path("data/features/mobilenet_v2"))
        x = store.read([(image_id, 0) for image_id in ids])    # (N, C, H, W) float16
    """

    def __init__(self, folder: Path, *, keep_open: bool = False) -> None:
        self.folder = folder
        self.keep_open = keep_open
        self._open: dict[
            tuple[int, int], Shard
        ] = {}  # by process and number, because HDF5's state must not cross a fork
        self.index = read_index(folder)
        self.spec = self.index.spec
        self.verify()
        keys: list[Keys] = [np.empty(0, "S33")]
        for number, entry in enumerate(self.index.shards):
            with self.shard(number) as shard:
                if len(shard.keys) != entry["rows"]:
                    what = f"{len(shard.keys)} rows, the index says {entry['rows']}"
                    raise ShardError(f"{shard.called}: {what}: run extract again")
                keys.append(shard.keys)
        self._keys = np.concatenate(keys)
        if not np.all(self._keys[:-1] < self._keys[1:]):
            raise ShardError(f"{folder}: rows are not sorted by image and view: run extract again")
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
        for this in np.unique(number):
            in_shard = order[number[order] == this]
            with self._reading(int(this)) as shard:
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
        """ShardError naming the first file whose bytes are not those that the index says."""
        for entry, same in zip(self.index.shards, unchanged_shards(self.folder, self.index.shards), strict=True):
            if not same:
                file = self.folder / entry["name"]
                trouble = "sha256 differs from the index" if file.exists() else "missing"
                raise ShardError(f"{file}: {trouble}: run extract again")

    def shard(self, number: int) -> Shard:
        """Open a shard of the index; the caller closes it."""
        return Shard(self.folder / self.index.shards[number]["name"], self.spec)

    @contextmanager
    def _reading(self, number: int) -> Iterator[Shard]:
        if not self.keep_open:
            with self.shard(number) as shard:
                yield shard
            return
        place = (os.getpid(), number)
        if place not in self._open:
            if len(self._open) >= _KEPT_OPEN:
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
