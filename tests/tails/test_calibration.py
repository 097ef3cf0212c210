"""Planted truths: tails of a known correlation, whose mean on new images is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained, tiny_recipe
from small_training import CPU, FOLDS, IMAGES, PLAIN, TABLE, contents, cross_validated, tiny_inputs

from ffdi.bootstrap import Array, Bootstrap
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.metrics import expected_calibration_error, fit_temperature
from ffdi.tails import train
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.calibration import (
    Kind,
    Logits,
    agreement,
    calibrate,
    contraction,
    like_the_mean,
    mean_of_tails,
    pairs_of,
    train_pairs,
)
from ffdi.tails.folds import FoldedTable
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

K, EACH, RHO = 5, 4000, 0.4


class Planted:
    """Logits of `EACH` images a fold: 1.5 (fake) or -1.5 (real), and 1.5 of noise, of which RHO is the image's own."""

    def __init__(self, seed: int = 0, rho: float = RHO) -> None:
        self.rng, self.rho = np.random.default_rng(seed), rho
        count = K * EACH
        self.labels, self.own = self.rng.integers(0, 2, count), self.rng.normal(size=count)
        fold = np.arange(count) % K
        ids = [f"i{n}" for n in range(count)]
        columns = {"image_id": ids, "fold": fold, "label": self.labels, "logit": self.tail(np.ones(count, bool))}
        self.scores = pd.DataFrame(columns)

    def tail(self, rows: Array) -> Array:
        """Another tail's logits of some images."""
        noise = self.rng.normal(size=int(rows.sum()))
        spread = np.sqrt(self.rho) * self.own[rows] + np.sqrt(1 - self.rho) * noise
        return np.asarray(3.0 * self.labels[rows] - 1.5 + 1.5 * spread)

    def pairs(self, kind: Kind) -> Logits:
        found = {}
        for pair in pairs_of(kind, list(range(K)), list(range(K))):
            rows = self.scores["fold"].isin(pair).to_numpy()
            found[pair] = pd.Series(self.tail(rows), index=list(self.scores["image_id"][rows]))
        return found

    def new_images(self) -> tuple[Array, Array]:
        """(N,) labels, (N, K) logits of all tails."""
        new = Planted(self.rng.integers(1 << 31), self.rho)
        every = np.ones(len(new.labels), bool)
        return new.labels, np.stack([new.tail(every) for _ in range(K)], axis=1)


def realised(planted: Planted, kind: Kind, rate: float = 0.05) -> tuple[float, float]:
    """On new images: the rate of false alarms at the threshold of an expected `rate`, and the ECE."""
    found = calibrate(kind, planted.scores, planted.pairs(kind))
    threshold = np.quantile(found.scores[planted.labels == 0], 1 - rate)
    labels, tails = planted.new_images()
    means = mean_of_tails(tails, found.temperature)
    return float((means[labels == 0] >= threshold).mean()), expected_calibration_error(labels, means)


@pytest.mark.parametrize("rho", [0.1, 0.4, 0.9])
def test_the_agreement_of_two_tails_is_found(rho: float) -> None:
    planted = Planted(rho=rho)
    assert agreement(planted.scores, planted.pairs("pair")) == pytest.approx(rho, abs=0.03)


def test_an_offset_of_its_own_is_disagreement() -> None:
    """A mean evens it out, so it counts: 2 cov / (var + var + d^2), with variances of 2.25 and a gap of 1."""
    planted = Planted()
    moved = {pair: logits + 1 for pair, logits in planted.pairs("pair").items()}
    assert agreement(planted.scores, moved) == pytest.approx(2 * RHO * 2.25 / (2 * 2.25 + 1), abs=0.02)


def test_the_rate_that_is_realised_by_the_mean_is_the_one_asked_for() -> None:
    """One tail's scores are more spread than the means of five: their threshold gives hardly a false alarm."""
    planted = Planted()
    (folds, folds_ece), (pair, pair_ece), (nested, nested_ece) = (
        realised(planted, k) for k in ("folds", "pair", "nested")
    )
    assert folds < 0.02
    assert pair == pytest.approx(0.05, abs=0.008)
    assert nested == pytest.approx(0.05, abs=0.012)  # means of four tails are a little more spread than those of five
    assert pair_ece < 0.06 and nested_ece < 0.065 and folds_ece > 0.1


def test_tails_that_agree_need_no_correction() -> None:
    """Then the mean is as spread as one of them: all three kinds are one."""
    planted = Planted(rho=0.999999)
    temperatures = [
        calibrate(kind, planted.scores, planted.pairs(kind)).temperature for kind in ("folds", "pair", "nested")
    ]
    assert temperatures == pytest.approx([temperatures[0]] * 3, rel=0.01)
    assert contraction(1.0, 5) == 1 and contraction(0.0, 4) == 0.5


def test_logits_like_the_mean_have_its_spread_and_the_classes_their_means() -> None:
    planted = Planted()
    logits = planted.scores["logit"].to_numpy()
    made = like_the_mean(planted.labels, logits, RHO, K)
    labels, tails = planted.new_images()
    for label in (0, 1):
        ours, true = made[planted.labels == label], tails[labels == label]
        assert ours.mean() == pytest.approx(true.mean(), abs=0.06)
        assert ours.mean(axis=1).std() == pytest.approx(true.mean(axis=1).std(), rel=0.03)
        assert ours.std(axis=1).mean() == pytest.approx(true.std(axis=1).mean(), rel=0.1)


