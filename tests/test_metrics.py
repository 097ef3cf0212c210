"""Figures against hand-worked numbers, and against scikit-learn on random ones."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ffdi.bootstrap import Bootstrap
from ffdi.errors import FfdiError
from ffdi.metrics import (
    auc,
    best_threshold,
    calibrated_ece,
    class_metrics,
    confusion,
    equal_error_rate,
    evaluate_scores,
    expected_calibration_error,
    explain_nulls,
    fit_temperature,
    reliability,
    roc_points,
    tpr_bound,
)

Array = np.ndarray[Any, Any]


@st.composite
def scored(draw: st.DrawFn) -> tuple[Array, Array]:
    """Labels of both classes with scores on a grid of 8, so that ties are common."""
    labels = draw(st.lists(st.integers(0, 1), min_size=2, max_size=40).filter(lambda y: 0 < sum(y) < len(y)))
    scores = draw(st.lists(st.integers(0, 7), min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(scores) / 7


def evaluate(labels: Any, scores: Any, groups: Any = None, **changes: Any) -> dict[str, Any]:
    groups = np.arange(len(labels)).astype(str) if groups is None else groups
    settings: dict[str, Any] = {"threshold": 0.5, "bootstrap": Bootstrap(200)} | changes
    return evaluate_scores(np.array(labels), np.array(scores), groups, **settings)


def test_auc_counts_ties_half() -> None:
    # Fakes .8 and .5 against reals .5 and .2: won, won, tied, won = 3.5 of 4.
    assert auc(np.array([1, 1, 0, 0]), np.array([0.8, 0.5, 0.5, 0.2])) == 3.5 / 4
    assert auc(np.array([1, 0]), np.array([0.9, 0.1])) == 1.0  # fake is positive: a higher score is more fake
    assert auc(np.array([1, 0, 0]), np.array([0.3, 0.3, 0.3])) == 0.5
    assert np.isnan(auc(np.array([1, 1]), np.array([0.1, 0.2])))


@settings(deadline=None)
@given(scored())
def test_figures_equal_scikit_learn(data: tuple[Array, Array]) -> None:
    labels, scores = data
    out, predicted = evaluate(labels, scores, bootstrap=Bootstrap(1)), scores >= 0.5
    due = {
        "auc": sk.roc_auc_score(labels, scores),
        "ap": sk.average_precision_score(labels, scores),
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "recall": sk.recall_score(labels, predicted),
        "recall_real": sk.recall_score(labels, predicted, pos_label=0),
        "brier": sk.brier_score_loss(labels, scores),
    }
    if predicted.any() and not predicted.all():
        due |= {
            "precision": sk.precision_score(labels, predicted),
            "precision_real": sk.precision_score(labels, predicted, pos_label=0),
            "f1": sk.f1_score(labels, predicted),
            "f1_real": sk.f1_score(labels, predicted, pos_label=0),
        }
    assert {key: out[key] for key in due} == pytest.approx(due)
    json.dumps(out, allow_nan=False)


def test_confusion_has_fake_as_positive() -> None:
    labels, predicted = np.array([1, 1, 1, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0])
    assert confusion(labels, predicted) == (2, 1, 1, 3)


def test_a_score_at_the_threshold_is_called_fake() -> None:
    assert evaluate([1, 0], [0.5, 0.4], threshold=0.5)["accuracy"] == 1.0
    assert evaluate([1, 0], [0.5, 0.4], threshold=0.4)["recall_real"] == 0.0


def test_published_confusion_with_its_polarity_turned() -> None:
    # Published with REAL as positive: TP 167, FN 50, FP 78, TN 114. Turned: fakes found 114, missed 78, reals
    # called fake 50, reals passed 167. Recall 114/192, precision 114/164, F1 228/356; of reals 167/217, 167/245.
    out = class_metrics(tp=114, fn=78, fp=50, tn=167)
    assert {key: round(float(out[key] or 0), 3) for key in out} == {
        "accuracy": 0.687,  # 281 of 409
        "balanced_accuracy": 0.682,
        "precision": 0.695,
        "recall": 0.594,
        "f1": 0.64,
        "precision_real": 0.682,
        "recall_real": 0.77,
        "fpr": 0.23,
        "f1_real": 0.723,
    }


def test_ratios_without_a_denominator_are_null() -> None:
    out = class_metrics(tp=0, fn=0, fp=0, tn=3)  # no fake, none called fake
    assert (out["recall"], out["precision"], out["f1"], out["balanced_accuracy"]) == (None,) * 4
    assert (out["recall_real"], out["accuracy"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "due"),
    [
        ([0.9, 0.8, 0.2, 0.1], 0.0),  # fakes first: perfect order
        ([0.9, 0.3, 0.5, 0.1], 0.5),  # at .5 one of two reals is called fake, one of two fakes missed
        ([0.5, 0.5, 0.5, 0.5], 0.5),  # one straight line from (0, 0) to (1, 1) meets the diagonal in the middle
        ([0.1, 0.2, 0.8, 0.9], 1.0),
    ],
)
def test_equal_error_rate(scores: list[float], due: float) -> None:
    fpr, tpr, _ = roc_points(np.array([1, 1, 0, 0]), np.array(scores))
    assert equal_error_rate(fpr, tpr) == pytest.approx(due)


def test_equal_error_rate_is_interpolated() -> None:
    # From (0, .5) to (1, 1): fpr = 1 - tpr = .5 - fpr / 2, so fpr = 1/3.
    assert equal_error_rate(np.array([0, 0, 1]), np.array([0, 0.5, 1])) == pytest.approx(1 / 3)


def test_calibration_error_and_brier() -> None:
    # Bin [.2, .3): mean .25, half fake, gap .25, 2 of 4. Bin [.9, 1]: mean .95, all fake, gap .05, 2 of 4.
    labels, scores = np.array([0, 1, 1, 1]), np.array([0.25, 0.25, 0.9, 1.0])
    assert [count for *_, count in reliability(labels, scores)] == [2, 2]
    assert expected_calibration_error(labels, scores) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)
    # (.0625 + .5625 + .01 + 0) / 4
    assert evaluate(labels, scores)["brier"] == pytest.approx(0.15875)


def test_calibration_bins_are_floored_not_rounded() -> None:
    # .19 is in bin [.1, .2) and .21 in bin [.2, .3): gaps of .19 and .79. Rounded, both would be in one bin, gap .3.
    labels, scores = np.array([0, 1]), np.array([0.19, 0.21])
    assert reliability(labels, scores) == [(0.19, 0.0, 1), (0.21, 1.0, 1)]
    assert expected_calibration_error(labels, scores) == pytest.approx((0.19 + 0.79) / 2)
    # .1 and .19 share bin [.1, .2): mean .145, half fake. Rounded, they would be in two bins, gaps of .1 and .81.
    assert expected_calibration_error(labels, np.array([0.1, 0.19])) == pytest.approx(0.355)


def test_what_calibration_error_good_scores_have() -> None:
    """All at .5: |share of fakes - .5| of 100 images is below 1.96 x .05 = .098 in 95 % of draws; of 10,000, .0098."""
    for images, due in ((100, 0.098), (10_000, 0.0098)):
        found = calibrated_ece(np.full(images, 0.5), bootstrap=Bootstrap(2000))
        assert found == pytest.approx(due, rel=0.06)
    sure = np.array([0.0, 1.0] * 5)
    assert calibrated_ece(sure, bootstrap=Bootstrap(50)) == 0  # no draw differs from what they say
    # Two bins, each half of the images: the errors of both add up by their share.
    both = calibrated_ece(np.repeat([0.2, 0.8], 500), bootstrap=Bootstrap(2000), quantile=0.5)
    one = np.sqrt(0.2 * 0.8 / 500) * 0.6745  # the median of |error| of a bin
    assert 0.9 * one < both < 1.5 * one


def test_tpr_at_fpr_needs_enough_reals() -> None:
    # 10 reals at 0, .1, ..., .9: one false alarm is a rate of .1, so the threshold may fall to .9 but not to .8.
    out = evaluate([0] * 10 + [1] * 4, [*(i / 10 for i in range(10)), 0.95, 0.9, 0.85, 0.1])
    assert out["tpr_at_fpr_1e_1"] == 3 / 4  # .95, .9 (tied with the false alarm) and .85
    assert out["tpr_at_fpr_1e_2"] is None
    assert "10 reals" in out["tpr_at_fpr_1e_2_reason"] and "0.01" in out["tpr_at_fpr_1e_2_reason"]
    assert "tpr_at_fpr_1e_1_reason" not in out
    # Of 10 reals one or none is above the threshold of a rate of .01 in 99.6 % of draws: none in 90.4 %.
    assert out["tpr_at_fpr_1e_2_at_most"] == 3 / 4
    assert out["tpr_at_fpr_1e_3_at_most"] == 1 / 4  # none in 99.0 %
    assert "tpr_at_fpr_1e_1_at_most" not in out


def test_tpr_at_fpr_is_read_off_without_interpolation() -> None:
    # 15 reals: a rate of .1 lies between one false alarm (1/15) and two (2/15). With one, fakes .95 and .85 are found.
    # The next threshold, .8, finds a third fake with the second alarm; on the line to that point, .1 would be at .625.
    reals = [0.9, 0.8, *(i / 100 for i in range(13))]
    out = evaluate([0] * 15 + [1] * 4, [*reals, 0.95, 0.85, 0.8, 0.5])
    assert out["tpr_at_fpr_1e_1"] == 2 / 4


def test_the_bound_of_tpr_holds_in_most_draws() -> None:
    """217 reals cannot resolve 1e-3: the bound is above the true rate, .278, in 95 % of draws or more."""
    rng = np.random.default_rng(0)
    fakes = rng.normal(2.5, 1, 5000)
    true = float(np.mean(fakes > 3.0902))  # the .999 quantile of the reals' distribution
    held = []
    for _ in range(300):
        scores = np.concatenate([rng.normal(0, 1, 217), fakes])
        fpr, tpr, _ = roc_points(np.repeat([0, 1], [217, 5000]), scores)
        held.append(tpr_bound(fpr, tpr, 217, 1e-3) >= true)
        assert tpr[fpr == 0].max() <= tpr_bound(fpr, tpr, 217, 1e-3)
    assert np.mean(held) >= 0.95


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_nulls_with_reasons(label: int) -> None:
    out = evaluate([label] * 3, [0.1, 0.6, 0.9])
    nulls = {key for key, value in out.items() if value is None}
    assert {"auc", "auc_low", "auc_high", "ap", "eer", "balanced_accuracy", "tpr_at_fpr_1e_3"} <= nulls
    assert all(f"{3 * (1 - label)} reals" in out[f"{key}_reason"] for key in nulls)
    assert out["accuracy"] == pytest.approx(2 / 3 if label else 1 / 3)
    json.dumps(out, allow_nan=False)


def test_nan_scores_are_refused() -> None:
    with pytest.raises(FfdiError, match="1 of 2 scores"):
        evaluate([0, 1], [0.5, float("nan")])


def test_explain_nulls_keeps_a_given_reason() -> None:
    out = explain_nulls({"a": None, "a_reason": "mine", "b": float("nan"), "c": 1}, "all")
    assert out == {"a": None, "a_reason": "mine", "b": None, "b_reason": "undefined: all", "c": 1}


@pytest.mark.parametrize(
    ("labels", "scores", "due"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9], 0.5),  # midway between .4 and .6
        ([0, 0, 0, 1], [0.1, 0.2, 0.8, 0.8], 0.5),  # taking the tied pair costs one real of three: midway to .2
        ([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.7], 0.6),  # .2 and .6 are as good: the one with fewer false alarms
    ],
)
def test_best_threshold(labels: list[int], scores: list[float], due: float) -> None:
    assert best_threshold(np.array(labels), np.array(scores)) == pytest.approx(due)


@settings(deadline=None)
@given(scored(), st.booleans())
def test_best_threshold_is_the_best(data: tuple[Array, Array], close: bool) -> None:
    labels, scores = data
    if close:  # neighbouring floats, between which there is no middle
        scores = 0.3 + scores * 7 * np.spacing(0.3)

    def balanced(threshold: float) -> float:
        return float(sk.balanced_accuracy_score(labels, scores >= threshold))

    best = max(map(balanced, [*np.unique(scores), 2.0]))
    assert balanced(best_threshold(labels, scores)) == pytest.approx(best)


def test_best_threshold_needs_both_classes() -> None:
    with pytest.raises(FfdiError, match="both classes"):
        best_threshold(np.array([1, 1]), np.array([0.2, 0.3]))


@pytest.mark.parametrize("scale", [1.0, 3.0, 0.5])
def test_temperature_undoes_a_scale(scale: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    labels = (rng.random(40_000) < 1 / (1 + np.exp(-logits))).astype(int)  # calibrated as they are
    assert fit_temperature(labels, scale * logits) == pytest.approx(scale, rel=0.05)
