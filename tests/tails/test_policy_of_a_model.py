"""A recipe with a policy of its own: trained, saved, judged and used."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import Tiny, Trained, tiny_recipe
from small_training import CPU, tiny_inputs

from ffdi.bootstrap import Bootstrap
from ffdi.commands.main import main
from ffdi.errors import PolicyError
from ffdi.evaluation.evaluate import Evaluation, EvaluationInputs, evaluate_recipe
from ffdi.tails.bundle import load_bundle
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.policy import fit_policy
from ffdi.tails.policy_settings import Abstain, ThresholdRule
from ffdi.tails.recipe import Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.trained_recipe import RESAMPLES

RECIPE = tiny_recipe(epochs=2, lr=0.003, threshold=ThresholdRule("fpr", 0.2), abstain=Abstain(0.3))


def train(recipe: Recipe, tiny: Tiny, trained: Trained, weights: Path, out: Path) -> Path:
    train_recipe(recipe, tiny_inputs(tiny, trained, weights), TrainSettings(), device=CPU, out=out)
    return out


def judged(model: Path, trained: Trained, rows: pd.DataFrame) -> Evaluation:
    inputs = EvaluationInputs.load(model, trained.features, rows)
    return evaluate_recipe(inputs, bootstrap=Bootstrap(200), memory_gb=1, device=CPU)


@pytest.fixture(scope="module")
def model(tiny: Tiny, trained: Trained, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(RECIPE, tiny, trained, weights, tmp_path_factory.mktemp("policy") / "model")


def test_the_policy_is_that_of_the_out_of_fold_scores(model: Path, tiny: Tiny) -> None:
    bundle, oof = load_bundle(model), read_oof(model)
    groups = tiny.rows.set_index("image_id")["group"].loc[oof["image_id"]].to_numpy()
    due = fit_policy(oof["label"].to_numpy(), oof["score"].to_numpy(), groups, RECIPE.policy, Bootstrap(RESAMPLES))
    assert bundle.policy == due and bundle.threshold == due.threshold and bundle.policy.abstains
    record = json.loads((model / "bundle.json").read_text())
    assert record["recipe"]["threshold"] == {"rule": "fpr", "at": 0.2} and record["recipe"]["abstain"] == {"error": 0.3}
    assert record["policy"]["rule"] == "fpr" and record["threshold"] == due.threshold


def test_test_rows_play_no_part_in_the_policy(
    model: Path, tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    """With their labels swapped, and without them, all bytes are the same."""
    test = tiny.rows["role"] == "test"
    swapped = tiny.rows.assign(label=tiny.rows["label"].where(~test, 1 - tiny.rows["label"]))
    for rows in (swapped, tiny.rows[~test]):
        inputs = replace(tiny_inputs(tiny, trained, weights), images=rows)
        train_recipe(RECIPE, inputs, TrainSettings(), device=CPU, out=tmp_path / "model")
        assert (tmp_path / "model/bundle.json").read_bytes() == (model / "bundle.json").read_bytes()


def test_evaluation_reports_what_was_expected_and_what_came(model: Path, tiny: Tiny, trained: Trained) -> None:
    evaluation, policy = judged(model, trained, tiny.rows), load_bundle(model).policy
    metrics, by_image = evaluation.metrics, evaluation.plots["scores"].set_index("image_id")["score"]
    test = tiny.rows[tiny.rows["role"] == "test"]
    scores = by_image.loc[test["image_id"]].to_numpy()
    labels, verdicts = test["label"].to_numpy(), policy.verdicts(scores)
    decided = verdicts != "undecided"
    assert (metrics["threshold_rule"], metrics["threshold_at"], metrics["abstain_error"]) == ("fpr", 0.2, 0.3)
    assert metrics["fpr"] == pytest.approx((scores[labels == 0] >= policy.threshold).mean())
    assert metrics["undecided"] == (~decided).sum() and metrics["coverage"] == pytest.approx(decided.mean())
    assert metrics["decided_error"] == pytest.approx(((verdicts == "fake") != (labels == 1))[decided].mean())
    for key in ("fpr", "expected_fpr", "decided_error", "expected_error"):
        low, value, high = (float(metrics[f"{key}{end}"] or 0) for end in ("_low", "", "_high"))
        assert low <= value <= high, key
    assert all(metrics[key] == value for key, value in policy.facts.items() if key != "rule")


def test_the_default_rule_expects_nothing(tiny: Tiny, trained: Trained) -> None:
    metrics = judged(trained.model, trained, tiny.rows).metrics
    assert metrics["threshold_rule"] == "youden" and math.isfinite(float(metrics["fpr_high"] or "nan"))
    assert not {key for key in metrics if key.startswith(("expected_", "abstain_", "coverage", "decided_"))}
    assert "policy" not in json.loads((trained.model / "bundle.json").read_text())


def test_predict_says_undecided(model: Path, tiny: Tiny) -> None:
    files = [str(tiny.root / path) for path in tiny.rows["path"]]
    done = CliRunner().invoke(main, ["predict", "--model", str(model), *files])
    assert done.exit_code == 0, done.output
    rows = [line.split(",")[1:3] for line in done.stdout.splitlines()[1:]]
    policy = load_bundle(model).policy
    far = [(float(score), verdict) for score, verdict in rows if abs(float(score) - policy.threshold) > 1e-5]
    assert [verdict for _, verdict in far] == policy.verdicts(np.array([score for score, _ in far])).tolist()
    assert "undecided" in {verdict for _, verdict in rows}


def test_a_rate_that_cannot_be_resolved_is_refused_before_training(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffdi.tails.train_recipe.cross_validate", lambda *_, **__: pytest.fail("trained"))
    recipe = replace(RECIPE, threshold=ThresholdRule("fpr", 0.001))
    with pytest.raises(PolicyError, match=r"recipes\.tiny\.threshold\.at: \d+ real images of \d+ groups out of fold"):
        train(recipe, tiny, trained, weights, tmp_path / "model")
    first = replace(recipe, folds=1, threshold=ThresholdRule("fpr", 0.2))  # a third of the reals validate
    with pytest.raises(PolicyError, match=r"cannot resolve a false-positive rate of 0\.2"):
        train(first, tiny, trained, weights, tmp_path / "model")


def test_a_refused_band_is_mended_without_another_training(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = replace(RECIPE, abstain=Abstain(0.001))
    with pytest.raises(PolicyError, match=r"recipes\.tiny\.abstain\.error: no two thresholds"):
        train(narrow, tiny, trained, weights, tmp_path / "model")
    monkeypatch.setattr(torch.Tensor, "backward", lambda *_, **__: pytest.fail("trained"))
    train(RECIPE, tiny, trained, weights, tmp_path / "model")
