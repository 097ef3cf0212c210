"""What is wrong with shards on disk is refused, in a line that names the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from shard_files import FEATURES, ROWS, SPEC, make_store

from ffdi.errors import ShardError
from ffdi.features.shard_index import read_index
from ffdi.features.shards import Shard, write_shard
from ffdi.features.store import FeatureStore
from ffdi.files import sha256_file


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "features")


@pytest.mark.parametrize("keep", [0, 8, 700, -4096, -1])
def test_a_truncated_shard_is_refused(keep: int, tmp_path: Path) -> None:
    folder = make_store(tmp_path / "features")
    file = folder / "shard-00001.h5"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ShardError, match=r"shard-00001\.h5.*run extract again"):
        FeatureStore(folder).read(ROWS)


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    """In the header, a name, an attribute, an image_id or a feature: refused, or (in unused space) without effect."""
    folder = make_store(tmp_path / "features", per_shard=10)
    file = folder / "shard-00000.h5"
    intact = file.read_bytes()
    messages = []
    for at in range(0, len(intact), 5):
        damaged = bytearray(intact)
        damaged[at] ^= 1 << at % 8
        file.write_bytes(damaged)
        try:
            store = FeatureStore(folder)
            assert [row for row in ROWS if row in store] == ROWS and len(store) == len(ROWS)
            assert store.read(ROWS).tobytes() == FEATURES.tobytes()
        except ShardError as error:
            messages.append(str(error))
        with pytest.raises(ShardError, match=r"shard-00000\.h5: sha256 differs|no readable|damaged|expected"):
            FeatureStore(folder).verify()
    assert len(messages) > 0.5 * len(intact) / 5
    assert all("shard-00000.h5" in message and "\n" not in message for message in messages)


def test_verify_passes_whole_shards(store: Path) -> None:
    FeatureStore(store).verify()


@pytest.mark.parametrize("name", ["shard-00001.h5", "index.json"])
def test_a_missing_file_is_said_on_opening(name: str, store: Path) -> None:
    (store / name).unlink()
    with pytest.raises(ShardError, match=name):
        FeatureStore(store)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"spec": {"shape": 3}}', "\xff"])
def test_an_index_that_is_none_is_refused(text: str, store: Path) -> None:
    (store / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ShardError, match=r"index\.json: not an index of shards"):
        FeatureStore(store)


def test_an_index_whose_spec_was_edited_is_refused(store: Path) -> None:
    text = (store / "index.json").read_text()
    (store / "index.json").write_text(text.replace('"features.16"', '"features.15"'))
    with pytest.raises(ShardError, match="is not that of its own spec"):
        FeatureStore(store)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cut": "features.15"}, "fingerprint is .*, expected"),
        ({"weights_sha256": "cd" * 32}, "fingerprint is .*, expected"),
        ({"backbone": "other"}, "backbone is tiny, expected other"),
    ],
)
def test_shards_of_another_backbone_are_refused_naming_both_sides(
    change: dict[str, Any], says: str, store: Path
) -> None:
    with pytest.raises(ShardError, match=says):
        Shard(store / "shard-00000.h5", replace(SPEC, **change))


def test_features_of_other_weights_are_refused(store: Path) -> None:
    FeatureStore(store).refuse_other_weights("ab" * 32)
    with pytest.raises(ShardError, match="made with weights abababababab, the file given is cdcdcdcdcdcd"):
        FeatureStore(store).refuse_other_weights("cd" * 32)


def rewritten(file: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(file, "r+") as h5:
        change(h5)
    return file


def swap_dtype(h5: h5py.File) -> None:
    del h5["features"]
    h5["features"] = FEATURES[:4].astype(np.float32)


def swap_shape(h5: h5py.File) -> None:
    del h5["features"]
    h5["features"] = FEATURES[:4, :, :2]


def external_link(h5: h5py.File) -> None:
    del h5["features"]
    h5["features"] = h5py.ExternalLink("secret.h5", "features")


def soft_link(h5: h5py.File) -> None:
    h5.move("features", "elsewhere")
    h5["features"] = h5py.SoftLink("/elsewhere")


def external_storage(h5: h5py.File) -> None:
    del h5["features"]
    h5.create_dataset("features", (4, 2, 3, 3), "f2", external=[("secret.h5", 0, h5py.h5f.UNLIMITED)])


def virtual(h5: h5py.File) -> None:
    del h5["features"]
    layout = h5py.VirtualLayout((4, 2, 3, 3), "f2")
    layout[:] = h5py.VirtualSource("secret.h5", "features", (4, 2, 3, 3))
    h5.create_virtual_dataset("features", layout)


def group(h5: h5py.File) -> None:
    del h5["features"]
    h5.create_group("features")


def scalar_view(h5: h5py.File) -> None:
    del h5["view"]
    h5["view"] = np.uint8(1)


def no_view(h5: h5py.File) -> None:
    del h5["view"]


def odd_attribute(h5: h5py.File) -> None:
    h5.attrs["image_size"] = "large"


def no_attribute(h5: h5py.File) -> None:
    del h5.attrs["cut"]


def declares_too_much(h5: h5py.File) -> None:
    """157 GB in a file of kilobytes: chunks that were never written take no room."""
    rows = 157 * 10**9 // SPEC.row_bytes
    for name, shape, dtype in (("features", SPEC.shape, "f2"), ("image_id", (32,), "u1"), ("view", (), "u1")):
        del h5[name]
        h5.create_dataset(name, (rows, *shape), dtype, chunks=(1000, *shape))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (swap_dtype, r"features is float32\(4, 2, 3, 3\), expected float16"),
        (swap_shape, r"features is float16\(4, 2, 2, 3\), expected float16\(4, 2, 3, 3\)"),
        (external_link, "features is missing or a link out of the file"),
        (soft_link, "features is missing or a link out of the file"),
        (external_storage, "features is no plain dataset"),
        (virtual, "features is no plain dataset"),
        (group, "features is no plain dataset"),
        (scalar_view, "view|damaged"),
        (no_view, "view is missing"),
        (odd_attribute, "image_size|damaged"),
        (no_attribute, "cut is None, expected features.16"),
        (declares_too_much, "declares .* rows of features that it does not hold"),
    ],
)
def test_a_foreign_file_is_refused_before_a_feature_is_read(
    change: Callable[[h5py.File], None], says: str, store: Path
) -> None:
    file = store / "shard-00000.h5"
    write_shard(store / "secret.h5", SPEC, ROWS[:4], [FEATURES[:4]])  # would do, if links were followed
    rewritten(file, change)
    assert file.stat().st_size < 100_000
    with pytest.raises(ShardError, match=says) as error:
        Shard(file, SPEC)
    assert "\n" not in str(error.value)


def test_a_shard_with_other_rows_than_the_index_says_is_refused(store: Path) -> None:
    file = store / "shard-00001.h5"
    write_shard(file, SPEC, ROWS[4:7], [FEATURES[4:7]])
    index = read_index(store)
    entries = (index.shards[0], dict(index.shards[1]) | {"sha256": sha256_file(file)})
    replace(index, shards=entries).write(store)
    with pytest.raises(ShardError, match=r"shard-00001\.h5: 3 rows, the index says 4"):
        FeatureStore(store)