def test_the_temperature_of_a_mean_of_probabilities() -> None:
    """Of one column it is that of the column; of many, their mean of probabilities has the lowest log loss there."""
    labels, tails = Planted().new_images()
    assert fit_temperature(labels, tails[:, :1]) == pytest.approx(fit_temperature(labels, tails[:, 0]), rel=1e-3)
    best = fit_temperature(labels, tails)

    def loss(temperature: float) -> float:
        p = mean_of_tails(tails, temperature)
        return float(-np.log(np.where(labels == 1, p, 1 - p)).mean())

    assert loss(best) < min(loss(0.9 * best), loss(1.1 * best))


def test_pairs_of_folds() -> None:
    assert pairs_of("folds", [0, 1, 2], [0, 1, 2]) == []
    assert pairs_of("pair", [0, 1, 2], [0, 1, 2]) == [(0, 1)]
    assert pairs_of("nested", [0, 1, 2], [0, 1, 2]) == list(combinations(range(3), 2))
    assert (
        pairs_of("pair", [0], [0, 1, 2]) == [] == pairs_of("nested", [0, 1], [0, 1])
    )  # nothing would be left to train on


def test_a_tail_more_trains_on_neither_fold_and_scores_both() -> None:
    barred = [1 if n % 7 == 0 and FOLDS[n] != 1 else -1 for n in range(36)]
    images = FoldedTable.of(TABLE, FOLDS, barred=barred)
    joined = images.without(0, 1)
    (number,) = joined.wanted("all")
    assert number not in images.numbers and number != images.without(0, 2).only
    split = joined.split(number)
    of = {image_id: (fold, second) for image_id, fold, second in zip(TABLE.image_ids, FOLDS, barred, strict=True)}
    assert {of[i] for i in split.train.image_ids} == {(2, -1)}
    assert set(split.validation.image_ids) == {i for i, (fold, second) in of.items() if fold < 2 and second < 0}


def test_tails_more_are_seeded_for_themselves_and_change_no_other() -> None:
    alone = cross_validated()
    logits = train_pairs(
        pairs_of("nested", [0, 1, 2], [0, 1, 2]), IMAGES, lambda images: cross_validated(PLAIN, images)
    )
    again = cross_validated()
    assert all(torch.equal(alone[f].state[k], again[f].state[k]) for f in alone for k in alone[f].state)
    assert {pair: sorted(of.index) for pair, of in logits.items()} == {
        pair: sorted(i for i, fold in zip(TABLE.image_ids, FOLDS, strict=True) if fold in pair) for pair in logits
    }


def test_a_killed_tail_more_continues_and_test_rows_play_no_part(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after an epoch of the pair's tail, with other labels of test rows: the same bundle, of one epoch less work."""
    recipe, settings = tiny_recipe(epochs=3, calibration="pair"), TrainSettings(memory_gb=1)
    inputs, epochs = tiny_inputs(tiny, trained, weights), list[int]()
    true_epoch = train.train_epoch

    def train_epoch(*arguments: Any) -> Any:
        epochs.append(arguments[3])
        if killed and len(epochs) == 11:  # three tails of three epochs, and one of the pair's
            raise KeyboardInterrupt
        return true_epoch(*arguments)

    monkeypatch.setattr(train, "train_epoch", train_epoch)
    killed = False
    train_recipe(recipe, inputs, settings, device=CPU, out=tmp_path / "whole")
    assert len(epochs) == 12
    rows = inputs.images.assign(
        label=np.where(inputs.images["role"] == "test", 1 - inputs.images["label"], inputs.images["label"])
    )
    inputs, killed = replace(inputs, images=rows), True
    epochs.clear()
    with pytest.raises(KeyboardInterrupt):
        train_recipe(recipe, inputs, settings, device=CPU, out=tmp_path / "broken")
    epochs.clear()
    killed = False
    train_recipe(recipe, inputs, settings, device=CPU, out=tmp_path / "broken")
    assert epochs == [1, 2]
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    bundle, plain = load_bundle(tmp_path / "whole"), cross_trained(tmp_path, inputs, settings)
    facts = bundle.record["calibration"]
    assert facts["kind"] == "pair" and facts["tails"] == 3 and 0 < facts["agreement"] <= 1
    evaluated = EvaluationInputs.load(tmp_path / "whole", trained.features, tiny.rows)
    metrics = evaluate_recipe(evaluated, bootstrap=Bootstrap(100), memory_gb=1, device=CPU).metrics
    assert [metrics[f"calibration{key}"] for key in ("", "_agreement", "_contraction")] == [
        facts[key] for key in ("kind", "agreement", "contraction")
    ]
    assert {f: bundle.record["sha256"][f] for f in plain.record["sha256"] if f.startswith("fold")} == {
        f: digest for f, digest in plain.record["sha256"].items() if f.startswith("fold")
    }
    assert "calibration" not in plain.record and plain.temperature != bundle.temperature


def cross_trained(folder: Path, inputs: TrainingInputs, settings: TrainSettings) -> Bundle:
    """The same recipe without a tail more."""
    recipe = tiny_recipe(epochs=3, calibration="folds")
    train_recipe(recipe, inputs, settings, device=CPU, out=folder / "folds")
    return load_bundle(folder / "folds")


def test_nested_scores_are_those_of_the_tails_more(tiny: Tiny, trained: Trained, weights: Path) -> None:
    inputs, settings = tiny_inputs(tiny, trained, weights), TrainSettings(memory_gb=1)
    nested = train_recipe(tiny_recipe(epochs=1, calibration="nested"), inputs, settings, device=CPU)
    scores = nested.out_of_fold.scores
    assert scores["score"].to_numpy() == pytest.approx(nested.out_of_fold.calibration.scores)
    alone = 1 / (1 + np.exp(-scores["logit"] / nested.out_of_fold.temperature))
    assert np.abs(scores["score"] - alone).max() > 1e-3
    assert nested.out_of_fold.calibration.facts == {"kind": "nested", "tails": 2}
