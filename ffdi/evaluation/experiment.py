"""What the rungs of the ladder share: the features, the folds, and a recipe ready to be trained on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ffdi.features.backbone import Backbone
from ffdi.features.devices import device_line
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.feature_spec import Features, Row
from ffdi.features.weights import load_network
from ffdi.metrics import auc
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import BATCH, sigmoid
from ffdi.tails.checkpoint import Scores
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import Tail, TailFactory
from ffdi.tails.recipe import Recipe
from ffdi.tails.train import cross_validate, predict_logits
from ffdi.tails.trainable import load_trained


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with what it takes to train it: `extractor` computes its features, `fresh_tail` makes a tail from a seed."""

    recipe: Recipe
    extractor: Extractor
    fresh_tail: Callable[[int], Tail]

    @classmethod
    def load(cls, recipe: Recipe, backbone: Backbone, weights: Path) -> LoadedRecipe:
        """The recipe on `backbone`, whose network's weights are in a file."""
        extractor = load_extractor(backbone, weights)
        network = load_network(backbone.network, weights, backbone.network_args)[0]
        return cls(recipe, extractor, TailFactory(network, extractor.backbone, recipe.head, extractor.spec.shape).fresh)

    def device_line(self, device: str) -> str:
        """What trains on `device` (train.device of params), and what extracts when that is something else."""
        training, extraction = device_line(device), self.extractor.device_line
        return training if extraction == training else f"{training}; extraction: {extraction}"


@dataclass(frozen=True)
class RungTables:
    """The features of one way to extract them: training images with all views, test images with view 0."""

    train: FeatureTable
    test: FeatureTable

    @classmethod
    def of(cls, features: Features, features_of: Sequence[Row], images: pd.DataFrame) -> RungTables:
        """`features_of` is the (image_id, view) of every row of `features`, `images` has image_id, label, group and role."""

        def table(role: str) -> FeatureTable:
            chosen = images[images["role"] == role]
            made = FeatureTable.of_rows(features, features_of, list(chosen["image_id"]), list(chosen["label"]))
            return made.grouped(list(chosen["group"]))

        return cls(table("train"), table("test"))


@dataclass(frozen=True)
class RungResult:
    """One rung with one seed: the AUC and accuracy that its author reports, and P(fake) of every test image."""

    reported_auc: float
    reported_accuracy: float
    test_scores: Scores


@dataclass(frozen=True)
class EpochEnd:
    """The end of an epoch of a careless run: the validation figures that its author saw, and that model's test scores."""

    fold: int
    auc: float
    accuracy: float
    test_scores: Scores


@dataclass(frozen=True)
class Experiment:
    """What the rungs share for one seed, `recipe.seed`.

    `extracted` has the features of the frozen prefix, `extracted_in_train_mode` those of a prefix that was not frozen.
    `folds` is the fold of every training image, `barred` a second one whose tail it does not train or -1, `test_groups`
    (N,) the group of every test image.
    """

    extracted: RungTables
    extracted_in_train_mode: RungTables
    folds: list[int]
    barred: list[int]
    test_groups: npt.NDArray[np.str_]
    recipe: Recipe
    fresh_tail: Callable[[int], Tail]
    device: torch.device
    _epochs: dict[str, list[EpochEnd]] = field(default_factory=dict)

    def once(self, key: str, train: Callable[[], list[EpochEnd]]) -> list[EpochEnd]:
        """The epochs of a training that several rungs share: `train` runs at the first call with this key."""
        if key not in self._epochs:
            self._epochs[key] = train()
        return self._epochs[key]

    def test_scores(self, tail: torch.nn.Module, tables: RungTables) -> Scores:
        """P(fake) of every test image by one tail."""
        return sigmoid(predict_logits(tail, tables.test, BATCH, self.device))

    def cross_validated(self, images: FoldedTable) -> RungResult:
        """Train as the pipeline does. Reported: the mean over folds of the best epoch. True: the folds' mean score."""
        fits = cross_validate(self.fresh_tail, images, self.recipe, device=self.device)
        aucs, accuracies, test_scores = [], [], []
        for fold, fitted in fits.items():
            tail = self.fresh_tail(0)
            load_trained(tail, fitted.state)
            test_scores.append(self.test_scores(tail.to(self.device), self.extracted))
            labels = images.split(fold).validation.labels.numpy()
            aucs.append(auc(labels, fitted.logits))
            accuracies.append(((fitted.logits >= 0) == labels).mean())
        return RungResult(float(np.mean(aucs)), float(np.mean(accuracies)), np.mean(test_scores, axis=0))


def honest(experiment: Experiment) -> RungResult:
    """The rung without a mistake: the training of the pipeline."""
    images = FoldedTable.of(experiment.extracted.train, experiment.folds, barred=experiment.barred)
    return experiment.cross_validated(images)
