"""Feature shards: HDF5 files of rows (image_id, view), sorted, with the fingerprint of the features in every file.

The sole user of h5py. A shard is written under a temporary name and moved, so a file that is there is complete. A set
of shards counts once `index.json` names it, which is written when all of them are synced.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ffdi.errors import ShardError, one_line
from ffdi.features.feature_spec import Features, FeatureSpec, Keys, Row, key_rows, row_keys
from ffdi.features.quantised import Scales, quantise, restore
from ffdi.files import replacing

COMPRESSIONS = ("none", "bitshuffle-lz4")


class StoredRow(NamedTuple):
    """A row of an open shard, to be copied raw: not decompressed, its checksum not recomputed."""

    shard: Shard
    at: int


Piece = Features | StoredRow


def write_shard(
    file: Path,
    spec: FeatureSpec,
    rows: Sequence[Row],
    pieces: Iterable[Piece],
    compression: str = "none",
    *,
    checked: bool = False,
) -> None:
    """Write `rows` with the features of `pieces`, in the rows' order, atomically. The bytes do not depend on the pieces.

    A piece is a block (n, *shape) or a row of another shard. Raises ShardError naming the image when a feature is not
    finite (unless the blocks are `checked`), or when the pieces hold more or fewer rows. The file is not synced; that
    must be done before an index names it.
    """
    with (
        replacing(file, sync=False) as temporary,
        _Sink(temporary) as sink,
        h5py.File(sink, "w", libver=("v110", "v110"), rdcc_nbytes=0) as h5,
    ):
        writer = _ShardWriter(h5, spec, rows, compression)
        at = 0
        for piece in pieces:
            end = at + (1 if isinstance(piece, StoredRow) else len(piece))
            if end > len(rows):
                raise ShardError(f"{file}: {end} rows of features came for {len(rows)} rows")
            if isinstance(piece, StoredRow):
                writer.copy(piece, at)
            else:
                if not checked:
                    refuse_nonfinite(piece, rows[at:end])
                writer.store(piece, at)
            sink.check()
            at = end
        if at != len(rows):
            raise ShardError(f"{file}: {at} rows of features came for {len(rows)} rows")
        writer.finish()


class _ShardWriter:
    """The datasets of a new shard.

    A chunk holds one row, and there is no chunk cache: rows can be copied raw, and lie in the file in the order of
    writing.
    """

    def __init__(self, h5: h5py.File, spec: FeatureSpec, rows: Sequence[Row], compression: str) -> None:
        self._h5, self._spec, self._compression = h5, spec, compression
        h5.attrs.update(spec.attributes())
        keys = row_keys(rows).view(np.uint8).reshape(-1, 33)
        h5.create_dataset("image_id", data=keys[:, :32], fletcher32=True)
        h5.create_dataset("view", data=keys[:, 32], fletcher32=True)
        shape, chunk, filters = (len(rows), *spec.shape), (1, *spec.shape), _filters(compression)
        self._features = h5.create_dataset("features", shape, spec.dtype, chunks=chunk, fletcher32=True, **filters)
        self._scales = np.zeros((len(rows), spec.shape[0] if spec.dtype == "int8" else 0), np.float32)

    def copy(self, row: StoredRow, at: int) -> None:
        """Write a row of another shard as row `at`."""
        self._scales[at] = row.shard.scales[row.at]
        if row.shard.compression == self._compression:
            mask, raw = row.shard.raw(row.at)
            self._features.id.write_direct_chunk((at, *(0 for _ in self._spec.shape)), raw, filter_mask=mask)
        else:
            self._features[at : at + 1] = row.shard.codes(slice(row.at, row.at + 1))

    def store(self, block: Features, at: int) -> None:
        """Write a block (n, *shape) of features as the rows from `at` on."""
        here = slice(at, at + len(block))
        if self._spec.dtype == "int8":
            self._features[here], self._scales[here] = quantise(block)
        else:
            self._features[here] = block

    def finish(self) -> None:
        """Write what is known only once all rows are there."""
        if self._spec.dtype == "int8":
            self._h5.create_dataset("scale", data=self._scales, fletcher32=True)


def _filters(compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    import hdf5plugin  # importing it registers its filters with HDF5

    return dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))


class _Sink(io.FileIO):
    """The file that HDF5 writes to. A failed write is kept for `check`: if HDF5 saw the error, it would abort at exit."""

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


def refuse_nonfinite(block: Features, rows: Sequence[Row]) -> None:
    """ShardError naming the first of `rows` whose features (n, ...) are not all finite."""
    if block.dtype.kind != "f" or np.isfinite(block).all():
        return
    finite = [bool(np.isfinite(row).all()) for row in block]
    bad = [row for row, is_finite in zip(rows, finite, strict=True) if not is_finite]
    named = ", ".join(f"{image} view {view}" for image, view in bad[:5])
    raise ShardError(f"NaN or infinite {block.dtype} features of image {named}: set dtype: float32 or mend the weights")


_H5_ERRORS = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
)  # what h5py raises on damaged files, depending on the place
_BITSHUFFLE = 32008  # its number in HDF5's registry of filters


class Shard:
    """One open shard. Its schema is checked against `spec` before a feature is read. Use it as a context manager.

    Messages say `called` where the file is a copy of another one.
    """

    def __init__(self, file: Path, spec: FeatureSpec, called: str | None = None) -> None:
        self.called, self._spec = called or str(file), spec
        try:
            self._h5 = h5py.File(
                file, "r", locking=False
            )  # a shard is complete and never changes; NFS may have no locks
        except OSError as error:
            lost = error.errno in (
                None,
                errno.ENOENT,
            )  # other errors leave the file intact, such as a missing permission
            cure = ": run extract again" if lost else ""
            raise ShardError(f"{self.called}: no readable shard ({one_line(error)}){cure}") from error
        try:
            self.keys = self._check(spec)  # (N,) S33
            self._features: h5py.Dataset = self._h5["features"]
            scales = self._h5["scale"] if spec.dtype == "int8" else np.empty((len(self.keys), 0))
            self.scales: Scales = np.asarray(scales, np.float32)  # (N, C) for int8
        except _H5_ERRORS as error:
            self._h5.close()
            raise ShardError(f"{self.called}: damaged ({one_line(error)}): run extract again") from error
        except BaseException:
            self._h5.close()
            raise

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self._h5.close()

    def read(self, at: slice) -> Features:
        """Features (n, *shape) of the rows `at`, in the dtype `spec.reads_as`; ShardError on a wrong checksum."""
        codes = self.codes(at)
        return restore(codes, self.scales[at]) if self._spec.dtype == "int8" else codes

    def codes(self, at: slice) -> Features:
        """What is stored for the rows `at`: the features themselves, or their int8 codes."""
        try:
            return np.asarray(self._features[at])
        except _H5_ERRORS as error:
            raise ShardError(f"{self.called}: damaged features ({one_line(error)}): run extract again") from error

    @property
    def rows(self) -> list[Row]:
        """(image_id, view) of each row."""
        return key_rows(self.keys)

    def raw(self, at: int) -> tuple[int, bytes]:
        """(filter mask, bytes) of row `at` as they are in the file, with its checksum, which is not verified."""
        try:
            return self._features.id.read_direct_chunk((at, *(0 for _ in self._features.shape[1:])))  # type: ignore
        except _H5_ERRORS as error:
            raise ShardError(f"{self.called}: damaged features ({one_line(error)}): run extract again") from error

    def _check(self, spec: FeatureSpec) -> Keys:
        for key, wanted in spec.attributes().items():
            value = self._h5.attrs.get(key)
            if value is None or type(wanted)(value) != wanted:
                raise ShardError(
                    f"{self.called}: {key} is {value}, expected {wanted}: the shard is of other features: run extract again"
                )
        count = self._dataset("view").shape[0]
        layout: dict[str, tuple[tuple[int, ...], str]] = {
            "image_id": ((count, 32), "uint8"),
            "view": ((count,), "uint8"),
            "features": ((count, *spec.shape), spec.dtype),
        }
        if spec.dtype == "int8":
            layout["scale"] = ((count, spec.shape[0]), "float32")
        for name, (shape, dtype) in layout.items():
            dataset = self._dataset(name)
            if dataset.shape != shape or dataset.dtype != np.dtype(dtype):
                found = f"{dataset.dtype}{dataset.shape}, expected {dtype}{shape}"
                raise ShardError(f"{self.called}: {name} is {found}: run extract again")
        features = self._h5["features"]
        created = features.id.get_create_plist()
        packed = _BITSHUFFLE in [created.get_filter(n)[0] for n in range(created.get_nfilters())]
        self.compression = "bitshuffle-lz4" if packed else "none"
        _filters(self.compression)
        held = features.id.get_num_chunks() if features.chunks == (1, *spec.shape) else 0
        if held != count or (not packed and features.id.get_storage_size() < features.size * features.dtype.itemsize):
            raise ShardError(
                f"{self.called}: declares {count} rows of features that it does not hold: run extract again"
            )
        keys = np.empty((count, 33), np.uint8)
        keys[:, :32], keys[:, 32] = self._h5["image_id"], self._h5["view"]
        return keys.reshape(-1).view("S33")

    def _dataset(self, name: str) -> h5py.Dataset:
        """A plain dataset in this file. External links and external storage could read any file of the machine."""
        link = self._h5.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ShardError(f"{self.called}: {name} is missing or a link out of the file: run extract again")
        dataset = self._h5[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise ShardError(f"{self.called}: {name} is no plain dataset of this file: run extract again")
        return dataset
