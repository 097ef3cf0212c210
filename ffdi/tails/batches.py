"""Shards + labels -> batches. An image's views stay together: they are rows of one entry, never entries of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ffdi.features.feature_spec import Row
from ffdi.features.store import FeatureStore
from ffdi.files import human_bytes
from ffdi.memory import memory_limit
from ffdi.parallel import ordered_map

CPU = torch.device("cpu")
_BLOCK = 256  # rows of a stream that are read together


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch's operations run on one thread: those on one image or row are so short that to wake a second thread for
    each costs more than the work (gathering a batch took 6 times, jitter 4 times as long where threads sleep at rest)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Streamed:
    """Features that stay in their shards, for they exceed the memory: `rows` as a table counts them.

    Batches are read ahead in windows of `size` rows; three of them are in memory at a time.
    """

    def __init__(self, store: FeatureStore, rows: Sequence[Row], size: int) -> None:
        self.store, self.rows, self.size = store, rows, size

    def order(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """(N,) a shuffle of `rows` that reads well: blocks of neighbours in random order, shuffled window by window.

        Neighbours are strangers already, for shards are sorted by the images' hashes.
        """
        blocks = list(torch.argsort(rows).split(_BLOCK))
        shuffled = torch.cat([blocks[at] for at in torch.randperm(len(blocks), generator=generator).tolist()])
        windows = shuffled.split(max(1, self.size // batch_size) * batch_size)
        return torch.cat([window[torch.randperm(len(window), generator=generator)] for window in windows])

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """The features of each entry of `rows`, while a thread reads what comes next."""
        windows: list[list[Tensor]] = []
        for own in rows:
            if not windows or sum(map(len, windows[-1])) + len(own) > self.size:
                windows.append([])
            windows[-1].append(own)

        def read(window: list[Tensor]) -> Tensor:
            return torch.from_numpy(self.store.read([self.rows[at] for own in window for at in own.tolist()]))

        for window, features in zip(windows, ordered_map(read, windows, 1, waiting=1), strict=True):
            yield from features.split([len(own) for own in window])


@dataclass
class FeatureTable:
    """The features of some images, with their labels.

    `features` (R, C, H, W) as stored, in memory, on a GPU or still in the shards; `first` (N,) the row of each image's
    view 0; `views` (N,) how many follow on from it, view 0 included; `labels` (N,) int64.
    """

    image_ids: tuple[str, ...]
    features: Tensor | Streamed
    first: Tensor
    views: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.image_ids)

    def of(self, positions: Tensor) -> FeatureTable:
        """The images at `positions`; the features are shared, not copied."""
        ids = tuple(self.image_ids[i] for i in positions.tolist())
        return FeatureTable(ids, self.features, self.first[positions], self.views[positions], self.labels[positions])

    def leave_device(self) -> None:
        """Move the features to the CPU's memory; batches stay the same. Whoever holds this table lets the device's go."""
        if isinstance(self.features, Tensor):
            self.features = self.features.cpu()

    def clean(self, batch_size: int, device: torch.device = CPU) -> Iterator[tuple[Tensor, Tensor]]:
        """(features, labels) of view 0 in the table's order, on `device`."""
        sizes = [len(at) for at in torch.arange(len(self)).split(batch_size)]
        yield from self._batches(self.first, self.labels, sizes, device)

    def samples(self, views: str) -> int:
        """How many an epoch of `shuffled` has."""
        return int(self.views.sum()) if views == "all" else len(self)

    def shuffled(
        self, batch_size: int, views: str, generator: torch.Generator, device: torch.device = CPU
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (features, labels) on `device`, in random order that `generator`, of the CPU, draws.

        `sample`: one view of every image, drawn anew; `all`: every view of every image.
        """
        if views == "all":
            image = torch.repeat_interleave(torch.arange(len(self)), self.views)
            start = torch.cumsum(self.views, 0) - self.views
            view = torch.arange(len(image)) - start[image]
        else:
            image = torch.arange(len(self))
            view = (torch.rand(len(self), generator=generator) * self.views).long()
        rows = self.first[image] + view
        if isinstance(self.features, Streamed):
            order = self.features.order(rows, batch_size, generator)
        else:
            order = torch.randperm(len(rows), generator=generator)
        batches = list(order.split(batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:  # train-mode BatchNorm cannot take a batch of one
            batches[-2:] = [torch.cat(batches[-2:])]
        order = torch.cat(batches) if batches else order
        yield from self._batches(rows[order], self.labels[image[order]], [len(at) for at in batches], device)

    def _batches(
        self, rows: Tensor, labels: Tensor, sizes: Sequence[int], device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of `sizes`; places and labels go to the device once, for a copy in every step would wait for it."""
        given = labels.to(device).split(list(sizes))
        if isinstance(self.features, Streamed):
            features = self.features.batches(rows.split(list(sizes)))
        else:
            features = map(self._rows, rows.to(self.features.device).split(list(sizes)))
        for batch, own in zip(features, given, strict=True):
            yield batch.to(device, non_blocking=True), own

    def _rows(self, at: Tensor) -> Tensor:
        assert isinstance(self.features, Tensor)
        with one_thread() if at.device.type == "cpu" else nullcontext():
            return self.features.index_select(0, at)


def load_table(
    store: FeatureStore,
    image_ids: Sequence[str],
    labels: Sequence[int],
    *,
    views: bool,
    memory_gb: float,
    device: torch.device = CPU,
    view: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> FeatureTable:
    """The features of `image_ids` (all views, or `view` alone): on `device` where they fit it, else in memory where they
    fit `memory_gb` (and half of a container's memory), else streamed from their shards.

    A GPU keeps a quarter of its free memory for the training. `say` is told where they are not on the device. Raises
    ShardError when an image has no features.
    """
    counts = [max(1, len(store.views(i))) if views else 1 for i in image_ids]
    rows = [(i, v + view) for i, n in zip(image_ids, counts, strict=True) for v in range(n)]
    row_bytes = math.prod(store.spec.shape) * np.dtype(store.spec.reads_as).itemsize
    features: Tensor | Streamed
    size, most = len(rows) * row_bytes, min(memory_gb * 1e9, memory_limit() / 2)
    if size <= most:
        features = _on_device(torch.from_numpy(store.read(rows)), device, say)
    else:
        own = most == memory_gb * 1e9
        why = f"train.memory_gb = {memory_gb:g}" if own else f"half of the container's memory ({human_bytes(most)})"
        say(f"the features exceed {why}: read from the shards in every epoch")
        store.refuse_missing(rows)
        features = Streamed(store, rows, max(1, int(most / row_bytes / 3)))
    views_of = torch.tensor(counts)
    return FeatureTable(
        tuple(image_ids),
        features,
        torch.cumsum(views_of, 0) - views_of,
        views_of,
        torch.tensor(np.asarray(labels, dtype=np.int64)),
    )


def _on_device(features: Tensor, device: torch.device, say: Callable[[str], None]) -> Tensor:
    """The features on the device; where a GPU has not the room, on the CPU, which gives the same batches."""
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
