"""A small tail, a small table and a short training, shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe
from torch import Tensor, nn

from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Epoch, Fit
from ffdi.tails.feature_source import InMemory
from ffdi.tails.folds import FoldedTable, Split
from ffdi.tails.heads import Tail
from ffdi.tails.optimisation import Schedule
from ffdi.tails.recipe import Recipe
from ffdi.tails.train import cross_validate
from ffdi.tails.training_inputs import TrainingInputs

CPU = torch.device("cpu")
NONE = Schedule()
PLAIN = tiny_recipe(epochs=3, batch_size=8, lr=0.01)


def fresh_tail(seed: int) -> Tail:
    """A body with BatchNorm and a head with dropout on 4x2x2 features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        return Tail(body, nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, 2)), None)


def make_table(count: int = 36, views: int = 2, seed: int = 0) -> FeatureTable:
    """Fakes have a brighter first channel."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = rng.normal(size=(count, views, 4, 2, 2))
    features[:, :, 0] += 2.0 * labels[:, None, None, None]
    return FeatureTable(
        tuple(f"i{n}" for n in range(count)),
        InMemory(torch.tensor(features.reshape(-1, 4, 2, 2), dtype=torch.float16)),
        torch.arange(count) * views,
        torch.full((count,), views),
        torch.tensor(labels),
    )


TABLE = make_table()
FOLDS = [(n // 2) % 3 for n in range(36)]


IMAGES = FoldedTable.of(TABLE, FOLDS)
FIRST_24 = Split(0, TABLE.of(torch.arange(24)), TABLE.of(torch.arange(24, 36)))


def cross_validated(recipe: Recipe = PLAIN, images: FoldedTable = IMAGES, **options: Any) -> dict[int, Fit]:
    return cross_validate(fresh_tail, images, recipe, device=CPU, **options)


def tiny_inputs(tiny: Tiny, trained: Trained, weights: Path) -> TrainingInputs:
    """The features that the tiny bundle was trained on."""
    return TrainingInputs("tiny", tiny.rows, tiny_backbone(), trained.features, weights)


def killed_at(fold: int, epoch: int) -> Callable[[Epoch], None]:
    """Ends the run when that epoch is told, once."""

    def told(now: Epoch) -> None:
        if (now.fold, now.epoch) == (fold, epoch):
            raise KeyboardInterrupt

    return told


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[k], other[k]) for k in one) and set(one) == set(other)
