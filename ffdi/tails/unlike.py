"""How far an image lies from those of a training: the distance of its pooled features to the nearest of them.

The distance to the nearest neighbours among features of the training tells what is unlike it without a model of either
(Sun et al., ICML 2022). Here it is that to the nearest one, of standardised features, so that the limit has a meaning
of its own: what QUANTILE of the training images keep to, each against the images of other groups than its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffdi.features.devices import precision_on
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Scores
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import MeanPool, Tail
from ffdi.tails.modes import judging
from ffdi.tails.row_norms import deviation

ROWS = 2048  # of the index, at most: 2 MB with CHANNELS of them
CHANNELS = 512  # wider features are projected to so many
QUANTILE = 0.99
BATCH = 64
_SEED = 0  # one for all recipes: those that share features and images share an index
_FARTHEST = 1e4  # standard deviations: beyond it all values count alike, and float16 holds it


@dataclass(frozen=True)
class TrainingIndex:
    """Pooled features of images of a training, and the limit of the distance beyond which another image is unlike them.

    `rows` (R, D) float16 are standardised with the `mean` and `std` (C,) float32 that they have themselves. More than
    CHANNELS channels are projected to so many by `signs` (C, D) int8 of +1 and -1: such a projection keeps distances,
    those along directions that the training hardly has included (Achlioptas, 2003), which principal components would
    drop. None where C = D. `limit` is in the units of the distance.
    """

    rows: Tensor
    mean: Tensor
    std: Tensor
    signs: Tensor | None
    limit: float

    @classmethod
    def of_features(cls, images: FoldedTable, device: torch.device) -> TrainingIndex | None:
        """The index of the features of images that were not synthesised, at most ROWS of them, drawn by a seed.

        Its limit is the QUANTILE of the distances of these images to the nearest one of another group. None when there is
        no other group, or when all images are alike.
        """
        at = _drawn(images.validates)
        return cls._of(images, at, at, device)

    @classmethod
    def of_tail(cls, images: FoldedTable, device: torch.device, tail: Tail, fold: int) -> TrainingIndex | None:
        """That of what the body of a fold's tail makes of the images that trained it. Its limit is that of the images of
        the fold: those that trained a tail lie nearer to each other than others do."""
        trained, held = images.validates & images.trains(fold), images.scored & (images.folds == fold)
        return cls._of(images, _drawn(trained), _drawn(held), device, tail)

    @classmethod
    def of_refit(
        cls, images: FoldedTable, device: torch.device, refit: Tail, tail: Tail, fold: int
    ) -> TrainingIndex | None:
        """That of what the body of a refit tail makes of all images, none of which it left out. Its limit is that of these
        images, times how much larger the limit of a fold's `tail` is for the fold than for what trained it."""
        everyone, trained = _drawn(images.validates), _drawn(images.validates & images.trains(fold))
        held, known = cls.of_tail(images, device, tail, fold), cls._of(images, trained, trained, device, tail)
        own = cls._of(images, everyone, everyone, device, refit)
        return replace(own, limit=own.limit * held.limit / known.limit) if own and held and known else None

    @classmethod
    def _of(
        cls, images: FoldedTable, indexed: Tensor, judged: Tensor, device: torch.device, tail: Tail | None = None
    ) -> TrainingIndex | None:
        """The index of the images at `indexed`, with the limit of those at `judged`."""
        if not len(indexed) or not len(judged):
            return None
        pooled = pooled_features(images.table.of(indexed), device, tail)
        own = pooled if judged is indexed else pooled_features(images.table.of(judged), device, tail)
        wide = pooled.double().numpy()
        mean = wide.mean(axis=0)
        std = torch.from_numpy(deviation(mean, wide.var(axis=0))).float()
        scales = cls(pooled, torch.from_numpy(mean).float(), std, _signs(pooled.shape[1]), 1.0)
        index = replace(scales, rows=scales._standardised(pooled).half())
        groups = torch.arange(len(images.table)) if images.table.groups is None else images.table.groups
        distances = index._nearest(own, groups[judged], groups[indexed])
        known = distances[np.isfinite(distances)]
        limit = float(np.quantile(known, QUANTILE, method="higher")) if len(known) else 0.0
        return replace(index, limit=limit) if limit > 0 else None

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> TrainingIndex:
        """As `tensors` and `facts` gave it."""
        return cls(tensors["rows"], tensors["mean"], tensors["std"], tensors.get("signs"), float(facts["limit"]))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What index.safetensors holds."""
        signs = {} if self.signs is None else {"signs": self.signs}
        return {"rows": self.rows, "mean": self.mean, "std": self.std, **signs}

    @property
    def facts(self) -> dict[str, Any]:
        """The entry `unlike` of bundle.json."""
        return {"limit": self.limit, "rows": len(self.rows), "quantile": QUANTILE}

    def distances(self, pooled: Tensor) -> Scores:
        """(N,) the distance of (N, C) pooled features to the nearest row, in units of the limit: above 1 is unlike."""
        return self._nearest(pooled) / self.limit

    def _nearest(self, pooled: Tensor, groups: Tensor | None = None, of_rows: Tensor | None = None) -> Scores:
        """(N,) distances to the nearest row; infinite where, of `groups` (N,), none `of_rows` (R,) is of another."""
        rows, parts = self.rows.float(), []
        for at in torch.arange(len(pooled)).split(BATCH):
            apart = torch.cdist(self._standardised(pooled[at]).half().float(), rows)
            if groups is not None and of_rows is not None:
                apart = apart.masked_fill(groups[at, None] == of_rows, torch.inf)
            parts.append(apart.amin(1))
        return torch.cat(parts).double().numpy()

    def _standardised(self, pooled: Tensor) -> Tensor:
        """(N, C) -> (N, D)."""
        x = (pooled.float() - self.mean) / self.std
        if self.signs is not None:
            x = x @ self.signs.float() / self.signs.shape[1] ** 0.5
        return x.clamp(-_FARTHEST, _FARTHEST)


def pooled_features(table: FeatureTable, device: torch.device, tail: Tail | None = None) -> Tensor:
    """(N, C) float32, on the CPU: the mean over the places of view 0, or of what the body of `tail` makes of it."""
    pool, parts = MeanPool(), []
    with torch.inference_mode(), judging(tail or pool):
        for features, _ in table.clean(BATCH, device):
            with precision_on(device, "float32"):
                parts.append(
                    pool(features.float() if tail is None else tail.to(device).embed(features)).flatten(1).cpu()
                )
    return torch.cat(parts).float()


@contextmanager
def embeddings(tail: Tail) -> Iterator[list[Tensor]]:
    """The pooled features of every batch that `tail` computes meanwhile in this thread, as pooled_features gives them."""
    kept, pool, here = list[Tensor](), MeanPool(), threading.get_ident()

    def keep(_: Any, __: Any, out: Tensor) -> None:
        if threading.get_ident() == here:  # others may score with the same tail
            kept.append(pool(out).flatten(1).float().cpu())

    handle = tail.norm.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def farthest(of_parts: Sequence[Scores | None]) -> Scores | None:
    """(N,) the largest distance by any part of a model that has an index; None when none has.

    Parts that share features and training images have the same index, so that each backbone counts once.
    """
    known = [distances for distances in of_parts if distances is not None]
    return np.max(known, axis=0) if known else None


def _drawn(chosen: Tensor) -> Tensor:
    """The positions of at most ROWS of the `chosen` (N,) images, ascending."""
    at = torch.nonzero(chosen).flatten()
    if len(at) <= ROWS:
        return at
    drawn = np.random.default_rng(_SEED).choice(len(at), ROWS, replace=False)
    return at[torch.from_numpy(np.sort(drawn))]


def _signs(channels: int) -> Tensor | None:
    if channels <= CHANNELS:
        return None
    drawn = np.random.default_rng(_SEED).integers(0, 2, (channels, CHANNELS), dtype=np.int8)
    return torch.from_numpy(2 * drawn - 1)
