"""An image that a second fold bars: it trains neither that fold's tail nor its own, and validates none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_recipe
from small_training import CPU, FOLDS, PLAIN, TABLE, fresh_tail, same, tiny_inputs
from test_fitted import KNN, PROBE, fresh

from ffdi.evaluation.ladder import merged_folds
from ffdi.tails.batches import FeatureTable
from ffdi.tails.folds import FoldedTable
from ffdi.tails.probe import ProbeSettings, Roles, probe_out_of_fold
from ffdi.tails.recipe import Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train import cross_validate
from ffdi.tails.train_recipe import train_recipe

BARRED = [(fold + 1) % 3 if n % 9 == 1 else -1 for n, fold in enumerate(FOLDS)]
IS_BARRED = torch.tensor(BARRED) >= 0


def folded(table: FeatureTable = TABLE) -> FoldedTable:
    return FoldedTable.of(table, FOLDS, barred=BARRED)


def test_a_barred_image_trains_in_neither_fold_and_validates_none() -> None:
    images = folded()
    for fold in images.numbers:
        split = images.split(fold)
        due = [f"i{n}" for n in range(36) if fold not in (FOLDS[n], BARRED[n])]
        assert list(split.train.image_ids) == due
        assert list(split.validation.image_ids) == [f"i{n}" for n in range(36) if FOLDS[n] == fold and BARRED[n] < 0]


@pytest.mark.parametrize("recipe", [PLAIN, PROBE, KNN], ids=["epochs", "probe", "knn"])
@pytest.mark.parametrize("views", ["sample", "all"])
def test_what_a_fold_bars_plays_no_part_in_its_tail(recipe: Recipe, views: str) -> None:
    recipe = replace(recipe, views=views)  # type: ignore[arg-type]
    tail = fresh_tail if recipe is PLAIN or not recipe.head.is_fitted else lambda seed: fresh(recipe.head)

    def fits(table: FeatureTable) -> list[dict[str, torch.Tensor]]:
        return [fitted.state for fitted in cross_validate(tail, folded(table), recipe, device=CPU).values()]

    turned = TABLE.labels.clone()
    of_fold_0 = torch.tensor([FOLDS[n] == 0 and BARRED[n] == 1 for n in range(36)])
    assert of_fold_0.sum() == 2
    turned[of_fold_0] = 1 - turned[of_fold_0]
    before, after = fits(TABLE), fits(replace(TABLE, labels=turned))
    assert [same(one, other) for one, other in zip(before, after, strict=True)] == [True, True, False]


def test_the_inner_folds_of_a_probe_are_barred_too() -> None:
    rng = np.random.default_rng(3)
    labels, folds = rng.integers(0, 2, 120).astype(np.int64), np.arange(120) % 3
    features = rng.normal(size=(120, 5)) + labels[:, None]
    barred = np.where(np.arange(120) % 9 == 0, 1, -1)  # of fold 0, for fold 1

    def sweeps(labels: np.ndarray) -> list[np.ndarray]:  # type: ignore[type-arg]
        found = probe_out_of_fold(
            features, labels, folds, None, ProbeSettings(3, (1e-3, 1.0)), roles=Roles(barred=barred)
        )
        assert np.array_equal(np.isnan(found.logits), barred >= 0)
        return [found.by_fold[fold].sweep.loss for fold in range(3)]

    before, after = sweeps(labels), sweeps(np.where(barred >= 0, 1 - labels, labels))
    assert [np.array_equal(one, other) for one, other in zip(before, after, strict=True)] == [True, True, True]
    two = probe_out_of_fold(features, labels, folds % 2, None, ProbeSettings(3), roles=Roles(barred=barred))
    assert np.isnan(two.logits[barred >= 0]).all() and np.isfinite(two.logits[barred < 0]).all()


def test_joined_folds_of_the_ladder_hold_out_what_their_parts_did(tiny: Tiny) -> None:
    rows = tiny.rows[:4].assign(fold=[0, 0, 1, 3], also_out=[2, 3, -1, 1])
    assert merged_folds(rows, 2) == ([0, 0, 1, 1], [-1, 1, -1, -1])
    assert merged_folds(rows.drop(columns="also_out"), 2) == ([0, 0, 1, 1], [-1] * 4)


def test_a_training_reads_the_second_fold_of_folds_csv(tiny: Tiny, trained: Trained, weights: Path) -> None:
    inputs = tiny_inputs(tiny, trained, weights)
    train = (tiny.rows["role"] == "train").to_numpy()
    second = np.where(train & (np.arange(len(train)) % 4 == 1), (tiny.rows["fold"] + 1) % 3, -1)
    barred = replace(inputs, images=tiny.rows.assign(also_out=second))
    found = train_recipe(tiny_recipe(epochs=1), barred, TrainSettings(), device=CPU)
    scored = set(found.out_of_fold.scores["image_id"])
    assert scored == set(tiny.rows["image_id"][train & (second < 0)]) and (second >= 0).any()
