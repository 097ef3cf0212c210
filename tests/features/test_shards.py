"""A shard is complete or refused: written atomically, checked against its spec, read by row."""

from __future__ import annotations

import errno
import fcntl
import json
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_files import FEATURES, ROWS, SPEC, make_store

from ffdi.errors import FfdiError, ShardError
from ffdi.features.quantised import as_stored
from ffdi.features.shard_index import read_index, shard_name
from ffdi.features.shards import COMPRESSIONS, Shard, StoredRow, write_shard
from ffdi.features.store import FeatureStore
from ffdi.files import sha256_file


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "features")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(make_store(tmp_path_factory.mktemp("lasting"), per_shard=3))


def test_a_shard_is_as_documented(store: Path) -> None:
    with h5py.File(store / "shard-00000.h5", "r") as h5:
        assert {k: (v.dtype, v.shape, v.fletcher32) for k, v in h5.items()} == {
            "features": (np.float16, (4, 2, 3, 3), True),
            "image_id": (np.uint8, (4, 32), True),
            "view": (np.uint8, (4,), True),
        }
        attributes = {k: v if isinstance(v, str) else int(v) for k, v in h5.attrs.items()}
        assert bytes(h5["image_id"][0]).hex() == ROWS[0][0]
    assert attributes == {
        "fingerprint": SPEC.fingerprint,
        "backbone": "tiny",
        "cut": "features.16",
        "weights_sha256": "ab" * 32,
        "image_size": 64,
        "format_version": 2,
    }


def test_the_index_names_every_shard_with_its_rows_and_hash(store: Path) -> None:
    raw = json.loads((store / "index.json").read_text())
    assert [(s["name"], s["rows"]) for s in raw["shards"]] == [(shard_name(n), r) for n, r in enumerate((4, 4, 2))]
    assert all(s["sha256"] == sha256_file(store / s["name"]) for s in raw["shards"])
    assert (raw["rows"], raw["fingerprint"], raw["provenance"]) == (10, SPEC.fingerprint, {"weights": "random"})
    assert read_index(store).spec == SPEC


@given(asked=st.lists(st.sampled_from(range(10)), max_size=25))
@settings(deadline=None)
def test_rows_are_read_in_any_order_and_more_than_once(lasting: FeatureStore, asked: list[int]) -> None:
    assert np.array_equal(lasting.read([ROWS[i] for i in asked]), FEATURES[asked])


@given(cuts=st.lists(st.integers(0, 10), max_size=6).map(sorted))
@settings(deadline=None, max_examples=30)
def test_the_bytes_do_not_depend_on_how_the_features_came_in_blocks(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("blocks") / "one.h5"
    write_shard(file, SPEC, ROWS, [FEATURES])
    write_shard(file.with_name("many.h5"), SPEC, ROWS, np.split(FEATURES, cuts))
    assert file.with_name("many.h5").read_bytes() == file.read_bytes()


def test_compressed_shards_hold_the_same_features_in_fewer_bytes(tmp_path: Path) -> None:
    smooth = np.zeros((10, 2, 3, 3), np.float16)
    smooth[:, 0, 0, 0] = np.arange(10)
    for compression in COMPRESSIONS:
        write_shard(tmp_path / compression, SPEC, ROWS, [smooth], compression)
        with Shard(tmp_path / compression, SPEC) as shard:
            assert shard.compression == compression and shard.rows == ROWS
            assert np.array_equal(shard.read(slice(0, 10)), smooth)
        with h5py.File(tmp_path / compression) as h5:
            assert h5["features"].fletcher32
    wide = replace(SPEC, shape=(64, 8, 8))
    sizes = []
    for compression in COMPRESSIONS:
        write_shard(tmp_path / "wide", wide, ROWS, [np.ones((10, 64, 8, 8), np.float16)], compression)
        sizes.append((tmp_path / "wide").stat().st_size)
    assert sizes[1] < sizes[0] / 4


def test_rows_copied_raw_leave_the_bytes_of_rows_computed(store: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "computed", SPEC, ROWS[1:4], [FEATURES[1:4]])
    with Shard(store / "shard-00000.h5", SPEC) as old:
        write_shard(tmp_path / "copied", SPEC, ROWS[1:4], [StoredRow(old, 1), FEATURES[2:3], StoredRow(old, 3)])
        with pytest.raises(ShardError, match="2 rows of features came for 1"):
            write_shard(tmp_path / "more", SPEC, ROWS[1:2], [StoredRow(old, 1), StoredRow(old, 2)])
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "computed").read_bytes()


def test_a_row_that_was_damaged_and_copied_raw_is_found_on_reading(store: Path, tmp_path: Path) -> None:
    with h5py.File(store / "shard-00000.h5", "r+") as h5:
        mask, raw = h5["features"].id.read_direct_chunk((1, 0, 0, 0))
        h5["features"].id.write_direct_chunk((1, 0, 0, 0), bytes([raw[0] ^ 1]) + raw[1:], mask)
    with Shard(store / "shard-00000.h5", SPEC) as old:
        write_shard(tmp_path / "copied", SPEC, ROWS[1:2], [StoredRow(old, 1)])
    with Shard(tmp_path / "copied", SPEC) as copy, pytest.raises(ShardError, match="damaged features"):
        copy.read(slice(0, 1))


