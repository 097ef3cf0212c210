"""Cached features in a user's own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained
from torch.utils.data import DataLoader

from ffdi.errors import ShardError
from ffdi.features.shard_dataset import ShardDataset, export_npz
from ffdi.features.store import FeatureStore


@pytest.fixture(scope="module")
def store(trained: Trained) -> FeatureStore:
    return FeatureStore(trained.features)


@pytest.fixture(scope="module")
def labels(store: FeatureStore) -> dict[str, int]:
    """Labels of every second image, in no order."""
    ids = sorted({image_id for image_id, _ in store.rows})[::2]
    return {image_id: number % 2 for number, image_id in enumerate(reversed(ids))}


def test_the_images_of_labels_alone_with_their_views(store: FeatureStore, labels: dict[str, int]) -> None:
    clean, every = ShardDataset(store.folder, labels), ShardDataset(store.folder, labels, views="all")
    assert clean.rows == [(i, 0) for i in sorted(labels)]
    assert every.rows == [row for row in store.rows if row[0] in labels]
    assert len(every) > len(clean) == len(labels)
    for at, (image_id, _) in enumerate(every.rows):
        features, label = every[at]
        assert np.array_equal(features, store.read([every.rows[at]])[0]) and label == labels[image_id]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_reads_it(workers: int, store: FeatureStore, labels: dict[str, int]) -> None:
    data = ShardDataset(str(store.folder), labels, views="all")
    data[0]  # opens a shard, which no worker may share
    torch.manual_seed(0)
    order = [int(i) for batch in DataLoader(range(len(data)), batch_size=7, shuffle=True) for i in batch]
    torch.manual_seed(0)
    batches = list(DataLoader(data, batch_size=7, shuffle=True, num_workers=workers))
    features, batch_labels = (torch.cat(part) for part in zip(*batches, strict=True))
    assert features.dtype == torch.float16
    assert np.array_equal(features.numpy(), store.read([data.rows[i] for i in order]))
    assert batch_labels.tolist() == [labels[data.rows[i][0]] for i in order]


def test_an_image_without_features_is_an_error(store: FeatureStore) -> None:
    with pytest.raises(ShardError, match=f"no features of image {'00' * 32}"):
        ShardDataset(store.folder, {"00" * 32: 1})


def test_export_writes_what_the_shards_hold(store: FeatureStore, tmp_path: Path) -> None:
    files = list(export_npz(store.folder, tmp_path / "npz"))
    assert [f.name for f in files] == [e["name"].replace(".h5", ".npz") for e in store.index.shards]
    held = [np.load(file) for file in files]
    rows = [(str(i), int(v)) for part in held for i, v in zip(part["image_id"], part["view"], strict=True)]
    assert rows == store.rows
    assert np.array_equal(np.concatenate([part["features"] for part in held]), store.read(rows))
