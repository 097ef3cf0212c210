"""Feature shards: one HDF5 file of rows (image_id, view) each, an index written last, and a fingerprint in every file.

The sole user of h5py. A shard that is there is whole (temporary name, fsync, move); a set of shards counts once
`index.json` names it. Row order is (image_id, view).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ffdi.errors import ShardError
from ffdi.files import canonical_json, replacing, sha256_file, write_json

FORMAT_VERSION = 1
INDEX = "index.json"
_CHUNK_BYTES = 1 << 17
Row = tuple[str, int]  # (image_id, view)
Features = npt.NDArray[Any]


@dataclass(frozen=True)
class Spec:
    """What every row of a set of shards is: shape, dtype and all that decides a feature.

    `policy` holds the decode, resize, normalisation, view and runtime settings.
    """

    backbone: str
    network: str
    cut: str
    weights_sha256: str
    image_size: int
    shape: tuple[int, ...]
    dtype: str
    policy: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the canonical JSON of all fields but the backbone's name."""
        facts = asdict(self) | {"policy": dict(self.policy), "format_version": FORMAT_VERSION}
        del facts["backbone"]
        return hashlib.sha256(canonical_json(facts)).hexdigest()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's features."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def attributes(self) -> dict[str, Any]:
        """The attributes of every shard."""
        return {
            "fingerprint": self.fingerprint,
            "backbone": self.backbone,
            "cut": self.cut,
            "weights_sha256": self.weights_sha256,
            "image_size": self.image_size,
            "format_version": FORMAT_VERSION,
        }


def shard_name(number: int) -> str:
    """shard-00000.h5, shard-00001.h5, ..."""
    return f"shard-{number:05d}.h5"