def test_reading_takes_no_lock_and_asks_for_none(store: Path) -> None:
    """On NFS without locks HDF5's own would fail, and a good shard be called unreadable."""
    with open(store / "shard-00000.h5", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with Shard(store / "shard-00000.h5", SPEC) as shard:
            assert len(shard.read(slice(0, 2))) == 2


def test_a_shard_that_may_not_be_read_is_not_called_lost(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(h5py, "File", denied)
    with pytest.raises(ShardError, match="Permission denied") as caught:
        Shard(store / "shard-00000.h5", SPEC)
    assert "extract" not in str(caught.value)


def test_int8_shards_read_as_float16_within_half_a_step(tmp_path: Path) -> None:
    spec = replace(SPEC, dtype="int8")
    wide = FEATURES.astype(np.float16)
    wide[3, 1] = 0
    write_shard(tmp_path / "f", spec, ROWS, [wide[:4], wide[4:]])
    step = np.abs(wide.astype(np.float32)).max(axis=(2, 3), keepdims=True) / 127
    with Shard(tmp_path / "f", spec) as shard:
        read = shard.read(slice(0, 10))
        assert read.dtype == np.float16 and np.array_equal(read, as_stored(wide, "int8"))
        assert (np.abs(read.astype(np.float32) - wide) <= step * 0.51 + np.abs(wide) / 1024).all()
        assert not read[3, 1].any()
        for compression in COMPRESSIONS:  # codes are copied, never quantised again
            write_shard(tmp_path / "computed", spec, ROWS, [wide], compression)
            write_shard(tmp_path / "copied", spec, ROWS, [StoredRow(shard, at) for at in range(10)], compression)
            assert (tmp_path / "copied").read_bytes() == (tmp_path / "computed").read_bytes()
    with pytest.raises(ShardError, match="NaN or infinite"):
        write_shard(tmp_path / "f", spec, ROWS, [np.full_like(wide, np.inf)])


def test_int8_shards_take_half_the_bytes(tmp_path: Path) -> None:
    sizes = []
    for dtype in ("float16", "int8"):
        spec = replace(SPEC, dtype=dtype, shape=(160, 7, 7))
        write_shard(tmp_path / dtype, spec, ROWS, [np.ones((10, 160, 7, 7), np.float16)])
        sizes.append((tmp_path / dtype).stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


def test_a_store_that_keeps_files_open_reads_the_same(store: Path) -> None:
    kept = FeatureStore(store, keep_open=True)
    for asked in ([3, 1], [9, 0, 3], [5]):
        assert np.array_equal(kept.read([ROWS[i] for i in asked]), FEATURES[asked])
    again = pickle.loads(pickle.dumps(kept))
    assert np.array_equal(again.read(ROWS), FEATURES)


def test_the_store_knows_its_views(lasting: FeatureStore) -> None:
    assert len(lasting) == 10
    assert lasting.views(ROWS[0][0]) == [0, 1]
    assert lasting.views("00" * 32) == []
    assert ROWS[3] in lasting and (ROWS[0][0], 2) not in lasting
    with pytest.raises(ShardError, match=f"no features of image {ROWS[0][0]} view 2"):
        lasting.read([ROWS[1], (ROWS[0][0], 2)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_stop_the_writer_naming_the_image(value: float, tmp_path: Path) -> None:
    features = FEATURES.copy()
    features[7, 1, 0, 0] = value
    with pytest.raises(ShardError, match=f"image {ROWS[7][0]} view {ROWS[7][1]}: set dtype: float32"):
        write_shard(tmp_path / "s.h5", SPEC, ROWS, [features])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [9, 11])
def test_more_or_fewer_features_than_rows_are_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=f"{count} rows of features came for 10 rows"):
        write_shard(tmp_path / "s.h5", SPEC, ROWS, [np.resize(FEATURES, (count, 2, 3, 3))])
    assert list(tmp_path.iterdir()) == []


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of a file fail, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [10, 1_000, 20_000, 300_000, 620_000])
def test_a_disk_that_fills_up_leaves_nothing_and_is_said_in_one_line(
    size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """HDF5 that is told of a failed write takes the process down with it, at once or on the next file."""
    spec = replace(SPEC, shape=(640, 7, 7))
    blocks = np.ones((10, 640, 7, 7), np.float16)  # 627 kB
    for _ in range(2):
        with file_size_limit(size), pytest.raises(FfdiError) as error:
            write_shard(tmp_path / "s.h5", spec, ROWS, iter(blocks[:, None]))
        assert str(error.value) == f"{tmp_path / 's.h5'}: cannot be written: File too large"
        assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    write_shard(tmp_path / "s.h5", spec, ROWS, iter(blocks[:, None]))
    with Shard(tmp_path / "s.h5", spec) as shard:
        assert shard.read(slice(0, 10)).all()


def test_the_fingerprint_changes_with_everything_but_the_backbones_name() -> None:
    changes: list[dict[str, Any]] = [
        {"network": "torchvision:resnet18"},
        {"cut": "features.15"},
        {"weights_sha256": "cd" * 32},
        {"image_size": 65},
        {"shape": (2, 3, 4)},
        {"dtype": "float32"},
        {"policy": {"mean": [0.4]}},
    ]
    prints = {replace(SPEC, **change).fingerprint for change in changes} | {SPEC.fingerprint}
    assert len(prints) == len(changes) + 1
    assert replace(SPEC, backbone="other").fingerprint == SPEC.fingerprint
