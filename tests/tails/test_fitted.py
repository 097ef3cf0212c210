"""Heads that are fitted at once, on a table in memory: what is fitted on, what is scored, and by which groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import CPU, FOLDS, TABLE
from torch import nn

from ffdi.errors import FfdiError
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Fit
from ffdi.tails.feature_source import InMemory
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import MeanPool, Tail
from ffdi.tails.knn import KnnHead
from ffdi.tails.norms import Standardise, build_norm
from ffdi.tails.probe import ProbeSettings, probe_out_of_fold
from ffdi.tails.recipe import Head, Norm, Recipe
from ffdi.tails.train import cross_validate, predict_logits

PROBE = Recipe("r", "b", Head("probe", sweep=3, c_range=(1e-3, 1.0)))
KNN = Recipe("r", "b", Head("knn", neighbours=3, norm="standardise"))


def fitted(recipe: Recipe, images: FoldedTable) -> dict[int, Fit]:
    return cross_validate(lambda seed: fresh(recipe.head), images, recipe, device=CPU)


def fresh(head: Head) -> Tail:
    return Tail(MeanPool(), nn.Linear(4, 2) if head.kind == "probe" else KnnHead(4, head), None)


@pytest.mark.parametrize("recipe", [PROBE, replace(KNN, head=Head("knn", neighbours=3))], ids=["probe", "knn"])
@pytest.mark.parametrize("views", ["sample", "all"])
def test_images_that_do_not_validate_are_fitted_on_and_never_scored(recipe: Recipe, views: str) -> None:
    validates = np.arange(36) % 5 > 0
    labels = torch.where(torch.from_numpy(validates), TABLE.labels, 1 - TABLE.labels)
    recipe = replace(recipe, views=views)  # type: ignore[arg-type]
    images = FoldedTable.of(TABLE, FOLDS, validates.tolist())
    found = fitted(recipe, images)
    others = fitted(recipe, replace(images, table=replace(TABLE, labels=labels)))
    for fold, made in found.items():
        tail = fresh(recipe.head)
        tail.load_state_dict(made.state)
        due = predict_logits(tail, images.split(fold).validation, 64, CPU)
        assert made.logits == pytest.approx(due, abs=1e-5) and len(due) == (validates & (np.array(FOLDS) == fold)).sum()
        assert not np.array_equal(made.logits, others[fold].logits)


@pytest.mark.parametrize("norm", ["none", "l2", "layer", "standardise"])
def test_a_tail_gives_the_log_odds_of_its_probe(norm: Norm) -> None:
    images, vectors = FoldedTable.of(TABLE, FOLDS), torch.cat([x for x, _ in TABLE.clean(64)]).float().mean((2, 3))
    recipe = replace(PROBE, head=replace(PROBE.head, norm=norm))
    found = cross_validate(
        lambda seed: Tail(MeanPool(), nn.Linear(4, 2), None, build_norm(norm, 4)), images, recipe, device=CPU
    )
    due = probe_out_of_fold(
        vectors.numpy(), TABLE.labels.numpy(), np.array(FOLDS), None, ProbeSettings(3, (1e-3, 1.0), norm)
    )
    for fold, made in found.items():
        assert made.logits == pytest.approx(due.logits[np.array(FOLDS) == fold], abs=1e-5)


def test_two_folds_choose_by_the_groups_of_the_images() -> None:
    """One class has one group to train on: without groups, each image would be one of its own."""
    folds = [n // 2 % 2 for n in range(36)]
    groups = ["one person" if n % 2 else str(n) for n in range(36)]
    assert list(fitted(PROBE, FoldedTable.of(TABLE, folds))) == [0, 1]
    with pytest.raises(FfdiError, match="head probe, fold 0: a class has 1 groups to train on"):
        fitted(PROBE, FoldedTable.of(TABLE, folds, groups=groups))


def test_views_of_one_image_are_one_group() -> None:
    """With random labels, a probe that knows an image's other view would be right on inner folds."""
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(np.repeat(rng.normal(size=(48, 100)), 2, axis=0).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 2, 48))
    start = torch.arange(48) * 2
    table = FeatureTable(tuple(map(str, range(48))), InMemory(vectors), start, torch.full((48,), 2), labels)
    images, recipe = FoldedTable.of(table, [n % 2 for n in range(48)]), replace(PROBE, views="all")
    found = cross_validate(lambda seed: Tail(MeanPool(), nn.Linear(100, 2), None), images, recipe, device=CPU)
    assert max(epoch.val_auc for made in found.values() for epoch in made.history) < 0.85


def test_the_statistics_of_neighbours_are_of_the_training_rows() -> None:
    images = FoldedTable.of(TABLE, FOLDS)
    tails = {}

    def fresh_standardised(seed: int) -> Tail:
        return Tail(MeanPool(), KnnHead(4, KNN.head), None, Standardise(4))

    for fold, made in cross_validate(fresh_standardised, images, KNN, device=CPU).items():
        train = images.split(fold).train
        rows = torch.cat([x for x, _ in train.clean(64)]).float().mean((2, 3))
        assert made.state["norm.mean"].tolist() == pytest.approx(rows.mean(0).tolist(), abs=1e-6)
        assert made.state["head.bank"].shape == (24, 4)
        tails[fold] = made.state["norm.mean"]
    assert not torch.equal(tails[0], tails[1])
