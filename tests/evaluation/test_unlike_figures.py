"""The share of images that are unlike the training: of a test set, of its levels, of other data; and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained
from results_on_disk import results_of, write_results

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation.diff import changes
from ffdi.evaluation.evaluate import Evaluation, EvaluationInputs, PartScores, ScoredTestSet, evaluate_recipe, judge
from ffdi.evaluation.other_data import other_data_metrics
from ffdi.evaluation.unlike_figures import KEYS, unlike_metrics
from ffdi.evaluation.verdict import caveats
from ffdi.features.store import FeatureStore
from ffdi.metrics import Metrics
from ffdi.tails.bundle import Bundle, load_bundle

FEW = Bootstrap(200)


def test_it_is_the_share_beyond_the_limit_with_its_interval_over_groups() -> None:
    distance, labels = np.array([0.5, 1.0, 1.2, 7.0, 0.9, 0.1]), np.array([0, 0, 0, 1, 1, 1])
    found = unlike_metrics(distance, labels, np.array(list("abcdef")), bootstrap=FEW)
    assert tuple(found) == KEYS
    assert [found[f"unlike_share{kind}"] for kind in ("", "_real", "_fake")] == pytest.approx([2 / 6, 1 / 3, 1 / 3])
    low, high = found["unlike_share_low"], found["unlike_share_high"]
    assert isinstance(low, float) and isinstance(high, float) and 0 < low < 1 / 3 < high < 1
    of_reals = unlike_metrics(distance[:3], labels[:3], np.array(list("abc")), bootstrap=FEW)
    assert of_reals["unlike_share_fake"] != of_reals["unlike_share_fake"]  # NaN: there is none
    unknown = unlike_metrics(None, labels, labels, bootstrap=FEW)
    assert all(unknown[key] is None and "index" in str(unknown[f"{key}_reason"]) for key in KEYS)


def judged(bundle: Bundle, trained: Trained, tiny: Tiny) -> Evaluation:
    inputs = EvaluationInputs(bundle, FeatureStore(trained.features), tiny.rows)
    return evaluate_recipe(inputs, bootstrap=FEW, memory_gb=1, device=torch.device("cpu"))


def test_the_test_set_is_judged_with_the_index_of_the_bundle(trained: Trained, tiny: Tiny) -> None:
    bundle = load_bundle(trained.model)
    assert bundle.index
    everything = replace(bundle, index=replace(bundle.index, limit=1e-6))
    assert judged(everything, trained, tiny).metrics["unlike_share"] == 1.0
    assert judged(bundle, trained, tiny).metrics["unlike_share"] in (0.0, 1 / 12, 2 / 12)
    before = judged(replace(bundle, index=None), trained, tiny).metrics
    assert before["unlike_share"] is None and before["unlike_share_low_reason"]


@dataclass(frozen=True)
class FirstOfTwo(Bundle):
    """A model of two parts whose scores are those of the first."""

    def joined(self, by_part: Any) -> Any:
        return super().joined(by_part[:1])


def test_levels_have_a_share_each(trained: Trained, tiny: Tiny) -> None:
    test, levels = tiny.rows[tiny.rows["role"] == "test"], ("blur-1", "jpeg-50")
    scores, far = {0: np.linspace(0, 1, len(test))}, np.zeros(len(test))
    far[:3] = 2.0
    by_level = dict.fromkeys(levels, scores)
    known = PartScores(scores, by_level, 0.0, far, dict(zip(levels, (far, 0 * far), strict=True)))
    unknown = PartScores(scores, by_level, 0.0, None, dict.fromkeys(levels))
    model = FirstOfTwo(**vars(load_bundle(trained.model)))
    found = judge(ScoredTestSet(model, [known, unknown], test, tiny.rows), {}, bootstrap=FEW)
    assert found.metrics["unlike_share"] == found.metrics["robustness_blur_1_unlike_share"] == 3 / len(test)
    assert found.metrics["robustness_jpeg_50_unlike_share"] == 0.0
    assert found.plots["robustness"]["unlike_share"].tolist() == [3 / len(test), 0.0]
    found = judge(ScoredTestSet(model, [unknown, unknown], test, tiny.rows), {}, bootstrap=FEW)
    assert "robustness_blur_1_unlike_share" not in found.metrics and found.metrics["unlike_share"] is None


def test_other_data_have_it_and_diff_places_it() -> None:
    names = ("auc", "auc_low", "auc_high", "accuracy", "accuracy_low", "accuracy_high")
    away: Metrics = {"recipe": "a", "tested_on": "x", "n_test": 9, "n_seen": 0, **dict.fromkeys(names, 0.7)}
    share: Metrics = {"unlike_share": 0.4, "unlike_share_low": 0.3, "unlike_share_high": 0.5}
    found = other_data_metrics([{**away, **share}])
    assert [found[f"a_on_x_{key}"] for key in share] == [0.4, 0.3, 0.5]
    unknown = other_data_metrics([{**away, "unlike_share": None, "unlike_share_reason": "no index"}])
    assert (unknown["a_on_x_unlike_share"], unknown["a_on_x_unlike_share_reason"]) == (None, "no index")
    assert set(other_data_metrics([away])) == {key for key in found if "unlike" not in key}
    (change,) = changes({"a": {**away, **share}}, {"a": {**away, **share, "unlike_share": 0.6}})
    assert (change.section, change.figure, change.kind) == ("unlike", "unlike_share", "beyond")


def test_a_reader_is_told_of_a_test_set_that_the_training_does_not_know(
    tmp_path: Path, tiny: Tiny, trained: Trained
) -> None:
    results = results_of(write_results(tmp_path, tiny, trained, {"good": True}), ["good"])

    def said(share: float | None, low: float | None) -> bool:
        changed = dict(results.recipes["good"]) | {"unlike_share": share, "unlike_share_low": low}
        lines = caveats(replace(results, recipes={"good": changed}))
        return any(line.startswith("12.0 % of the test images are unlike those of the training") for line in lines)

    assert said(0.12, 0.05) and not said(0.12, 0.015) and not said(None, None)
