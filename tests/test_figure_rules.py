"""What each kind of figure may differ by on another machine, on a few images made for it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from figure_rules import figure_differences
from figures import Figures, digest, score_differences


@pytest.fixture
def made() -> Figures:
    """Four images of one recipe, a real and a fake near the threshold of .5; `differs` says that a score moved by .004."""
    scores = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d"],
            "label": [0, 0, 1, 1],
            "score": [0.1, 0.499, 0.503, 0.9],
            "fold_0": [0.1, 0.2, 0.8, 0.9],
        }
    )
    oof = pd.DataFrame({"label": [0, 0, 1, 1], "score": [0.2, 0.4, 0.6, 0.8]})
    metrics = {"accuracy": 1.0, "recall": 1.0, "precision": 1.0, "fold_0_accuracy": 1.0, "auc": 1.0, "threshold": 0.5}
    return Figures({"one": {**metrics, "n_test": 4, "weights": "x"}}, {"one": scores}, {"one": oof})


def differs(made: Figures, **changed: Any) -> list[str]:
    recorded = {**made.metrics["one"], **changed}
    scores = made.scores["one"].assign(score=made.scores["one"]["score"] + [0.004, 0, 0, 0])
    figures = {"one": {key: value for key, value in recorded.items() if value is not ...}}
    return figure_differences(figures, made, {"one": scores})


def test_counts_and_names_are_exact(made: Figures) -> None:
    assert differs(made) == []
    assert differs(made, n_test=5) == ["one: n_test: recorded 5, now 4"]
    assert differs(made, weights="y") == ["one: weights: recorded 'y', now 'x'"]
    assert differs(made, weights=...) == ["one: weights: only in one of the two"]
    assert differs(made, auc=None) == ["one: auc: recorded None, now 1.0"]
    assert figure_differences({}, made) == ["one: only in one of the two"]


def test_what_is_counted_may_differ_by_the_images_near_the_threshold(made: Figures) -> None:
    """b (real) and c (fake) are near: accuracy may be 2/4 to 4/4, recall 1/2 or 1, precision 1/2 to 1."""
    assert differs(made, accuracy=0.5, recall=0.5, precision=0.5) == []
    assert differs(made, accuracy=0.25) == ["one: accuracy: recorded 0.25, now 1; may be 0.5 to 1"]
    assert differs(made, recall=0.0) == ["one: recall: recorded 0, now 1; may be 0.5 to 1"]
    assert differs(made, fold_0_accuracy=0.75) == ["one: fold_0_accuracy: recorded 0.75, now 1; may be 1 to 1"]


def test_a_ratio_may_have_lost_its_images(made: Figures) -> None:
    """Were both fakes near, none might have been called fake: no precision."""
    made.scores["one"]["score"] = [0.1, 0.2, 0.498, 0.499]
    reason = {"precision": None, "precision_reason": "undefined", "accuracy": 0.5, "recall": 0.0}
    assert differs(made, **reason) == []
    made.scores["one"]["score"] = [0.1, 0.2, 0.498, 0.9]
    assert differs(made, **reason)


def test_the_threshold_may_be_another_one_that_is_as_good(made: Figures) -> None:
    assert differs(made, threshold=0.45) == []  # between the same two out-of-fold scores
    (worse,) = differs(made, threshold=0.3)
    assert worse.startswith("one: threshold: recorded 0.3, now 0.5; may be 0.49")
    made.metrics["one"]["threshold_rule"] = "accuracy"
    assert differs(made, threshold=0.45) == [] and differs(made, threshold=0.3)
    made.metrics["one"]["threshold_rule"] = "fpr"  # one real's score sets it
    assert differs(made, threshold=0.45) and differs(made, threshold=0.501) == []


def test_a_band_may_be_another_one_that_is_about_as_wide(made: Figures) -> None:
    made.metrics["one"] |= {"abstain_low": 0.4, "coverage": 0.5, "undecided": 2, "expected_fpr": 0.1, "fpr": 0.0}
    assert differs(made, abstain_low=0.44, coverage=0.46, expected_fpr=0.14, fpr=0.5) == []
    for changed in ({"abstain_low": 0.3}, {"coverage": 0.4}, {"expected_fpr": 0.2}, {"undecided": 3}, {"fpr": 1.0}):
        assert differs(made, **changed), changed


def test_a_few_images_may_turn_unlike_the_training(made: Figures) -> None:
    made.metrics["one"] |= {"n_test": 100, "unlike_share": 0.05, "unlike_share_real": 0.02}
    assert differs(made, unlike_share=0.09, unlike_share_real=0.06) == []
    assert differs(made, unlike_share=0.1)


def test_ranks_differ_by_pairs_that_are_close(made: Figures) -> None:
    """Of four pairs b and c alone are within twice .004, and two are the least that is let pass."""
    assert differs(made, auc=0.5) == []
    assert differs(made, auc=0.49) == ["one: auc: recorded 0.49, now 1; may be 0.5 to 1.5"]


def test_a_fold_is_ranked_by_its_own_validation_images(made: Figures) -> None:
    """Each fold has four pairs, of which two may change places; both folds together would have sixteen."""
    folds = pd.DataFrame({"fold": [0] * 4 + [1] * 4, "label": [0, 0, 1, 1] * 2, "score": [0.1, 0.2, 0.8, 0.9] * 2})
    made.oof["one"] = folds  # type: ignore[index]
    made.metrics["one"]["fold_1_val_auc"] = 1.0  # type: ignore[index]
    assert differs(made, fold_1_val_auc=0.5) == []
    assert differs(made, fold_1_val_auc=0.49) == ["one: fold_1_val_auc: recorded 0.49, now 1; may be 0.5 to 1.5"]


def test_what_lies_below_chance_follows_from_the_intervals(made: Figures) -> None:
    below = {"auc": 0.4, "auc_low": 0.3, "auc_high": 0.499, "below_chance": 1, "below_chance_at": "auc"}
    made.metrics["one"].update(below)  # type: ignore[attr-defined]
    assert differs(made, auc_high=0.501, below_chance=0, below_chance_at=...) == []
    for wrong in ({"below_chance": 2}, {"below_chance_at": "fold_0_auc"}, {"below_chance": ...}):
        assert differs(made, **wrong), wrong


def test_ranks_of_many_images_differ_by_a_hundredth() -> None:
    """No pair of 100 reals and 100 fakes is close, and one of them is a ten thousandth."""
    scores = pd.DataFrame({"image_id": [f"{i:03}" for i in range(200)], "label": [0] * 100 + [1] * 100})
    scores["score"] = scores["label"] * 0.5 + 0.25
    made = Figures({"one": {"auc": 1.0}}, {"one": scores})
    assert figure_differences({"one": {"auc": 0.991}}, made, {"one": scores}) == []
    (line,) = figure_differences({"one": {"auc": 0.989}}, made, {"one": scores})
    assert line == "one: auc: recorded 0.989, now 1; may be 0.99 to 1.01"


def test_scores_are_compared_image_by_image(made: Figures) -> None:
    """Their spread is .283: one may move by .0566, all of them on average by .01414."""
    old, new = digest(made.scores["one"]), made.scores["one"]
    assert score_differences(old, new) == []
    assert score_differences(old, new.assign(score=new["score"] + [0.05, 0, 0, 0])) == []
    assert score_differences(old, new.assign(score=new["score"] + [0.06, 0, 0, 0])) == [
        "test scores differ by 0.0150 on average and 0.0600 at most, over 4 images; another machine explains 0.0141 and "
        "0.0566"
    ]
    assert score_differences(old, new.assign(score=new["score"] + 0.015))  # each a little, which is too much together
    assert score_differences(old, new.assign(label=1)) == ["2 of 4 test images are others now, or have another label"]
    assert score_differences(old, new.head(3)) == ["1 of 4 test images are others now, or have another label"]


def test_scores_beside_one_value_have_a_floor() -> None:
    """What has learned nothing scores all images alike: their spread tells nothing."""
    flat = pd.DataFrame({"image_id": list("abcdef"), "label": [0, 1] * 3, "score": [0.5] * 6})
    assert score_differences(flat, flat.assign(score=[0.5049, *[0.5] * 5])) == []
    assert score_differences(flat, flat.assign(score=[0.5051, *[0.5] * 5]))
    assert score_differences(flat, flat.assign(score=0.5011))


def test_a_verdict_may_turn_only_beside_its_level() -> None:
    def summary(p: float, verdict: str) -> dict[str, Any]:
        return {"a_minus_b_auc_p_corrected": p, "a_minus_b_auc_verdict": verdict}

    def turned(old: float, new: float) -> list[str]:
        return figure_differences({"summary": summary(old, "a is better")}, Figures({"summary": summary(new, "none")}))

    assert turned(0.049, 0.051) == []
    assert turned(0.001, 0.2)
    assert turned(0.02, 0.06) == [
        "summary: a_minus_b_auc_p_corrected: recorded 0.02, now 0.06; may be 0.034 to 0.086",
        "summary: a_minus_b_auc_verdict: recorded 'a is better', now 'none'",
    ]


def test_a_p_value_that_shows_nothing_may_be_any_other_such() -> None:
    """Of two recipes whose AUCs differ by .033, .004 more made .53 of .42."""
    key = "a_minus_b_auc_p_corrected"
    assert figure_differences({"summary": {key: 0.533}}, Figures({"summary": {key: 0.425}})) == []
    assert figure_differences({"summary": {key: 0.05}}, Figures({"summary": {key: 0.425}}))
    assert figure_differences({"summary": {key: 0.425}}, Figures({"summary": {key: 0.05}}))


@pytest.mark.parametrize(("pretrained", "lines"), [(False, 0), (True, 1)])
def test_random_weights_are_made_of_sums(pretrained: bool, lines: int) -> None:
    old, new = ({"weights_sha256": sha256, "pretrained": pretrained} for sha256 in ("a", "b"))
    assert len(figure_differences({"one": old}, Figures({"one": new}))) == lines


def test_levels_and_held_out_values_are_ranked_by_their_own_images(made: Figures) -> None:
    """At blur-2 no pair is close: the least that is let pass is two of four. At blur-2@file all four are."""
    scores = made.scores["one"].assign(**{"blur-2": [0.1, 0.2, 0.8, 0.9], "blur-2@file": [0.499, 0.5, 0.501, 0.502]})
    made.scores["one"] = scores  # type: ignore[index]
    oof = pd.DataFrame({"fold": [0] * 4 + [1] * 4, "label": [0, 0, 1, 1] * 2, "score": [0.1, 0.2, 0.8, 0.9] * 2})
    made.oof["one"] = oof  # type: ignore[index]
    keys = ("robustness_blur_2_auc", "robustness_blur_2_at_file_auc", "robust_auc", "held_out_gan_auc")
    made.metrics["one"].update(dict.fromkeys(keys, 1.0))  # type: ignore[attr-defined]
    assert differs(made, **dict.fromkeys(keys, 0.5)) == []
    moved = differs(made, **dict.fromkeys(keys, 0.45))
    assert [line.split(": ")[1] for line in moved] == ["held_out_gan_auc", "robustness_blur_2_auc"]


def test_the_name_of_the_worst_may_be_that_of_another_about_as_low(made: Figures) -> None:
    figures = {"held_out_a_auc": 0.6, "held_out_b_auc": 0.605, "held_out_c_auc": 0.9, "held_out_worst_auc": 0.6}
    made.metrics["one"].update(figures | {"held_out_worst": "a"})  # type: ignore[attr-defined]
    large = pd.DataFrame({"label": [0] * 50 + [1] * 50, "score": [n / 100 for n in range(100)], "fold": 0})
    made.oof["one"] = large  # type: ignore[index]
    assert differs(made, held_out_worst="b") == []
    assert differs(made, held_out_worst="c") == ["one: held_out_worst: recorded 'c', now 'a'"]


def test_weights_of_members_move_a_little(made: Figures) -> None:
    made.metrics["one"]["weight_a"] = 0.7  # type: ignore[index]
    assert differs(made, weight_a=0.65) == []
    assert differs(made, weight_a=0.55) == ["one: weight_a: recorded 0.55, now 0.7; may be 0.6 to 0.8"]


def test_robust_differences_are_ranked_by_perturbed_images() -> None:
    """Far pairs of 100 by 100 images pass by a hundredth for each recipe; close ones at the only level by more."""
    scores = pd.DataFrame({"image_id": [f"{i:03}" for i in range(200)], "label": [0] * 100 + [1] * 100})
    scores["score"] = scores["label"] * 0.5 + 0.25
    scores["jpeg-50"] = 0.5
    tables = {"a": scores, "b": scores}
    keys = ("a_minus_b_auc", "a_minus_b_robust_auc")
    made = Figures({"summary": dict.fromkeys(keys, 0.1)}, tables)
    found = figure_differences({"summary": dict.fromkeys(keys, 0.3)}, made, tables)
    assert [line.split(": ")[1] for line in found] == ["a_minus_b_auc"]


def test_the_folds_beside_a_refit_tail_move_with_their_own_scores(made: Figures) -> None:
    """The mean of the folds parts real and fake by far; the model's own scores of b and c are close."""
    made.scores["one"]["fold_0"] = [0.15, 0.25, 0.85, 0.95]
    keys = {"folds_auc": 1.0, "folds_ece": 0.1, "folds_fpr": 0.0, "refit_minus_folds_auc": 0.0}
    made.metrics["one"].update(keys | {"refit_epochs": 3})  # type: ignore[attr-defined]
    assert differs(made, folds_auc=0.995, folds_ece=0.1 + 1e-6, refit_minus_folds_auc=-0.5, refit_epochs=4) == []
    moved = differs(made, folds_auc=0.4, folds_ece=0.2, folds_fpr=0.5, refit_minus_folds_auc=-1.1)
    assert [line.split(": ")[1] for line in moved] == list(keys)


def test_figures_of_units_may_differ_by_the_units_near_the_threshold(made: Figures) -> None:
    """Unit u joins b and c, .501 on average: near the threshold; v and w are a and d alone."""
    made.scores["one"]["unit"] = ["v", "u", "u", None]
    made.metrics["one"] |= {"unit_score": "mean", "unit_count": 3, "unit_accuracy": 1.0, "unit_auc": 1.0}
    made.metrics["one"] |= {"unit_auc_low": 0.9, "unit_undecided": 1, "unit_brier": 0.1, "unit_images_max": 2}
    assert differs(made, unit_accuracy=2 / 3, unit_brier=0.105, unit_auc=0.995) == []
    for changed in ({"unit_accuracy": 1 / 3}, {"unit_count": 4}, {"unit_images_max": 3}, {"unit_score": "median"}):
        assert differs(made, **changed), changed
    assert differs(made, unit_brier=0.12) and differs(made, unit_undecided=2)
    del made.scores["one"]["unit"]  # without scores, only what little any figure may differ by
    assert differs(made, unit_accuracy=0.99) == [] and differs(made, unit_accuracy=0.9)
