"""Bundle + test shards -> the documented figures, and nothing is changed by looking."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained

from ffdi.errors import FfdiError, InputError, ShardError
from ffdi.evaluation.evaluate import Evaluation, evaluate, state_hash
from ffdi.features.store import FeatureStore
from ffdi.files import write_json
from ffdi.metrics import auc
from ffdi.tails.bundle import Bundle, load_bundle

KEYS = [
    "auc",
    "ap",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "precision_real",
    "recall_real",
    "f1_real",
    "eer",
    "brier",
    "ece",
    "tpr_at_fpr_1e_1",
    "tpr_at_fpr_1e_2",
    "tpr_at_fpr_1e_3",
    "threshold",
    "auc_low",
    "auc_high",
    "accuracy_low",
    "accuracy_high",
    "val_auc_mean",
    "val_auc_std",
    "n_test",
    "n_groups",
    "pretrained",
    "weights",
]


def judged(trained: Trained, rows: pd.DataFrame, bundle: Bundle | None = None) -> Evaluation:
    return evaluate(
        bundle or load_bundle(trained.model),
        FeatureStore(trained.features),
        rows,
        resamples=200,
        seed=0,
        memory_gb=1,
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="module")
def result(trained: Trained, tiny: Tiny) -> Evaluation:
    return judged(trained, tiny.rows)


def test_every_documented_key_is_there_and_every_null_has_its_reason(result: Evaluation, tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", result.metrics)  # refuses NaN
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert set(KEYS) <= set(metrics)
    for key, value in metrics.items():
        assert value is None or isinstance(value, str | bool | int) or math.isfinite(value), key
        assert (value is None) == (f"{key}_reason" in metrics), key
    assert (metrics["pretrained"], metrics["weights"]) == (False, "random")


def test_the_figures_are_of_the_test_rows_alone(result: Evaluation, trained: Trained, tiny: Tiny) -> None:
    test = tiny.rows[tiny.rows["role"] == "test"]
    assert result.metrics["n_test"] == len(test) and result.metrics["n_groups"] == test["group"].nunique()
    scores = result.plots["scores"].set_index("image_id")["score"].loc[test["image_id"]].to_numpy()
    assert result.metrics["auc"] == pytest.approx(auc(test["label"].to_numpy(), scores))
    assert result.metrics["threshold"] == load_bundle(trained.model).threshold
    flipped = tiny.rows.assign(label=tiny.rows["label"].where(tiny.rows["role"] == "test", 0))
    assert judged(trained, flipped).metrics == result.metrics  # labels of train rows play no part


def test_the_validation_figures_are_the_folds(result: Evaluation, trained: Trained) -> None:
    folds = list(load_bundle(trained.model).facts["val_auc"].values())
    assert result.metrics["val_auc_mean"] == pytest.approx(np.mean(folds))
    assert result.metrics["val_auc_std"] == pytest.approx(np.std(folds, ddof=1))


def test_one_fold_has_no_spread(trained: Trained, tiny: Tiny) -> None:
    bundle = load_bundle(trained.model)
    one = replace(bundle, facts=dict(bundle.facts) | {"val_auc": {"0": 0.75}})
    metrics = judged(trained, tiny.rows, one).metrics
    assert (metrics["val_auc_mean"], metrics["val_auc_std"]) == (0.75, None)
    assert metrics["val_auc_std_reason"] == "one fold has no spread"


def test_evaluating_twice_gives_the_same_bytes(
    result: Evaluation, trained: Trained, tiny: Tiny, tmp_path: Path
) -> None:
    for name, made in (("a", result), ("b", judged(trained, tiny.rows))):
        write_json(tmp_path / name / "m.json", made.metrics)
        made.write_plots(tmp_path / name)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert first == second


def test_evaluation_changes_nothing(trained: Trained, tiny: Tiny) -> None:
    bundle = load_bundle(trained.model)
    before = state_hash(bundle)
    judged(trained, tiny.rows, bundle)
    assert state_hash(bundle) == before
    next(iter(bundle.tails.values())).head[1].bias.data[0] += 1
    assert state_hash(bundle) != before


def test_a_model_that_changes_while_it_is_judged_is_an_error(trained: Trained, tiny: Tiny) -> None:
    bundle = load_bundle(trained.model)
    tail = bundle.tails[0]

    def learn(*_: object) -> None:
        tail.head[1].bias.data += 1e-3

    tail.register_forward_pre_hook(learn)
    with pytest.raises(FfdiError, match="evaluation changed the model"):
        judged(trained, tiny.rows, bundle)


def test_a_missing_eval_is_an_error(trained: Trained, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reproduced systems' mistake planted: BatchNorm learns from the test set, and the stage stops."""
    bundle = load_bundle(trained.model)
    for tail in bundle.tails.values():
        tail.train()
    monkeypatch.setattr(torch.nn.Module, "eval", lambda self: self)
    with pytest.raises(FfdiError, match="evaluation changed the model"):
        judged(trained, tiny.rows, bundle)


