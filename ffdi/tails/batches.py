"""Shards + labels -> batches. An image's views stay together: they are rows of one entry, never entries of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ffdi.console import Console, Say
from ffdi.errors import ParamsError
from ffdi.features.feature_spec import Features, Row
from ffdi.features.store import FeatureStore
from ffdi.files import human_bytes
from ffdi.memory import memory_limit
from ffdi.tails.feature_source import FeatureSource, InMemory, Streamed
from ffdi.tails.pairing import couples, paired_order
from ffdi.tails.ranks import ranks_of_machine
from ffdi.tails.share import Share

CPU = torch.device("cpu")


@dataclass(frozen=True)
class FeatureTable:
    """The features of N images, with their labels.

    `source` holds the rows; `first` (N,) is the row of each image's first view, `views` (N,) the number of its views,
    which follow each other; `labels` (N,) int64. `groups` (N,) are the numbers of the images' groups, where they are
    known.
    """

    image_ids: tuple[str, ...]
    source: FeatureSource
    first: Tensor
    views: Tensor
    labels: Tensor
    groups: Tensor | None = None

    @classmethod
    def of_features(cls, features: Features | Tensor, labels: Tensor | None = None) -> FeatureTable:
        """N images of one view each, from (N, C, H, W) features in memory; all labels are 1 when none are given."""
        kept = features if isinstance(features, Tensor) else torch.from_numpy(features)
        numbers = torch.arange(len(kept))
        ids = tuple(map(str, numbers.tolist()))
        ones = torch.ones_like(numbers)
        return cls(ids, InMemory(kept), numbers, ones, ones if labels is None else labels)

    @classmethod
    def of_rows(
        cls, features: Features, rows: Sequence[Row], image_ids: Sequence[str], labels: Sequence[int]
    ) -> FeatureTable:
        """Some of the images that the `rows` (image_id, view) of `features` are of, with all views that `rows` has.

        The rows of an image follow each other, its view 0 first.
        """
        ids = [image_id for image_id, _ in rows]
        starts = {image_id: at for at, image_id in reversed(list(enumerate(ids)))}
        counts = dict(zip(*np.unique(ids, return_counts=True), strict=True))
        return cls(
            tuple(image_ids),
            InMemory(torch.from_numpy(features)),
            torch.tensor([starts[i] for i in image_ids]),
            torch.tensor([int(counts[i]) for i in image_ids]),
            torch.tensor(np.asarray(labels, dtype=np.int64)),
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    def of(self, positions: Tensor) -> FeatureTable:
        """The images at `positions`; the features are shared, not copied."""
        ids = tuple(self.image_ids[i] for i in positions.tolist())
        groups = None if self.groups is None else self.groups[positions]
        return FeatureTable(
            ids, self.source, self.first[positions], self.views[positions], self.labels[positions], groups
        )

    def grouped(self, groups: Sequence[str]) -> FeatureTable:
        """The same images, the group of each known."""
        return replace(self, groups=torch.from_numpy(np.unique(np.array(groups, dtype=str), return_inverse=True)[1]))

    def views_as_images(self) -> FeatureTable:
        """Every view as an image of its own, under the image_id of its image: one of the mistakes of the ladder."""
        image, row = self.every_view()
        return replace(self.of(image), first=row, views=torch.ones_like(row))

    def clean(self, batch_size: int, device: torch.device = CPU) -> Iterator[tuple[Tensor, Tensor]]:
        """(features, labels) of view 0 in the table's order, on `device`."""
        batches = torch.arange(len(self)).split(batch_size)
        yield from self._batches(self.first, self.labels, batches, device)

    def samples(self, views: str) -> int:
        """The number of samples in an epoch of `shuffled`."""
        return int(self.views.sum()) if views == "all" else len(self)

    def shuffled(
        self,
        batch_size: int,
        views: str,
        generator: torch.Generator,
        device: torch.device = CPU,
        pairing: str = "none",
        share: Callable[[int], Share] = Share.all_of,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (features, labels) on `device`, in an order that `generator` (of the CPU) draws.

        The labels are of the whole batch, the features of the samples that `share` chooses of so many.

        `views`: `sample` draws one view of every image; `all` takes every view of every image. `pairing`: with `group`,
        real and fake of one group stand in one batch, see paired_order.
        """
        if views == "all":
            image, rows = self.every_view()
        else:
            image = torch.arange(len(self))
            rows = self.first + (torch.rand(len(self), generator=generator) * self.views).long()
        order = self.source.order(rows, batch_size, generator)
        if pairing == "group" and self.groups is not None:
            order = paired_order(order, self.labels[image], self.groups[image])
        batches = list(order.split(batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:  # train-mode BatchNorm cannot take a batch of one
            batches[-2:] = [torch.cat(batches[-2:])]
        yield from self._batches(rows, self.labels[image], batches, device, share)

    def refuse_without_couples(self) -> None:
        """ParamsError when no group has a real and a fake image, which `pairing: group` could pair."""
        if self.groups is None or not couples(self.labels, self.groups):
            count = 0 if self.groups is None else len(self.groups.unique())
            raise ParamsError(
                f"pairing: group: none of the {count} groups of the training images has a real and a fake one: give the "
                "images' source as data.group, or leave pairing out"
            )

    def every_view(self) -> tuple[Tensor, Tensor]:
        """(V,) the image and (V,) the row of every view, image by image."""
        image = torch.repeat_interleave(torch.arange(len(self)), self.views)
        start = torch.cumsum(self.views, 0) - self.views
        return image, self.first[image] + torch.arange(len(image)) - start[image]

    def _batches(
        self,
        rows: Tensor,
        labels: Tensor,
        batches: Sequence[Tensor],
        device: torch.device,
        share: Callable[[int], Share] = Share.all_of,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples with these rows and labels, in `batches` of their places. The labels go to the device once: a copy in every
        step would wait for it."""
        if not batches:
            return
        taken = [share(len(batch)).taken(batch) for batch in batches]
        by_batch = labels[torch.cat(list(batches))].to(device).split([len(batch) for batch in batches])
        features = self.source.batches(rows[torch.cat(taken)], [len(batch) for batch in taken])
        for of_batch, batch_labels in zip(features, by_batch, strict=True):
            yield of_batch.to(device, non_blocking=True), batch_labels


def load_table(
    store: FeatureStore,
    image_ids: Sequence[str],
    labels: Sequence[int],
    *,
    views: Literal["all"] | int,
    memory_gb: float,
    device: torch.device = CPU,
    console: Console = Console(),
) -> FeatureTable:
    """The features of `image_ids`: all views, or the view of that number.

    They are put on `device` if they fit there; otherwise in memory if they fit `memory_gb` and half of a container's
    memory, with those of the other ranks of this machine; otherwise they are streamed from their shards. A quarter of a
    GPU's free memory is left for the training.
    `console` says when the features are not on the device. Raises ShardError when an image has no features.
    """
    counts = [max(1, len(store.views(i))) if views == "all" else 1 for i in image_ids]
    start = 0 if views == "all" else views
    rows = [(i, start + v) for i, n in zip(image_ids, counts, strict=True) for v in range(n)]
    row_bytes = math.prod(store.spec.shape) * np.dtype(store.spec.reads_as).itemsize
    source: FeatureSource
    size, most, ranks = len(rows) * row_bytes, min(memory_gb * 1e9, memory_limit() / 2), ranks_of_machine()[1]
    if size * ranks <= most:
        source = InMemory(_on_device(torch.from_numpy(store.read(rows)), device, console.say))
    else:
        by_params = most == memory_gb * 1e9
        limit = (
            f"train.memory_gb = {memory_gb:g}" if by_params else f"half of the container's memory ({human_bytes(most)})"
        )
        features = "the features" if ranks == 1 else f"{ranks} times the features"
        console.say(f"{features} exceed {limit}: read from the shards in every epoch")
        store.refuse_missing(rows)
        source = Streamed(store, rows, max(1, int(most / row_bytes / 3)), ranks)
    views_of = torch.tensor(counts)
    first = torch.cumsum(views_of, 0) - views_of
    return FeatureTable(tuple(image_ids), source, first, views_of, torch.tensor(np.asarray(labels, dtype=np.int64)))


def _on_device(features: Tensor, device: torch.device, say: Say) -> Tensor:
    """The features on the device; where a GPU has no room for them, on the CPU, which gives the same batches."""
    if device.type != "cuda":
        return features
    free = torch.cuda.mem_get_info(device)[0]
    if features.nbytes <= free * 3 // 4:
        with suppress(torch.OutOfMemoryError):
            return features.to(device)
        torch.cuda.empty_cache()
    say(
        f"the features ({human_bytes(features.nbytes)}) leave no room on the GPU ({human_bytes(free)} free): kept in "
        "the CPU's memory, batches are copied"
    )
    return features
