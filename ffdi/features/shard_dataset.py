"""Cached features for other code: a data set for torch's DataLoader, and plain npz files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ffdi.errors import ShardError
from ffdi.features.feature_spec import Features, Row
from ffdi.features.store import FeatureStore
from ffdi.files import replacing


class ShardDataset:
    """A map-style data set of (features, label), read from shards on demand.

    `labels` maps image_id to label and chooses the images; `views` are all of them (`all`) or view 0 alone (`clean`).
    Features are arrays of the stored dtype and shape, (C, H, W) for a CNN; `rows[i]` is the (image_id, view) of item i.
    `folder` may be the URL of a set (`s3://bucket/features/NAME`), whose shards are kept in the cache of this machine.
    It works with torch's DataLoader: each worker opens the shards itself, and a batch is read at once.
    Raises ShardError when a shard is damaged or an image of `labels` has no features.

        folds = pd.read_csv("data/folds.csv").merge(pd.read_csv("data/images.csv"), on="image_id")
        train = folds[(folds.role == "train") & (folds.fold != 0)]
        data = ShardDataset("data/features/mobilenet_v2", dict(zip(train.image_id, train.label)), views="all")
        for features, labels in DataLoader(data, batch_size=64, shuffle=True):
            loss = criterion(tail(features.float()), labels)
    """

    def __init__(
        self, folder: Path | str, labels: Mapping[str, int], *, views: Literal["clean", "all"] = "clean"
    ) -> None:
        self.store = FeatureStore(folder, keep_open=True)
        self.rows: list[Row] = []
        self.labels: list[int] = []
        for image_id in sorted(labels):
            stored = self.store.views(image_id)
            if not stored:
                raise ShardError(f"{folder}: no features of image {image_id}: run extract again")
            for view in stored if views == "all" else stored[:1]:
                self.rows.append((image_id, view))
                self.labels.append(int(labels[image_id]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> tuple[Features, int]:
        return self.__getitems__([at])[0]

    def __getitems__(self, at: Sequence[int]) -> list[tuple[Features, int]]:
        """The items of a batch, which DataLoader asks for together."""
        features = self.store.read([self.rows[i] for i in at])
        return [(item, self.labels[i]) for item, i in zip(features, at, strict=True)]


def export_npz(folder: Path | str, out: Path) -> Iterator[Path]:
    """Write each shard of `folder` as an npz file of the same stem in `out`, and yield its path.

    It holds `features` (N, *shape), `image_id` (N,) hex strings and `view` (N,) uint8.
    """
    store = FeatureStore(folder)
    for number, entry in enumerate(store.index.shards):
        file = out / Path(str(entry["name"])).with_suffix(".npz")
        with store.shard(number) as shard, replacing(file) as temporary, open(temporary, "wb") as opened:
            ids, views = zip(*shard.rows, strict=True)
            features = shard.read(slice(0, len(ids)))
            np.savez(opened, features=features, image_id=np.array(ids), view=np.array(views, np.uint8))
        yield file
