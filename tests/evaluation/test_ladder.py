"""The leak ladder: the honest rung is the real training, and every other rung adds one mistake."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe
from torch import Tensor, nn

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.evaluation import mistakes
from ffdi.evaluation.experiment import EpochEnd, Experiment, LoadedRecipe, RungTables
from ffdi.evaluation.ladder import RUNGS, climb_ladder
from ffdi.evaluation.ladder_statistics import ladder_plot
from ffdi.evaluation.settings import LadderSettings
from ffdi.features.backbone import Views
from ffdi.features.extractor import load_extractor
from ffdi.features.store import FeatureStore
from ffdi.features.weights import load_network
from ffdi.files import write_json
from ffdi.intake.decoding.images import ImageSource
from ffdi.metrics import Metrics, auc
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.bundle import sigmoid
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import Tail, TailFactory
from ffdi.tails.recipe import Head
from ffdi.tails.train import cross_validate, predict_logits

CPU = torch.device("cpu")
# The ladder trains on all views, so that all rungs have as many samples.
RECIPE = tiny_recipe(head=Head("linear", (), 0.2), epochs=2, batch_size=16, l1=1e-5)


def factory(weights: Path) -> TailFactory:
    backbone = tiny_backbone()
    return TailFactory(load_network(backbone.network, weights)[0], backbone, RECIPE.head, (160, 2, 2))


def climb(
    tiny: Tiny,
    weights: Path,
    rows: pd.DataFrame | None = None,
    *,
    seeds: int = 1,
    epochs: int = 2,
    console: Console = Console(),
    **backbone: Any,
) -> Metrics:
    """The ladder on the tiny set, or on `rows` of it."""
    extractor = load_extractor(tiny_backbone(**backbone), weights)
    return climb_ladder(
        tiny.rows if rows is None else rows,
        LoadedRecipe(RECIPE, extractor, factory(weights).fresh),
        ImageSource(tiny.root, 10**6),
        LadderSettings(folds=2, epochs=epochs, seeds=seeds),
        bootstrap=Bootstrap(100),
        device=CPU,
        console=console,
    )


@pytest.fixture(scope="module")
def ladder(tiny: Tiny, weights: Path) -> Metrics:
    return climb(tiny, weights)


def test_six_rungs_with_their_figures(ladder: Metrics, tmp_path: Path) -> None:
    metrics, plot = ladder, ladder_plot(ladder)
    write_json(tmp_path / "ladder.json", metrics)  # refuses NaN
    read = json.loads((tmp_path / "ladder.json").read_text())
    assert len(RUNGS) == 6 and "rung_6_name" not in read
    for n, rung in enumerate(RUNGS):
        assert read[f"rung_{n}_name"] == rung.name
        for key in ("reported_auc", "true_auc", "true_auc_low", "true_auc_high", "reported_accuracy", "true_accuracy"):
            assert 0 <= read[f"rung_{n}_{key}"] <= 1
        gap = read[f"rung_{n}_reported_auc"] - read[f"rung_{n}_true_auc"]
        assert read[f"rung_{n}_gap_auc"] == pytest.approx(gap)
        assert read[f"rung_{n}_true_auc_low"] <= read[f"rung_{n}_true_auc"] <= read[f"rung_{n}_true_auc_high"]
        assert read[f"rung_{n}_gap_auc_low"] <= gap <= read[f"rung_{n}_gap_auc_high"]
        assert f"rung_{n}_gap_auc_seeds_low" not in read  # one seed has no spread
    assert (read["seeds"], read["folds"], read["pretrained"]) == (1, 2, False)
    assert list(plot.columns) == ["rung", "figure", "auc"]
    assert plot["figure"].tolist() == ["reported", "true"] * 6
    assert plot["auc"].iloc[0] == metrics["rung_0_reported_auc"]


def test_the_honest_rung_is_the_training_of_the_pipeline(
    ladder: Metrics, tiny: Tiny, trained: Trained, weights: Path
) -> None:
    store = FeatureStore(trained.features)
    train, test = (tiny.rows[tiny.rows["role"] == role] for role in ("train", "test"))
    table = load_table(store, list(train["image_id"]), list(train["label"]), views="all", memory_gb=1)
    held = load_table(store, list(test["image_id"]), list(test["label"]), views=0, memory_gb=1)
    folds = (train["fold"] % 2).to_numpy()
    make = factory(weights).fresh
    fits = cross_validate(make, FoldedTable.of(table, list(folds)), replace(RECIPE, views="all"), device=CPU)
    labels = train["label"].to_numpy()
    metrics = ladder
    reported = np.mean([auc(labels[folds == fold], fitted.logits) for fold, fitted in fits.items()])
    assert metrics["rung_0_reported_auc"] == pytest.approx(reported)
    scores = []
    for fitted in fits.values():
        tail = make(0)
        tail.load_state_dict(fitted.state)
        scores.append(sigmoid(predict_logits(tail, held, 64, CPU)))
    assert metrics["rung_0_true_auc"] == pytest.approx(auc(test["label"].to_numpy(), np.mean(scores, axis=0)))


def test_climbing_twice_gives_the_same_figures(ladder: Metrics, tiny: Tiny, weights: Path) -> None:
    assert climb(tiny, weights) == ladder


def test_the_careless_rungs_differ_from_the_honest_one(ladder: Metrics) -> None:
    figures = {(ladder[f"rung_{n}_reported_auc"], ladder[f"rung_{n}_true_auc"]) for n in range(6)}
    assert len(figures) > 3  # each rung is a training of its own


def test_the_upper_rungs_train_on_features_of_a_prefix_in_train_mode(
    tiny: Tiny, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[torch.Tensor] = []
    true_training = mistakes.train_over_folds

    def train_over_folds(experiment: Experiment, tables: RungTables, predict: Any) -> Any:
        trained.append(tables.train.source.features)  # type: ignore[attr-defined]
        return true_training(experiment, tables, predict)

    monkeypatch.setattr(mistakes, "train_over_folds", train_over_folds)
    climb(tiny, weights, epochs=1)
    assert torch.equal(trained[0], trained[1]) and not torch.allclose(trained[1], trained[2])


def test_one_model_and_one_optimizer_go_through_all_folds(
    tiny: Tiny, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    true_start = mistakes.start
    monkeypatch.setattr(mistakes, "start", lambda *given: started.append(1) or true_start(*given))
    climb(tiny, weights, epochs=1)
    assert len(started) == 3  # once each for rungs 2, 3 and 4, whatever the folds


class OppositeInEvalMode(nn.Module):
    """A head that calls positive features fake in train mode, and real in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, features: Tensor) -> Tensor:
        logit = self.scale * features.flatten(1)[:, 0]
        return torch.stack([torch.zeros_like(logit), logit if self.training else -logit], dim=1)


