"""Which images train the tail of a fold, and which validate it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffdi.errors import FfdiError
from ffdi.tails.batches import FeatureTable


@dataclass(frozen=True)
class Split:
    """The images that train the tail of one fold, and those that validate it."""

    fold: int
    train: FeatureTable
    validation: FeatureTable

    @property
    def name(self) -> str:
        """What messages call it: that of a refit is of no fold."""
        return f"fold {self.fold}" if len(self.validation) else "all images"


@dataclass(frozen=True)
class FoldedTable:
    """The training images, each with its fold. Every image trains the tails of all folds but its own.

    `folds` (N,) int64 is the fold of every image of `table`. `validates` (N,) bool is false for images that validate
    no tail: synthesised fakes. `barred` (N,) int64 is a second fold whose tail an image does not train, since that fold
    holds out its value; -1 for none. A barred image validates no tail. `only` is the one fold that a training is to
    have, whatever the recipe says; None for those of the recipe.
    """

    table: FeatureTable
    folds: Tensor
    validates: Tensor
    barred: Tensor
    only: int | None = None

    @classmethod
    def of(
        cls,
        table: FeatureTable,
        folds: Sequence[int],
        validates: Sequence[bool] | None = None,
        groups: Sequence[str] | None = None,
        barred: Sequence[int] | None = None,
    ) -> FoldedTable:
        """FfdiError when an image has no fold, as test images have none. By default all validate and none is barred.

        `groups` are the images' groups, where the table does not know them.
        """
        folds = list(folds)
        if min(folds, default=0) < 0:
            raise FfdiError("a test row came to training: only rows of role train may")
        validating = [True] * len(folds) if validates is None else list(validates)
        table = table if groups is None else table.grouped(groups)
        second = [-1] * len(folds) if barred is None else list(barred)
        return cls(table, torch.tensor(folds), torch.tensor(validating), torch.tensor(second, dtype=torch.int64))

    @property
    def numbers(self) -> list[int]:
        """The folds, ascending."""
        return sorted(set(self.folds.tolist()))

    def groups_of(self, image_ids: Iterable[str]) -> npt.NDArray[Any]:
        """(N,) the group of each of these images; each image is its own where the table knows no groups."""
        table = self.table
        names = table.image_ids if table.groups is None else table.groups.tolist()
        group = dict(zip(table.image_ids, names, strict=True))
        return np.array([group[image_id] for image_id in image_ids])

    def split(self, fold: int) -> Split:
        """The images of `fold` that validate, and all images of the other folds that it does not bar."""
        return Split(fold, self._where(self.trains(fold)), self._where(self.scored & (self.folds == fold)))

    @property
    def scored(self) -> Tensor:
        """(N,) bool: the images that validate the tail of their fold."""
        return self.validates & (self.barred < 0)

    def trains(self, fold: int) -> Tensor:
        """(N,) bool: the images that train the tail of `fold`."""
        return (self.folds != fold) & (self.barred != fold)

    def wanted(self, limit: Literal["all"] | int) -> list[int]:
        """The folds that a recipe with `folds: limit` trains."""
        return first_folds(self.numbers, limit) if self.only is None else [self.only]

    def without(self, first: int, second: int) -> FoldedTable:
        """The same images, of which two folds are one, the only one that is to be trained: its tail trains on neither.

        Its number is that of no fold and of no other pair, so that its seed and its checkpoint are its own.
        """
        count = max(self.numbers) + 1
        number = count * (1 + first) + second

        def renamed(folds: Tensor) -> Tensor:
            return torch.where((folds == first) | (folds == second), number, folds)

        return FoldedTable(self.table, renamed(self.folds), self.validates, renamed(self.barred), number)

    def whole(self) -> FoldedTable:
        """The same images, all of which train the one tail that is to be trained; none validates it.

        Its number is that of no fold and of no pair of `without`.
        """
        return replace(self, only=max(self.numbers) + 1)

    def _where(self, chosen: Tensor) -> FeatureTable:
        return self.table.of(torch.nonzero(chosen).flatten())


def first_folds(folds: Iterable[int], limit: Literal["all"] | int) -> list[int]:
    """The folds that a recipe trains (`folds` of params.yaml): the lowest `limit`, or all."""
    return sorted(set(folds))[: None if limit == "all" else limit]
