"""Where the rows of a FeatureTable lie: in memory (a GPU's or the machine's), or in their shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from ffdi.features.feature_spec import Row
from ffdi.features.store import FeatureStore
from ffdi.parallel import ordered_map

_BLOCK = 256  # rows of a stream that are read together


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread. An operation on one image or row is so short that waking a second thread costs more than
    the work (measured: gathering a batch took 6 times as long, jitter 4 times, where idle threads sleep)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class FeatureSource(Protocol):
    """Rows of features, numbered from 0."""

    def order(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """(N,) a random permutation of 0..N-1: in which order to take the N `rows`."""
        ...

    def batches(self, rows: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """The features of `rows` (N,), in batches of `sizes`, which sum to N."""
        ...

    def leave_gpu(self) -> bool:
        """Free the GPU's memory that the features take; False when they take none. Batches stay the same."""
        ...


class InMemory:
    """`features` (R, C, H, W), on the CPU or on a GPU."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def order(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """A uniform permutation."""
        return torch.randperm(len(rows), generator=generator)

    def batches(self, rows: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Batches on the features' device. The row numbers go there once: a copy in every step would wait for it."""
        return map(self._gather, rows.to(self.features.device).split(list(sizes)))

    def leave_gpu(self) -> bool:
        """Move the features to the CPU's memory; every table of this source moves with them."""
        if not self.features.is_cuda:
            return False
        self.features = self.features.cpu()
        return True

    def _gather(self, rows: Tensor) -> Tensor:
        with one_thread() if rows.device.type == "cpu" else nullcontext():
            return self.features.index_select(0, rows)


class Streamed:
    """Features that stay in the shards of `store` because they exceed the memory; row n is `rows[n]` of the store.

    Batches are read ahead in windows of `size` rows; three windows are in memory at a time. Where as many `ranks` of this
    machine read, each reads windows of its part of them.
    """

    def __init__(self, store: FeatureStore, rows: Sequence[Row], size: int, ranks: int = 1) -> None:
        self.store, self.rows, self.size, self.ranks = store, rows, size, ranks

    def order(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """A permutation that reads well: blocks of neighbouring rows in random order, shuffled window by window.

        Neighbours have nothing in common: shards are sorted by the images' hashes.
        """
        blocks = list(torch.argsort(rows).split(_BLOCK))
        shuffled = torch.cat([blocks[at] for at in torch.randperm(len(blocks), generator=generator).tolist()])
        windows = shuffled.split(max(1, self.size // batch_size) * batch_size)
        return torch.cat([window[torch.randperm(len(window), generator=generator)] for window in windows])

    def batches(self, rows: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Batches on the CPU, while a thread reads the next window."""
        windows: list[list[Tensor]] = []
        for batch in rows.split(list(sizes)):
            if not windows or sum(map(len, windows[-1])) + len(batch) > self.size // self.ranks:
                windows.append([])
            windows[-1].append(batch)

        def read(window: list[Tensor]) -> Tensor:
            return torch.from_numpy(self.store.read([self.rows[row] for batch in window for row in batch.tolist()]))

        for window, features in zip(windows, ordered_map(read, windows, 1, waiting=1), strict=True):
            yield from features.split([len(batch) for batch in window])

    def leave_gpu(self) -> bool:
        """False: a stream holds nothing on a GPU."""
        return False
