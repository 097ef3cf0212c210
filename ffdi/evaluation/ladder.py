"""The leak ladder: the reproduced systems' mistakes made on purpose, one more a rung, and what each is worth.

Each rung has the figure that its author would report and the true one on test images that no choice has seen. The
mistakes live here alone: the training code has no switch for any of them.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from ffdi.bootstrap import Bootstrap, auc_interval, seeds_interval
from ffdi.console import Console
from ffdi.features.compute import compute_rows
from ffdi.features.devices import precision_on
from ffdi.features.extract import plan_rows
from ffdi.features.extractor import Extractor
from ffdi.features.feature_spec import Features
from ffdi.features.image_views import ImageFiles, ViewReader, locate_images
from ffdi.features.networks import FrozenPrefix
from ffdi.intake.decoding.images import ImageSource
from ffdi.metrics import Metrics, auc, explain_nulls
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import sigmoid
from ffdi.tails.checkpoint import Fit, Scores
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import Tail
from ffdi.tails.recipe import Recipe
from ffdi.tails.train import cross_validate, fold_seed, predict_logits, start, train_epoch

Progress = Callable[[Iterator[Features], int], Any]
FreshTail = Callable[[int], Tail]
RUNGS = (
    "honest",
    "views on both sides of validation",
    "model and optimizer carried over folds",
    "evaluation in train mode",
    "extraction in train mode, batch of one",
    "epoch chosen on the test set",
)


@dataclass(frozen=True)
class RungResult:
    """One rung, one seed: reported (AUC, accuracy), and the true scores of every test image."""

    reported_auc: float
    reported_accuracy: float
    test_scores: Scores


@dataclass(frozen=True)
class RungTables:
    """The tables one way of extracting gives: train images with all views, test images with view 0."""

    train: FeatureTable
    test: FeatureTable


def climb(
    rows: pd.DataFrame,
    *,
    root: Path,
    prefix: Extractor,
    fresh_tail: FreshTail,
    recipe: Recipe,
    folds: int,
    seeds: int,
    bootstrap: Bootstrap,
    max_pixels: int,
    device: torch.device,
    progress: Progress = lambda blocks, total: blocks,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Metrics, pd.DataFrame]:
    """(metrics/details/ladder.json, the plot's rows) for `rows` (images.csv joined with folds.csv), `folds` folds per rung.

    All rungs have the same images, the same number of samples an epoch and the same seeds; figures are means over the
    seeds. `_low` and `_high` are of the test set (bootstrap over groups), `_seeds_low` and `_seeds_high` of the seeds.
    A figure that a test set of one class leaves undefined is None with a reason.
    """
    test = rows[rows["role"] == "test"]
    groups = test["group"].to_numpy(str)
    recipe = replace(recipe, views="all", folds="all")
    honest = _extract(rows, root, prefix, max_pixels, progress, say)
    careless = _extract(rows, root, prefix, max_pixels, progress, say, careless_on=device)
    train = rows[rows["role"] == "train"]
    own_folds = (train["fold"] % folds).tolist()
    per_seed = []
    for seed in range(recipe.seed, recipe.seed + seeds):
        begin = functools.partial(_begin, say, seed)
        own = replace(recipe, seed=seed)
        per_seed.append(_rungs(honest, careless, own_folds, groups, fresh_tail, own, device, begin))
    labels = test["label"].to_numpy()
    metrics: Metrics = {"seeds": seeds, "folds": folds, "n_test": len(test), "pretrained": prefix.provenance.pretrained}
    plot = []
    for number, name in enumerate(RUNGS):
        runs = [figures[number] for figures in per_seed]
        scores = np.stack([run.test_scores for run in runs])
        low, high = auc_interval(labels, scores, groups, bootstrap=bootstrap)
        true = np.array([auc(labels, one) for one in scores])
        reported = np.array([run.reported_auc for run in runs])
        said = float(np.mean(reported))
        key = f"rung_{number}"
        metrics |= {
            f"{key}_name": name,
            f"{key}_reported_auc": said,
            f"{key}_true_auc": float(np.mean(true)),
            f"{key}_true_auc_low": low,
            f"{key}_true_auc_high": high,
            f"{key}_gap_auc": said - float(np.mean(true)),
            f"{key}_gap_auc_low": said - high,
            f"{key}_gap_auc_high": said - low,
            f"{key}_reported_accuracy": float(np.mean([run.reported_accuracy for run in runs])),
            f"{key}_true_accuracy": float(((scores >= 0.5) == labels).mean()),
        }
        if seeds > 1:
            for figure, values in (("reported", reported), ("true", true), ("gap", reported - true)):
                metrics[f"{key}_{figure}_auc_seeds_low"], metrics[f"{key}_{figure}_auc_seeds_high"] = seeds_interval(
                    values
                )
        plot += [
            {"rung": f"{number} {name}", "figure": "reported", "auc": said},
            {"rung": f"{number} {name}", "figure": "true", "auc": float(np.mean(true))},
        ]
    return explain_nulls(metrics, "the test set has one class"), pd.DataFrame(plot)


def _begin(say: Callable[[str], None], seed: int, rung: int) -> None:
    say(f"seed {seed}, rung {rung}: training: {RUNGS[rung]}")


def _rungs(
    honest: RungTables,
    careless: RungTables,
    folds: Sequence[int],
    groups: npt.NDArray[np.str_],
    fresh_tail: FreshTail,
    recipe: Recipe,
    device: torch.device,
    begin: Callable[[int], None],
) -> list[RungResult]:
    begin(0)
    clean = cross_validate(fresh_tail, FoldedTable.of(honest.train, folds), recipe, device=device)
    begin(1)
    parted, parted_folds = _views_as_images(honest.train, len(set(folds)), recipe.seed)
    leaking = cross_validate(fresh_tail, FoldedTable.of(parted, parted_folds), recipe, device=device)

    def carried(rung: int, features: RungTables, *, evaluate_in_train_mode: bool) -> list[_Moment]:
        begin(rung)
        table, places = _views_as_images(features.train, len(set(folds)), recipe.seed)
        tail = fresh_tail(fold_seed(recipe.seed, 0))
        return _train_over_folds(tail, table, places, features.test, recipe, device, evaluate_in_train_mode)

    carrying = carried(2, honest, evaluate_in_train_mode=False)
    sloppy = carried(3, honest, evaluate_in_train_mode=True)
    drifting = carried(4, careless, evaluate_in_train_mode=True)
    return [
        _averaged(clean, honest, folds, honest.train, fresh_tail, device),
        _averaged(leaking, honest, parted_folds, parted, fresh_tail, device),
        _last_fold(carrying),
        _last_fold(sloppy),
        _last_fold(drifting),
        _chosen_on_test(drifting, honest.test.labels.numpy(), groups),
    ]


def _averaged(
    fits: dict[int, Fit],
    features: RungTables,
    folds: Sequence[int],
    table: FeatureTable,
    fresh_tail: FreshTail,
    device: torch.device,
) -> RungResult:
    """Reported: mean validation figures of the folds' best epochs. True: the folds' mean score."""
    place, labels = np.array(folds), table.labels.numpy()
    test_scores = []
    for fitted in fits.values():
        tail = fresh_tail(0)
        tail.load_state_dict(fitted.state)
        test_scores.append(sigmoid(predict_logits(tail.to(device), features.test, 64, device)))
    return RungResult(
        float(np.mean([auc(labels[place == f], fitted.logits) for f, fitted in fits.items()])),
        float(np.mean([((fitted.logits >= 0) == labels[place == f]).mean() for f, fitted in fits.items()])),
        np.mean(test_scores, axis=0),
    )


@dataclass(frozen=True)
class _Moment:
    """The end of an epoch of a careless run: what its author saw, and the test scores of that model."""

    fold: int
    auc: float
    accuracy: float
    test_scores: Scores


def _train_over_folds(
    tail: Tail,
    table: FeatureTable,
    folds: Sequence[int],
    test: FeatureTable,
    recipe: Recipe,
    device: torch.device,
    evaluate_in_train_mode: bool,
) -> list[_Moment]:
    """Mistake: one model and one optimizer go through all folds, so fold 2 validates on what fold 1 trained on."""
    moments = []
    place = torch.tensor(list(folds))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        run = start(tail, recipe, torch.Generator().manual_seed(recipe.seed), device)
        for fold in sorted(set(folds)):
            train, own = (table.of(torch.nonzero(side).flatten()) for side in (place != fold, place == fold))
            for epoch in range(recipe.epochs):
                train_epoch(run, train, recipe, epoch)
                seen = _logits_in_train_mode if evaluate_in_train_mode else predict_logits
                logits, own_labels = seen(run.judged, own, recipe.batch_size, device), own.labels.numpy()
                hits = float(((logits >= 0) == own_labels).mean())
                test_scores = sigmoid(predict_logits(run.judged, test, 64, device))
                moments.append(_Moment(fold, auc(own_labels, logits), hits, test_scores))
    return moments


def _logits_in_train_mode(tail: nn.Module, table: FeatureTable, batch_size: int, device: torch.device) -> Scores:
    """Mistake: no eval(): dropout stays on, BatchNorm uses and learns the validation batches' statistics."""
    parts = []
    with torch.no_grad():
        for features, _ in table.clean(max(batch_size, 2), device):
            tail.train(len(features) > 1)  # where BatchNorm cannot take the rest, a batch of one
            with precision_on(device, "float32"):
                parts.append(tail(features))
    logits = torch.cat(parts)
    return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()


def _last_fold(moments: list[_Moment]) -> RungResult:
    """Reported: the best epoch of the last fold, as the notebooks print it. True: that model."""
    last = [m for m in moments if m.fold == moments[-1].fold]
    best = max(last, key=lambda m: m.auc)
    return RungResult(best.auc, best.accuracy, best.test_scores)


def _chosen_on_test(moments: list[_Moment], labels: npt.NDArray[np.int64], groups: npt.NDArray[np.str_]) -> RungResult:
    """Mistake: the epoch of the best test figure wins, and that figure is reported.

    The true figure needs images the choice has not seen: the epoch is chosen on one half of the test groups and
    scored on the other, both ways round.
    """
    half = _first_half(groups, labels)
    scores = np.empty(len(labels))
    reported, accuracy = [], []
    for chosen_on, scored_on in ((half, ~half), (~half, half)):
        best = max(moments, key=lambda m: auc(labels[chosen_on], m.test_scores[chosen_on]))
        scores[scored_on] = best.test_scores[scored_on]
        reported.append(auc(labels[chosen_on], best.test_scores[chosen_on]))
        accuracy.append(((best.test_scores[chosen_on] >= 0.5) == labels[chosen_on]).mean())
    return RungResult(float(np.mean(reported)), float(np.mean(accuracy)), scores)


def _first_half(groups: npt.NDArray[np.str_], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Every other group; where a half would lack a class, every other image of each class, for want of groups."""
    half = np.isin(groups, np.unique(groups)[::2])
    if all(len(np.unique(labels[side])) == 2 for side in (half, ~half)):
        return half
    rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    return np.asarray(rank % 2 == 0)


def _views_as_images(table: FeatureTable, folds: int, seed: int) -> tuple[FeatureTable, list[int]]:
    """Mistake: every view is an image of its own, and folds are drawn over views."""
    parted = table.views_as_images()
    place = np.random.default_rng(seed).permutation(np.arange(len(parted)) % folds)
    return parted, place.tolist()


def _extract(
    rows: pd.DataFrame,
    root: Path,
    prefix: Extractor,
    max_pixels: int,
    progress: Progress,
    say: Callable[[str], None],
    *,
    careless_on: torch.device | None = None,
) -> RungTables:
    plan = plan_rows(list(rows["image_id"]), list(rows["role"]), prefix.backbone.views.count)
    files = locate_images(rows, ImageSource(root, max_pixels))
    if careless_on:
        blocks = _in_train_mode(prefix, plan, files, careless_on)
    else:
        blocks = compute_rows(plan, prefix, files, console=Console(say))
    features = np.concatenate(list(progress(blocks, len(plan))))

    def table(role: str) -> FeatureTable:
        images = rows[rows["role"] == role]
        return FeatureTable.of_rows(features, plan, list(images["image_id"]), list(images["label"]))

    return RungTables(table("train"), table("test"))


def _in_train_mode(
    prefix: Extractor,
    plan: Sequence[tuple[str, int]],
    files: ImageFiles,
    device: torch.device,
) -> Iterator[Features]:
    """Mistake: no eval() while extracting: BatchNorm normalises each image by its own statistics, which drift on."""
    assert prefix.module is not None  # a ladder on `cut: input` has nothing to extract
    module: FrozenPrefix = copy.deepcopy(prefix.module).to(device).train()
    read = ViewReader(files, prefix.backbone)
    for row in plan:
        images = read([row])
        with torch.no_grad(), precision_on(device, "float32"):
            features = module(torch.from_numpy(images).to(device))
        yield features.cpu().numpy().astype(prefix.spec.reads_as)
