"""An AUC whose whole interval is below .5 is reported with its most likely cause, wherever labels and scores meet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation import evaluate as module
from ffdi.evaluation import other_data
from ffdi.evaluation.below_chance import explain, keys_below, mark
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.evaluation.held_out import validation_aucs
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource
from ffdi.metrics import Metrics
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.model import ModelScores

CPU = torch.device("cpu")


def figures(**aucs: tuple[float, float, float]) -> Metrics:
    return {f"{key}{end}": value for key, values in aucs.items() for end, value in zip(("", "_low", "_high"), values)}


LOW, WIDE, HIGH = (0.2, 0.1, 0.3), (0.45, 0.3, 0.6), (0.9, 0.8, 1.0)


def test_only_a_whole_interval_below_chance_counts() -> None:
    found = figures(auc=WIDE, fold_0_auc=HIGH, fold_1_auc=LOW) | {"attr_x_y_auc": None, "attr_x_y_auc_high": None}
    assert keys_below(found) == ["fold_1_auc"]
    assert keys_below(figures(auc=(0.49, 0.48, 0.5))) == []
    marked = mark(found)
    assert (marked["below_chance"], marked["below_chance_at"]) == (1, "fold_1_auc")
    assert mark(marked) == marked
    assert mark(figures(auc=HIGH))["below_chance"] == 0 and "below_chance_at" not in mark(figures(auc=HIGH))


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (figures(auc=HIGH, fold_0_auc=HIGH), []),
        (figures(auc=LOW), [("AUC 0.200 [0.100, 0.300] on the test set", "its labels are most likely turned round")]),
        (figures(auc=LOW) | {"tested_on": "wild"}, [("AUC 0.200 [0.100, 0.300] on wild", "data.classes")]),
        # All of the set is turned, so its parts are too: said once.
        (figures(auc=LOW, fold_0_auc=LOW, attr_a_b_auc=LOW, robustness_jpeg_30_auc=LOW), [("on the test set", "")]),
        (figures(auc=HIGH, fold_2_val_auc=LOW), [("fold_2_val: AUC", "that part of the training images")]),
        (figures(auc=LOW, fold_2_val_auc=LOW), [("on the test set", ""), ("that part of the training images", "")]),
        (figures(auc=HIGH, fold_2_auc=LOW), [("fold_2: AUC", "what that fold trained on")]),
        (figures(auc=HIGH, robustness_blur_3_auc=LOW), [("robustness_blur_3: AUC", "the opposite verdict")]),
        (figures(auc=HIGH, attr_source_web_auc=LOW), [("attr_source_web: AUC", "the labels of these images")]),
        (figures(**{f"attr_source_{n}_auc": LOW for n in range(5)}), [("attr_source_2: AUC", "and 2 more: ")]),
    ],
)
def test_it_is_said_as_what_it_most_likely_is(metrics: Metrics, says: list[tuple[str, str]]) -> None:
    lines = explain(metrics)
    assert len(lines) == len(says)
    assert all(one in line and other in line for line, (one, other) in zip(lines, says))


@pytest.fixture
def knows(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> pd.Series:
    """P(fake) by image_id of a model that is right, with some spread, which takes the place of the tiny one's."""
    ids, label = tiny.rows["image_id"], tiny.rows["label"].to_numpy()
    score = pd.Series(0.1 + 0.7 * label + 0.01 * (np.arange(len(ids)) % 7), index=ids)

    def fold_scores(bundle: Bundle, table: FeatureTable, device: torch.device) -> dict[int, Any]:
        return {fold: score[list(table.image_ids)].to_numpy() for fold in bundle.tails}

    monkeypatch.setattr(Bundle, "fold_scores", fold_scores)
    return score


def judged(trained: Trained, rows: pd.DataFrame, **changes: Any) -> Metrics:
    inputs = EvaluationInputs(load_bundle(trained.model), FeatureStore(trained.features), rows, **changes)
    return evaluate_recipe(inputs, bootstrap=Bootstrap(200), memory_gb=1, device=CPU).metrics


