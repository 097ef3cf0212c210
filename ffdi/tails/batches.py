"""Shards + labels -> batches. An image's views stay together: they are rows of one entry, never entries of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffdi.errors import FfdiError, ParamsError
from ffdi.features.store import FeatureStore
from ffdi.files import human_bytes

Operation = str | dict[str, Any]


@dataclass(frozen=True)
class FeatureTable:
    """The features of some images in memory, with their labels.

    `features` (R, C, H, W) as stored; `first` (N,) the row of each image's view 0; `views` (N,) how many follow on
    from it, view 0 included; `labels` (N,) int64.
    """

    image_ids: tuple[str, ...]
    features: Tensor
    first: Tensor
    views: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.image_ids)

    def of(self, positions: Tensor) -> FeatureTable:
        """The images at `positions`; the features are shared, not copied."""
        ids = tuple(self.image_ids[i] for i in positions.tolist())
        return FeatureTable(ids, self.features, self.first[positions], self.views[positions], self.labels[positions])

    def clean(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(features, labels) of view 0 in the table's order."""
        for at in torch.arange(len(self)).split(batch_size):
            yield self.features[self.first[at]], self.labels[at]

    def shuffled(self, batch_size: int, views: str, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in random order. `sample`: one view of every image, drawn anew; `all`: every view of every image."""
        if views == "all":
            image = torch.repeat_interleave(torch.arange(len(self)), self.views)
            start = torch.cumsum(self.views, 0) - self.views
            view = torch.arange(len(image)) - start[image]
        else:
            image = torch.arange(len(self))
            view = (torch.rand(len(self), generator=generator) * self.views).long()
        batches = list(torch.randperm(len(image), generator=generator).split(batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:  # train-mode BatchNorm cannot take a batch of one
            batches[-2:] = [torch.cat(batches[-2:])]
        for at in batches:
            yield self.features[self.first[image[at]] + view[at]], self.labels[image[at]]


def load_table(
    store: FeatureStore, image_ids: Sequence[str], labels: Sequence[int], *, views: bool, memory_gb: float
) -> FeatureTable:
    """Read the features of `image_ids` (all views, or view 0 alone) into memory.

    Raises ShardError when an image has no features, FfdiError when they exceed `memory_gb`.
    """
    counts = [max(1, len(store.views(i))) if views else 1 for i in image_ids]
    size = sum(counts) * math.prod(store.spec.shape) * np.dtype(store.spec.reads_as).itemsize
    if size > memory_gb * 1e9:
        raise FfdiError(
            f"{store.folder}: {human_bytes(size)} of features exceed train.memory_gb = {memory_gb:g}: raise it, or lower "
            "the backbone's views or choose a deeper cut"
        )
    rows = [(i, v) for i, n in zip(image_ids, counts, strict=True) for v in range(n)]
    views_of = torch.tensor(counts)
    return FeatureTable(
        tuple(image_ids),
        torch.from_numpy(store.read(rows)),
        torch.cumsum(views_of, 0) - views_of,
        views_of,
        torch.tensor(np.asarray(labels, dtype=np.int64)),
    )


def augmentation(operations: Sequence[Operation]) -> Callable[[Tensor], Tensor]:
    """Random operations on a batch on its device, drawn from torch's (seeded) generator.

    `hflip`, `vflip`: each sample with probability .5; they also fit feature maps. `{jitter: {brightness: .5, hue: .3}}`:
    torchvision's ColorJitter, for uint8 images alone.
    """
    steps = [_operation(entry) for entry in operations]

    def apply(batch: Tensor) -> Tensor:
        for step in steps:
            batch = step(batch)
        return batch

    return apply


def _operation(entry: Operation) -> Callable[[Tensor], Tensor]:
    name, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()), ("", {}))
    if name in ("hflip", "vflip") and not options:
        axis = -1 if name == "hflip" else -2

        def flip(batch: Tensor) -> Tensor:
            if batch.ndim != 4:
                raise ParamsError(f"augment {entry!r}: for images and maps (C, H, W), not for {tuple(batch.shape[1:])}")
            chosen = torch.rand(len(batch), device=batch.device) < 0.5
            return torch.where(chosen.view(-1, 1, 1, 1), batch.flip(axis), batch)

        return flip
    if name == "jitter":
        from torchvision.transforms import v2

        try:
            jitter = v2.ColorJitter(**options)
        except (TypeError, ValueError) as error:
            raise ParamsError(f"augment {entry!r}: {' '.join(str(error).split())}") from error

        def recolour(batch: Tensor) -> Tensor:
            if batch.dtype != torch.uint8:
                raise ParamsError(f"augment {entry!r}: jitter is for images (cut: input), not for feature maps")
            return torch.stack([jitter(image) for image in batch])

        return recolour
    raise ParamsError(f"augment {entry!r} is not one of hflip, vflip, jitter")


def mixing(mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019) with these alphas, else labels as they are.

    (features, labels (B,)) -> (features, labels (B,) or soft (B, 2)); with both, each batch draws one.
    """
    if not mixup and not cutmix:
        return lambda features, labels: (features, labels)
    from torchvision.transforms import v2

    kinds = [kind(alpha=a, num_classes=2) for kind, a in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if a]
    choose = v2.RandomChoice(kinds)

    def mix(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if cutmix and features.ndim != 4:
            raise ParamsError(f"mix.cutmix: for images and maps (C, H, W), not for {tuple(features.shape[1:])}")
        return choose(features.float(), labels)  # type: ignore[no-any-return]

    return mix