def experiment_on(labels: list[int], groups: list[str]) -> Experiment:
    """Fakes have the feature 1 and reals -1; test and training images are the same."""
    known = torch.tensor(labels)
    table = FeatureTable.of_features((2.0 * known - 1).view(-1, 1, 1, 1), known)
    tables, folds, recipe = RungTables(table, table), [n % 2 for n in range(len(labels))], replace(RECIPE, views="all")

    def fresh_tail(seed: int) -> Tail:
        return Tail(nn.Identity(), OppositeInEvalMode(), None)

    return Experiment(tables, tables, folds, [-1] * len(folds), np.array(groups), recipe, fresh_tail, CPU)


def test_rung_3_validates_in_train_mode_and_rung_2_in_eval_mode() -> None:
    labels = [0, 1] * 16
    experiment = experiment_on(labels, ["g"] * len(labels))
    in_eval_mode = mistakes.carried_over_folds(experiment)
    assert (in_eval_mode.reported_auc, in_eval_mode.reported_accuracy) == (0, 0)
    for rung in (mistakes.evaluated_in_train_mode, mistakes.extracted_in_train_mode):  # rung 4 keeps the mistake
        result = rung(experiment)
        assert (result.reported_auc, result.reported_accuracy) == (1, 1)
        assert auc(np.array(labels), result.test_scores) == 0  # the true figure is always of eval mode


def test_rung_5_is_scored_on_the_half_it_was_not_chosen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two epochs is perfect on one half of the test groups and the wrong way round on the other."""
    experiment = experiment_on([0, 0, 1, 1] * 2, ["a"] * 4 + ["b"] * 4)
    right, wrong = [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1]
    epochs = [EpochEnd(0, 0.5, 0.5, np.array(scores)) for scores in (right + wrong, wrong + right)]
    monkeypatch.setattr(mistakes, "train_over_folds", lambda *_: epochs)
    result = mistakes.chosen_on_test(experiment)
    # Half a chooses the first epoch, which is wrong on b; half b chooses the second, which is wrong on a.
    assert (result.reported_auc, result.reported_accuracy) == (1, 1)
    assert result.test_scores.tolist() == wrong + wrong


def test_several_seeds_have_a_spread(tiny: Tiny, weights: Path) -> None:
    metrics = climb(tiny, weights, seeds=2, epochs=1)
    assert metrics["seeds"] == 2
    for n, figure in itertools.product(range(6), ("reported", "true", "gap")):
        low, middle, high = (
            float(str(metrics[f"rung_{n}_{figure}_auc{k}"])) for k in ("_seeds_low", "", "_seeds_high")
        )
        assert low <= middle <= high and (low + high) / 2 == pytest.approx(middle)
        assert math.isfinite(low)


def test_it_says_which_rung_it_trains(tiny: Tiny, weights: Path) -> None:
    lines: list[str] = []
    climb(tiny, weights, seeds=2, epochs=1, console=Console(lines.append))
    assert [line.split(":")[0] for line in lines] == [f"seed {s}, rung {n}" for s in range(2) for n in range(5)]


def test_copies_on_both_sides_of_validation_report_what_is_not_there(tiny: Tiny, weights: Path) -> None:
    """With labels by the toss of a coin nothing can be learned but the images themselves."""
    rng = np.random.default_rng(3)
    coins = tiny.rows.assign(label=rng.permutation(tiny.rows["label"].to_numpy()))
    metrics = climb(tiny, weights, coins, epochs=6, views=Views(2))  # views are exact copies
    reported = [float(str(metrics[f"rung_{n}_reported_auc"])) for n in range(3)]
    assert reported[1] > 0.9 and reported[1] > reported[0] + 0.15
    assert float(str(metrics["rung_1_gap_auc"])) > 0.15


def test_a_test_set_of_one_class_leaves_the_true_figures_null(tiny: Tiny, weights: Path) -> None:
    rows = tiny.rows[(tiny.rows["role"] == "train") | (tiny.rows["label"] == 1)]
    metrics = climb(tiny, weights, rows)
    for rung in range(len(RUNGS)):
        assert metrics[f"rung_{rung}_true_auc"] is None
        assert metrics[f"rung_{rung}_true_auc_reason"] == "undefined: the test set has one class"
    json.dumps(metrics, allow_nan=False)


def test_one_test_group_is_halved_by_images() -> None:
    half = mistakes.first_half(np.array(["g"] * 6), np.array([0, 0, 0, 1, 1, 1]))
    assert half.tolist() == [True, False, True] * 2