def write_shard(file: Path, spec: Spec, rows: Sequence[Row], blocks: Iterable[Features]) -> None:
    """Write `rows` with the features of `blocks` ((n, C, H, W) each, in the rows' order), atomically.

    Raises ShardError naming the image when a feature is not finite, or when the blocks hold more or fewer rows.
    """
    chunk = max(1, min(len(rows), _CHUNK_BYTES // spec.row_bytes))
    with replacing(file) as temporary, _Sink(temporary) as sink, h5py.File(sink, "w", libver=("v110", "v110")) as h5:
        h5.attrs.update(spec.attributes())
        ids = np.frombuffer(bytes.fromhex("".join(i for i, _ in rows)), np.uint8).reshape(-1, 32)
        h5.create_dataset("image_id", data=ids, fletcher32=True)
        h5.create_dataset("view", data=np.array([v for _, v in rows], np.uint8), fletcher32=True)
        features = h5.create_dataset(
            "features", (len(rows), *spec.shape), spec.dtype, chunks=(chunk, *spec.shape), fletcher32=True
        )
        at = 0
        for block in _in_chunks(blocks, chunk):
            _refuse_nonfinite(block, rows[at : at + len(block)])
            features[at : at + len(block)] = block
            sink.check()
            at += len(block)
        if at != len(rows):
            raise ShardError(f"{file}: {at} rows of features came for {len(rows)} rows")


class _Sink(io.FileIO):
    """The file that HDF5 writes to. A failed write is kept for `check`: told of it, HDF5 kills the process at its end."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "w+")
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.failed is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failed = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return self.tell() if size is None else size

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self.failed:
            raise self.failed

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        super().__exit__(kind, *rest)
        if kind is None:
            self.check()


def _in_chunks(blocks: Iterable[Features], size: int) -> Iterator[Features]:
    """Regroup blocks to `size` rows, so that no chunk of the file is written twice."""
    held: list[Features] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= size:
            joined = np.concatenate(held)
            whole = count - count % size
            yield joined[:whole]
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def _refuse_nonfinite(block: Features, rows: Sequence[Row]) -> None:
    if block.dtype.kind != "f" or np.isfinite(block).all():
        return
    finite = [bool(np.isfinite(row).all()) for row in block]
    bad = [row for row, whole in zip(rows, finite, strict=True) if not whole]
    named = ", ".join(f"{image} view {view}" for image, view in bad[:5])
    raise ShardError(f"NaN or infinite {block.dtype} features of image {named}: set dtype: float32 or mend the weights")


_H5_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError)  # what h5py makes of damage, by its place


def _line(error: Exception) -> str:
    """HDF5's messages have several lines."""
    return " ".join(str(error).split())


class Shard:
    """One open shard, its schema checked against `spec` before a feature is read. Use as a context manager."""

    def __init__(self, file: Path, spec: Spec) -> None:
        self.file = file
        try:
            self._h5 = h5py.File(file, "r")
        except OSError as error:
            raise ShardError(f"{file}: no readable shard ({_line(error)}): run extract again") from error
        try:
            self.rows = self._check(spec)
            self._features: h5py.Dataset = self._h5["features"]
        except _H5_ERRORS as error:
            self._h5.close()
            raise ShardError(f"{file}: damaged ({_line(error)}): run extract again") from error
        except BaseException:
            self._h5.close()
            raise

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self._h5.close()

    def read(self, at: Sequence[int] | npt.NDArray[np.int64] | slice) -> Features:
        """Features (n, C, H, W) of the rows at the ascending positions `at`; ShardError on a wrong checksum."""
        try:
            return np.asarray(self._features[at])
        except _H5_ERRORS as error:
            raise ShardError(f"{self.file}: damaged features ({_line(error)}): run extract again") from error

    def _check(self, spec: Spec) -> list[Row]:
        for key, wanted in spec.attributes().items():
            found = self._h5.attrs.get(key)
            if found is None or type(wanted)(found) != wanted:
                raise ShardError(f"{self.file}: {key} is {found}, expected {wanted}: the shard is of other features")
        count = self._dataset("view").shape[0]
        layout = {"image_id": ((count, 32), "uint8"), "view": ((count,), "uint8")}
        for name, (shape, dtype) in (layout | {"features": ((count, *spec.shape), spec.dtype)}).items():
            found = self._dataset(name)
            if found.shape != shape or found.dtype != np.dtype(dtype):
                raise ShardError(f"{self.file}: {name} is {found.dtype}{found.shape}, expected {dtype}{shape}")
        if self._h5["features"].id.get_storage_size() < count * spec.row_bytes:
            raise ShardError(f"{self.file}: declares {count} rows of features that it does not hold")
        ids, views = np.asarray(self._h5["image_id"]), np.asarray(self._h5["view"])
        return [(bytes(i).hex(), int(v)) for i, v in zip(ids, views, strict=True)]

    def _dataset(self, name: str) -> h5py.Dataset:
        """A plain dataset of this very file: external links and storage could read any file of the machine."""
        link = self._h5.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ShardError(f"{self.file}: {name} is missing or a link out of the file")
        found = self._h5[name]
        if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
            raise ShardError(f"{self.file}: {name} is no plain dataset of this file")
        return found


@dataclass(frozen=True)
class Index:
    """index.json: which shards, with how many rows and what bytes, of which features, from which weights."""

    spec: Spec
    provenance: Mapping[str, Any]
    shards: tuple[Mapping[str, Any], ...]  # name, rows, sha256

    @property
    def rows(self) -> int:
        return sum(int(s["rows"]) for s in self.shards)

    def write(self, folder: Path) -> None:
        spec = asdict(self.spec) | {"shape": list(self.spec.shape), "policy": dict(self.spec.policy)}
        facts = {"format_version": FORMAT_VERSION, "fingerprint": self.spec.fingerprint, "rows": self.rows}
        shards = [dict(s) for s in self.shards]
        write_json(folder / INDEX, facts | {"spec": spec, "provenance": dict(self.provenance), "shards": shards})


def read_index(folder: Path) -> Index:
    """The index of a folder of shards; ShardError when it is missing or not of this format."""
    try:
        raw = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        spec = Spec(**(raw["spec"] | {"shape": tuple(raw["spec"]["shape"])}))
        index = Index(spec, raw["provenance"], tuple(raw["shards"]))
    except FileNotFoundError:
        raise ShardError(f"{folder / INDEX}: missing: run the extract stage first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{folder / INDEX}: not an index of shards ({error}): run extract again") from error
    if raw.get("fingerprint") != index.spec.fingerprint:
        raise ShardError(f"{folder / INDEX}: fingerprint {raw.get('fingerprint')} is not that of its own spec")
    return index


class FeatureStore:
    """Read features by (image_id, view) from a folder of shards.

    Opening checks the index, the sha256 of every file (HDF5 keeps some strings without a checksum, and a flipped bit
    there can hang its reader) and every schema. Files open per read, so a store can be handed to other threads and
    processes.

        store = FeatureStore(Path("data/features/mobilenet_v2"))
        x = store.read([(image_id, 0) for image_id in ids])    # (N, C, H, W) float16
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = read_index(folder)
        self.spec = self.index.spec
        self.verify()
        self._place: dict[Row, tuple[int, int]] = {}
        for number, entry in enumerate(self.index.shards):
            with self._shard(number) as shard:
                if len(shard.rows) != entry["rows"]:
                    raise ShardError(f"{shard.file}: {len(shard.rows)} rows, the index says {entry['rows']}")
                self._place.update((row, (number, at)) for at, row in enumerate(shard.rows))

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, row: Row) -> bool:
        return row in self._place

    def views(self, image_id: str) -> list[int]:
        """The views of an image that are there, ascending."""
        views: list[int] = []
        while (image_id, len(views)) in self._place:
            views.append(len(views))
        return views

    def read(self, rows: Sequence[Row]) -> Features:
        """(N, C, H, W) features in the order of `rows`; ShardError names the first row that is missing."""
        out = np.empty((len(rows), *self.spec.shape), self.spec.dtype)
        by_shard: dict[int, list[tuple[int, int]]] = {}
        for to, row in enumerate(rows):
            if row not in self._place:
                raise ShardError(f"{self.folder}: no features of image {row[0]} view {row[1]}: run extract again")
            number, at = self._place[row]
            by_shard.setdefault(number, []).append((at, to))
        for number, places in sorted(by_shard.items()):
            with self._shard(number) as shard:
                places.sort()
                for start in range(0, len(places), 256):
                    part = places[start : start + 256]
                    offsets = np.array([at for at, _ in part])
                    low, high = int(offsets[0]), int(offsets[-1]) + 1
                    # One contiguous read is far faster than h5py's selection of points; sparse rows go one by one.
                    if high - low <= 2 * len(part):
                        block = shard.read(slice(low, high))[offsets - low]
                    else:
                        block = np.concatenate([shard.read(slice(at, at + 1)) for at, _ in part])
                    out[[to for _, to in part]] = block
        return out

    def refuse_other_weights(self, sha256: str) -> None:
        """ShardError when the features were made with other weights than these."""
        if sha256 != self.spec.weights_sha256:
            raise ShardError(
                f"{self.folder}: made with weights {self.spec.weights_sha256[:12]}, the file given is {sha256[:12]}: "
                "run extract again"
            )

    def verify(self) -> None:
        """ShardError naming the first file whose bytes are not those of the index."""
        for entry in self.index.shards:
            if not (self.folder / entry["name"]).exists():
                raise ShardError(f"{self.folder / entry['name']}: missing: run extract again")
            if sha256_file(self.folder / entry["name"]) != entry["sha256"]:
                raise ShardError(f"{self.folder / entry['name']}: sha256 differs from the index: run extract again")

    def _shard(self, number: int) -> Shard:
        return Shard(self.folder / self.index.shards[number]["name"], self.spec)
