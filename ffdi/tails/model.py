"""What scores images: a bundle, or an ensemble of bundles. Both have the interface `Model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ffdi.metrics import Metrics
from ffdi.tails.checkpoint import Scores
from ffdi.tails.recipe import REFIT

if TYPE_CHECKING:
    import pandas as pd

    from ffdi.tails.bundle import Bundle
    from ffdi.tails.policy import Policy


@dataclass(frozen=True)
class ModelScores:
    """Calibrated P(fake) of N images: `mean` (N,) is the model's score, `by_fold` has (N,) by the tails of each fold
    alone; nothing where the folds' tails of a refit recipe did not score. `distance` (N,) is how far they lie from the
    training, see TrainingIndex; None where it is not known."""

    mean: Scores
    by_fold: Mapping[int, Scores]
    distance: Scores | None = None

    @classmethod
    def of_folds(cls, by_fold: Mapping[int, Scores]) -> ModelScores:
        """Those of one recipe, whose score is the mean over its folds; or that of its refit's tail (REFIT), where it has
        one."""
        folds = {fold: scores for fold, scores in by_fold.items() if fold != REFIT}
        return cls(by_fold[REFIT] if REFIT in by_fold else np.asarray(np.mean(list(folds.values()), axis=0)), folds)


class Model(Protocol):
    """What scores images, and how its score becomes a verdict.

    `parts` are the bundles whose scores it joins; a bundle's only part is itself. `seen` has image_id and phash of each
    image of the training; `record` is bundle.json.
    """

    @property
    def parts(self) -> Sequence[Bundle]: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def threshold(self) -> float: ...
    @property
    def temperature(self) -> float: ...
    @property
    def prior(self) -> float: ...
    @property
    def seen(self) -> pd.DataFrame: ...
    @property
    def record(self) -> Mapping[str, Any]: ...

    @property
    def description(self) -> Metrics:
        """What it is made of, for metrics/details: the network and cut of a recipe, the members of an ensemble."""
        ...

    def joined(self, by_part: Sequence[Mapping[int, Scores]]) -> ModelScores:
        """The scores of the model, of those that each fold's tail of each of its parts gave the same N images."""
        ...