@pytest.mark.parametrize("label", [0, 1])
def test_a_test_set_of_one_class_has_null_figures_with_a_reason(
    label: int, trained: Trained, tiny: Tiny, tmp_path: Path
) -> None:
    rows = tiny.rows[(tiny.rows["role"] == "train") | (tiny.rows["label"] == label)]
    made = judged(trained, rows)
    metrics = made.metrics
    for key in ("auc", "auc_low", "auc_high", "ap", "eer", "balanced_accuracy", "tpr_at_fpr_1e_1"):
        assert metrics[key] is None and metrics[f"{key}_reason"], key
    assert metrics["accuracy"] is not None
    write_json(tmp_path / "m.json", metrics)
    made.write_plots(tmp_path)  # the files are outputs of the stage: DVC fails where one is missing
    assert (tmp_path / "roc.csv").read_text() == "fpr,tpr,threshold\n"
    assert (tmp_path / "pr.csv").read_text() == "recall,precision\n"


def test_without_test_rows_there_is_nothing_to_evaluate(trained: Trained, tiny: Tiny) -> None:
    with pytest.raises(InputError, match="no test rows"):
        judged(trained, tiny.rows[tiny.rows["role"] == "train"])


def test_features_of_another_backbone_are_refused(trained: Trained, tiny: Tiny) -> None:
    bundle = load_bundle(trained.model)
    other = replace(bundle, facts=dict(bundle.facts) | {"fingerprint": "ab" * 32})
    with pytest.raises(ShardError, match="are not those of the model"):
        judged(trained, tiny.rows, other)


def test_the_plots_have_their_columns(result: Evaluation, tiny: Tiny) -> None:
    assert {name: list(table.columns) for name, table in result.plots.items()} == {
        "confusion": ["actual", "predicted"],
        "calibration": ["score", "fakes", "images"],
        "scores": ["image_id", "label", "score"],
        "roc": ["fpr", "tpr", "threshold"],
        "pr": ["recall", "precision"],
    }
    count = int((tiny.rows["role"] == "test").sum())
    assert len(result.plots["confusion"]) == len(result.plots["scores"]) == count
    assert set(result.plots["confusion"].to_numpy().ravel()) <= {"real", "fake"}
    assert result.plots["calibration"]["images"].sum() == count
    roc, pr = result.plots["roc"], result.plots["pr"]
    assert roc.iloc[0, :2].tolist() == [0, 0] and roc.iloc[-1, :2].tolist() == [1, 1]
    assert np.isfinite(roc.to_numpy()).all()
    assert roc["fpr"].is_monotonic_increasing and pr["recall"].is_monotonic_increasing
    assert result.plots["scores"]["score"].is_monotonic_decreasing


def test_confusion_counts_agree_with_the_accuracy(result: Evaluation) -> None:
    table = result.plots["confusion"]
    assert (table["actual"] == table["predicted"]).mean() == pytest.approx(result.metrics["accuracy"])


def test_plots_of_a_former_run_are_deleted(result: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "stale.csv").write_text("x\n")
    result.write_plots(tmp_path)
    assert sorted(p.stem for p in tmp_path.iterdir()) == sorted(result.plots)
