"""The mistakes of the reproduced systems, made on purpose. Each rung keeps the mistakes of the rungs below it.

They are made here and nowhere else: extraction and training have no switch for any of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from ffdi.evaluation.experiment import EpochEnd, Experiment, RungResult, RungTables
from ffdi.features.compute import kept_features
from ffdi.features.devices import precision_on
from ffdi.features.extractor import Extractor
from ffdi.features.feature_spec import Features, Row
from ffdi.features.image_views import ImageFiles, ViewReader
from ffdi.features.networks import FrozenPrefix
from ffdi.metrics import auc
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Scores
from ffdi.tails.folds import FoldedTable
from ffdi.tails.norms import settle_norm
from ffdi.tails.train import fold_seed, predict_logits, start, train_epoch

Predict = Callable[[nn.Module, FeatureTable, int, torch.device], Scores]


def views_on_both_sides(experiment: Experiment) -> RungResult:
    """Mistake: other views of a validation image are trained on."""
    return experiment.cross_validated(views_as_images(experiment, experiment.extracted))


def carried_over_folds(experiment: Experiment) -> RungResult:
    """Mistake: one model and one optimizer go through all folds."""
    return _best_of_last_fold(train_over_folds(experiment, experiment.extracted, predict_logits))


def evaluated_in_train_mode(experiment: Experiment) -> RungResult:
    """Mistake: no eval() before the validation."""
    return _best_of_last_fold(train_over_folds(experiment, experiment.extracted, predict_in_train_mode))


def extracted_in_train_mode(experiment: Experiment) -> RungResult:
    """Mistake: no eval() before the extraction, which takes one image at a time."""
    return _best_of_last_fold(_epochs_on_unfrozen_prefix(experiment))


def chosen_on_test(experiment: Experiment) -> RungResult:
    """Mistake: the epoch with the best test AUC is chosen, and that AUC is reported.

    The true AUC needs images that the choice has not seen: the epoch is chosen on one half of the test groups and scored
    on the other, both ways round.
    """
    epochs, labels = _epochs_on_unfrozen_prefix(experiment), experiment.extracted.test.labels.numpy()
    half = first_half(experiment.test_groups, labels)
    scores = np.empty(len(labels))
    reported, accuracy = [], []
    for chosen_on, scored_on in ((half, ~half), (~half, half)):
        best = max(epochs, key=lambda epoch: auc(labels[chosen_on], epoch.test_scores[chosen_on]))
        scores[scored_on] = best.test_scores[scored_on]
        reported.append(auc(labels[chosen_on], best.test_scores[chosen_on]))
        accuracy.append(((best.test_scores[chosen_on] >= 0.5) == labels[chosen_on]).mean())
    return RungResult(float(np.mean(reported)), float(np.mean(accuracy)), scores)


def _epochs_on_unfrozen_prefix(experiment: Experiment) -> list[EpochEnd]:
    """With all mistakes but the choice on the test set."""
    tables = experiment.extracted_in_train_mode
    return experiment.once("unfrozen prefix", lambda: train_over_folds(experiment, tables, predict_in_train_mode))


def views_as_images(experiment: Experiment, tables: RungTables) -> FoldedTable:
    """Every view of a training image as an image of its own, with folds drawn over views."""
    views = tables.train.views_as_images()
    folds = np.arange(len(views)) % len(set(experiment.folds))
    return FoldedTable.of(views, np.random.default_rng(experiment.recipe.seed).permutation(folds).tolist())


def train_over_folds(experiment: Experiment, tables: RungTables, predict: Predict) -> list[EpochEnd]:
    """Train one model with one optimizer on one fold after the other: the second validates on what the first trained on."""
    recipe, device = experiment.recipe, experiment.device
    images = views_as_images(experiment, tables)
    tail = experiment.fresh_tail(fold_seed(recipe.seed, 0))
    epochs = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        settle_norm(tail, images.split(images.numbers[0]).train, recipe.batch_size, device)
        run = start(tail, recipe, images.table, torch.Generator().manual_seed(recipe.seed), device)
        for fold in images.numbers:
            split = images.split(fold)
            labels = split.validation.labels.numpy()
            for epoch in range(recipe.epochs):
                train_epoch(run, split.train, recipe, epoch)
                logits = predict(run.judged, split.validation, recipe.batch_size, device)
                accuracy = float(((logits >= 0) == labels).mean())
                epochs.append(EpochEnd(fold, auc(labels, logits), accuracy, experiment.test_scores(run.judged, tables)))
    return epochs


def predict_in_train_mode(tail: nn.Module, table: FeatureTable, batch_size: int, device: torch.device) -> Scores:
    """(N,) logits with dropout on and BatchNorm on the statistics of the validation batches, which it also learns."""
    parts = []
    with torch.no_grad():
        for features, _ in table.clean(max(batch_size, 2), device):
            tail.train(len(features) > 1)  # BatchNorm cannot take a last batch of one in train mode
            with precision_on(device, "float32"):
                parts.append(tail(features))
    logits = torch.cat(parts)
    return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()


def extract_in_train_mode(
    rows: Sequence[Row], extractor: Extractor, images: ImageFiles, device: torch.device
) -> Iterator[Features]:
    """Features of one image at a time by a prefix in train mode: BatchNorm normalises each by its own statistics."""
    assert extractor.module is not None  # params refuse a ladder on `cut: input`: it has nothing to extract
    module: FrozenPrefix = copy.deepcopy(extractor.module).to(device).train()
    read = ViewReader(images, extractor.backbone)
    for row in rows:
        with torch.no_grad(), precision_on(device, "float32"):
            features = module(torch.from_numpy(read([row])).to(device))
        yield kept_features(features.cpu().numpy(), extractor.spec)


def first_half(groups: npt.NDArray[np.str_], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Every other group. When a half would lack a class for want of groups: every other image of each class."""
    half = np.isin(groups, np.unique(groups)[::2])
    if all(len(np.unique(labels[side])) == 2 for side in (half, ~half)):
        return half
    rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    return np.asarray(rank % 2 == 0)


def _best_of_last_fold(epochs: list[EpochEnd]) -> RungResult:
    """Reported: the best epoch of the last fold, as the notebooks print it. True: that model."""
    last = [epoch for epoch in epochs if epoch.fold == epochs[-1].fold]
    best = max(last, key=lambda epoch: epoch.auc)
    return RungResult(best.auc, best.accuracy, best.test_scores)
