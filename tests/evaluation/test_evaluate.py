"""A bundle and test shards give the documented figures, and evaluation changes neither."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.bootstrap import Bootstrap
from ffdi.errors import FfdiError, InputError, ShardError
from ffdi.evaluation.attributes import COLUMNS as ATTRIBUTES
from ffdi.evaluation.evaluate import Evaluation, EvaluationInputs, evaluate_recipe, state_hash
from ffdi.evaluation.held_out import COLUMNS as HELD_OUT
from ffdi.features.store import FeatureStore
from ffdi.files import write_json
from ffdi.metrics import auc, evaluate_scores
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
    "trained_on",
    *(f"fold_{fold}_{figure}" for fold in range(3) for figure in ("auc", "auc_low", "auc_high", "accuracy")),
    "parameters_prefix",
    "parameters_tail",
    "flops_prefix",
    "flops_tail",
    "flops_per_image",
    "bytes_per_image",
    "views_per_image",
    "unlike_share",
    "unlike_share_low",
    "unlike_share_high",
    "unlike_share_real",
    "unlike_share_fake",
]


def judged(trained: Trained, rows: pd.DataFrame, bundle: Bundle | None = None) -> Evaluation:
    inputs = EvaluationInputs(bundle or load_bundle(trained.model), FeatureStore(trained.features), rows)
    return evaluate_recipe(inputs, bootstrap=Bootstrap(200), memory_gb=1, device=torch.device("cpu"))


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
    assert (metrics["pretrained"], metrics["weights"], metrics["trained_on"]) == (False, "random", "tiny")


def test_the_figures_are_of_the_test_rows_alone(result: Evaluation, trained: Trained, tiny: Tiny) -> None:
    test = tiny.rows[tiny.rows["role"] == "test"]
    assert result.metrics["n_test"] == len(test) and result.metrics["n_groups"] == test["group"].nunique()
    scores = result.plots["scores"].set_index("image_id")["score"].loc[test["image_id"]].to_numpy()
    assert result.metrics["auc"] == pytest.approx(auc(test["label"].to_numpy(), scores))
    assert result.metrics["threshold"] == load_bundle(trained.model).threshold
    flipped = tiny.rows.assign(label=tiny.rows["label"].where(tiny.rows["role"] == "test", 0))
    assert judged(trained, flipped).metrics == result.metrics  # labels of train rows play no part


def test_the_validation_figures_are_the_folds(result: Evaluation, trained: Trained) -> None:
    folds = list(load_bundle(trained.model).record["val_auc"].values())
    assert result.metrics["val_auc_mean"] == pytest.approx(np.mean(folds))
    assert result.metrics["val_auc_std"] == pytest.approx(np.std(folds, ddof=1))


def test_each_fold_is_judged_alone(result: Evaluation, trained: Trained, tiny: Tiny) -> None:
    bundle, store = load_bundle(trained.model), FeatureStore(trained.features)
    test = tiny.rows[tiny.rows["role"] == "test"]
    labels, table = test["label"].to_numpy(), result.plots["scores"].set_index("image_id").loc[test["image_id"]]
    features = torch.from_numpy(store.read([(i, 0) for i in test["image_id"]])).float()
    for fold, row in enumerate(result.plots["folds"].to_dict("records")):
        with torch.inference_mode():
            logits = bundle.tails[fold](features)
        own = ((logits[:, 1] - logits[:, 0]) / bundle.temperature).sigmoid().numpy()
        assert table[f"fold_{fold}"].to_numpy() == pytest.approx(own, abs=1e-5)
        assert row["fold"] == fold and row["auc"] == pytest.approx(auc(labels, own))
        assert row["accuracy"] == ((own >= bundle.threshold) == labels).mean()
        assert row["auc_low"] <= row["auc"] <= row["auc_high"]
        for figure in ("auc", "auc_low", "auc_high", "accuracy"):
            assert result.metrics[f"fold_{fold}_{figure}"] == row[figure]
    folds = table[[f"fold_{fold}" for fold in range(3)]]
    assert folds.nunique(axis=1).gt(1).all() and table["score"].to_numpy() == pytest.approx(folds.mean(axis=1))


def test_attributes_are_judged(trained: Trained, tiny: Tiny) -> None:
    maker = np.where(tiny.rows["label"] == 1, np.where(np.arange(len(tiny.rows)) % 3, "gan", "swap"), "")
    made = judged(trained, tiny.rows.assign(attr_maker=maker))
    test = tiny.rows["role"] == "test"
    for value in ("gan", "swap"):
        assert made.metrics[f"attr_maker_{value}_fakes"] == int((test & (maker == value)).sum())
        assert made.metrics[f"attr_maker_{value}_auc"] is not None
    assert made.plots["attributes"]["value"].tolist() == ["gan", "swap"]


def test_seconds_are_measured_and_are_no_metrics(trained: Trained, tiny: Tiny) -> None:
    evaluation = judged(trained, tiny.rows)
    metrics, timing = evaluation.metrics, evaluation.timing
    assert set(timing) == {"tails", "images"} and timing["tails"] > 0 and timing["images"] == metrics["n_test"]
    assert not set(timing) & set(metrics)


def test_one_fold_has_no_spread(trained: Trained, tiny: Tiny) -> None:
    bundle = load_bundle(trained.model)
    one = replace(bundle, record=dict(bundle.record) | {"val_auc": {"0": 0.75}})
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
    for key in ("auc", "auc_low", "auc_high", "ap", "eer", "balanced_accuracy", "tpr_at_fpr_1e_1", "fold_2_auc_low"):
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
    other = replace(bundle, record=dict(bundle.record) | {"fingerprint": "ab" * 32})
    with pytest.raises(ShardError, match="are not those of the model"):
        judged(trained, tiny.rows, other)


def test_the_plots_have_their_columns(result: Evaluation, tiny: Tiny) -> None:
    assert {name: list(table.columns) for name, table in result.plots.items()} == {
        "confusion": ["actual", "predicted"],
        "calibration": ["score", "fakes", "images"],
        "scores": ["image_id", "label", "score", "fold_0", "fold_1", "fold_2"],
        "roc": ["fpr", "tpr", "threshold"],
        "pr": ["recall", "precision"],
        "folds": ["fold", "auc", "auc_low", "auc_high", "accuracy"],
        "attributes": ATTRIBUTES,
        "held_out": HELD_OUT,
        "robustness": [
            "level",
            "kind",
            "strength",
            "at",
            "seen",
            "auc",
            "auc_low",
            "auc_high",
            "accuracy",
            "unlike_share",
        ],
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


@st.composite
def any_test_set(draw: st.DrawFn) -> tuple[Any, Any, Any, float]:
    """(labels, scores, groups, threshold): one class or both, scores that may be constant, few or many groups."""
    size = draw(st.integers(1, 30))
    score = draw(st.sampled_from([st.just(0.0), st.just(1.0), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)]))

    def row(value: st.SearchStrategy[Any]) -> Any:
        return np.array(draw(st.lists(value, min_size=size, max_size=size)))

    label = draw(st.sampled_from([st.just(0), st.just(1), st.integers(0, 1)]))
    return row(label), row(score), row(st.sampled_from("abcdefgh")), draw(st.floats(0, 1))


@settings(deadline=None, max_examples=150)
@given(any_test_set())
def test_no_nan_or_infinity_ever_comes_out(test_set: tuple[Any, Any, Any, float]) -> None:
    labels, scores, groups, threshold = test_set
    metrics = evaluate_scores(labels, scores, groups, threshold=threshold, bootstrap=Bootstrap(20))
    json.dumps(metrics, allow_nan=False)
    for key, value in metrics.items():
        assert (value is None) == (f"{key}_reason" in metrics), key
    if len(set(labels.tolist())) == 2:
        assert all(metrics[key] is not None for key in ("auc", "ap", "eer", "balanced_accuracy"))