def test_a_test_set_with_turned_labels(trained: Trained, tiny: Tiny, knows: pd.Series) -> None:
    turned = tiny.rows.assign(label=tiny.rows["label"].where(tiny.rows["role"] == "train", 1 - tiny.rows["label"]))
    right, wrong = judged(trained, tiny.rows), judged(trained, turned)
    assert right["below_chance"] == 0 and explain(right) == []
    assert wrong["below_chance_at"] == "auc, fold_0_auc, fold_1_auc, fold_2_auc"
    assert "on the test set" in explain(wrong)[0]


def test_images_of_one_source_with_turned_labels(trained: Trained, tiny: Tiny, knows: pd.Series) -> None:
    test = tiny.rows[tiny.rows["role"] == "test"]
    last = test["group"] != min(test["group"])
    rows = test.assign(label=test["label"].where(~last, 1 - test["label"]), attr_source=np.where(last, "b", "a"))
    assert "attr_source_b_auc" in str(judged(trained, rows)["below_chance_at"])


def test_images_that_are_handled_so_that_the_verdict_turns(
    trained: Trained, tiny: Tiny, knows: pd.Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels of a sweep are those of the clean images."""
    monkeypatch.setattr(module, "VIEW", 0)  # the clean view stands in for the perturbed one
    clean_first, calls = Bundle.fold_scores, list[int]()

    def turned_later(bundle: Bundle, table: FeatureTable, device: torch.device) -> dict[int, Any]:
        calls.append(len(calls))
        scores = clean_first(bundle, table, device)
        return {fold: 1 - of_fold for fold, of_fold in scores.items()} if calls[-1] else scores

    monkeypatch.setattr(Bundle, "fold_scores", turned_later)
    metrics = judged(trained, tiny.rows, perturbed={"jpeg-30": FeatureStore(trained.features)}, levels=["jpeg-30"])
    assert metrics["below_chance_at"] == "robustness_jpeg_30_auc, robust_auc, worst_auc, robust_unseen_auc"
    (said,) = explain(metrics)
    assert said.startswith("robustness_jpeg_30: AUC") and said.endswith("get the opposite verdict")


def test_a_fold_with_turned_labels(trained: Trained, tiny: Tiny, knows: pd.Series) -> None:
    oof = read_oof(trained.model)
    oof["score"] = knows[oof["image_id"]].to_numpy()
    right = validation_aucs(oof, tiny.rows, bootstrap=Bootstrap(200))
    assert right == {f"fold_{n}_val_auc{end}": 1.0 for n in range(3) for end in ("", "_low", "_high")}
    turned = oof.assign(label=oof["label"].where(oof["fold"] != 1, 1 - oof["label"]))
    metrics = judged(trained, tiny.rows, oof=turned)
    assert metrics["below_chance_at"] == "fold_1_val_auc" and "fold_1_val" in explain(metrics)[0]


def test_the_validation_figures_are_the_bundle_s(trained: Trained, tiny: Tiny) -> None:
    found = validation_aucs(read_oof(trained.model), tiny.rows, bootstrap=Bootstrap(200))
    due = {f"fold_{n}_val_auc": auc for n, auc in load_bundle(trained.model).record["val_auc"].items()}
    assert {key: found[key] for key in due} == pytest.approx(due)


def test_other_data_with_turned_labels(
    trained: Trained, tiny: Tiny, knows: pd.Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = tiny.rows[tiny.rows["role"] == "test"]
    monkeypatch.setattr(
        other_data,
        "score_files",
        lambda bundle, images, *rest, **options: ModelScores.of_folds({0: knows[images["image_id"]].to_numpy()}),
    )
    options: dict[str, Any] = {"phash_bits": 0, "bootstrap": Bootstrap(200)}
    known = load_bundle(trained.model)
    bundle = replace(known, seen=known.seen.head(0))
    right, wrong = (
        other_data.evaluate_on_other_data(
            bundle, other_data.OtherData("wild", ImageSource(tiny.root, 10**6), rows), device=CPU, **options
        ).metrics
        for rows in (test, test.assign(label=1 - test["label"]))
    )
    assert explain(right) == [] and "on wild" in explain(wrong)[0]
    assert other_data.other_data_metrics([right, wrong])["below_chance"] == 1
