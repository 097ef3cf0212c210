"""One tail that all training images trained: it scores images in the place of the folds' tails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Any

from torch import Tensor

from ffdi.errors import placed
from ffdi.tails.checkpoint import Epoch, Fit
from ffdi.tails.folds import FoldedTable
from ffdi.tails.recipe import REFIT, Recipe

Train = Callable[[FoldedTable, Recipe], Mapping[int, Fit]]  # the fits of the folds that its images ask for


@dataclass(frozen=True)
class Refit:
    """The tail's state, as that of a Fit, and `facts`, the entry `refit` of bundle.json: the number of `images` that
    trained it, its `epochs`, and of a probe what it chose."""

    state: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def refit_tail(recipe: Recipe, images: FoldedTable, fits: Mapping[int, Fit], train: Train) -> Refit:
    """Train a fresh tail on all images, barred ones and synthesised fakes included, by what the `fits` of the folds found.

    A head with epochs has the median number of theirs up to the best one (of an even count the lower of the middle two),
    and its schedule runs over these; the last epoch is kept. A probe chooses its C on the folds. The seed is that of a
    fold of its own.
    """
    epochs = median_low(fitted.best_epoch + 1 for fitted in fits.values())
    with placed("refit"):
        ((_, fitted),) = train(images.whole(), replace(recipe, epochs=epochs, patience=None)).items()
    facts: dict[str, Any] = {"images": len(images.table)}
    if not recipe.head.is_fitted:
        facts["epochs"] = epochs
    return Refit(fitted.state, facts | dict(fitted.choice or {}))


def of_refit(on_epoch: Callable[[Epoch], None]) -> Callable[[Epoch], None]:
    """`on_epoch`, told of epochs of the refit."""
    return lambda epoch: on_epoch(replace(epoch, fold=REFIT))
