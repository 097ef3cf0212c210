"""What a sceptical reader is told of held-out values, levels seen in training, false alarms and undecided images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from beyond_the_test_set import add_held_out, add_levels, add_policy
from conftest import Tiny, Trained
from results_on_disk import results_of, write_results

from ffdi.evaluation.below_chance import explain
from ffdi.evaluation.verdict import caveats


@pytest.fixture
def metrics(tmp_path: Path, tiny: Tiny, trained: Trained) -> Path:
    return write_results(tmp_path, tiny, trained, {"good": True})


def said(metrics: Path, **changes: Any) -> str:
    results = results_of(metrics, ["good"])
    return " ".join(caveats(replace(results, recipes={"good": dict(results.recipes["good"]) | changes})))


def test_a_value_that_does_not_carry_over(metrics: Path) -> None:
    add_held_out(metrics, "good")
    assert "Trained without swap+blend, it is not shown to find swap+blend better than by chance: AUC 0.550." in said(
        metrics
    )
    worse = said(metrics, held_out_worst_auc_low=0.51, auc=0.9)
    assert "training did not have it is worth less: AUC 0.725 on average, 0.550 without swap+blend." in worse
    assert "On the folds its AUC is" not in worse
    assert "swap+blend" not in said(metrics, held_out_worst_auc_low=0.51, auc=0.58)


def test_levels_that_were_trained_on(metrics: Path) -> None:
    add_levels(metrics, "good")
    assert (
        "2 of 4 levels of perturbation were also in its training; on the others alone its mean AUC is 0.612."
        in said(metrics)
    )
    all_seen = {f"robustness_{level}_seen": True for level in ("hflip", "fog_3")}
    assert "Every perturbation that it was tested on was also in its training" in said(metrics, **all_seen)
    add_levels(metrics, "good", seen="")
    assert "in its training" not in said(metrics)


def test_a_rate_that_was_not_expected(metrics: Path) -> None:
    add_policy(metrics, "good")
    assert (
        "It calls 14.0 % of the real test images fake: its threshold was expected to give 5.0 % (2.0 % to 8.0 %)."
        in (said(metrics))
    )
    assert "was expected" not in said(metrics, fpr=0.07)  # within the interval of what was expected
    assert "was expected" not in said(metrics, fpr_low=0.04)  # so few reals that 5 % may still be its rate


def test_a_band_whose_error_does_not_hold(metrics: Path) -> None:
    add_policy(metrics, "good")
    found = said(metrics)
    assert (
        "leaves 29.0 % of the test images undecided, and is wrong on 9.1 % of the others: more than the 5.0 %" in found
    )
    assert "on 9.1 % of the others." in said(metrics, decided_error_low=0.03)
    assert "It is wrong on 9.1 % of the test images: more than the 5.0 %" in said(metrics, coverage=1.0)
    assert "is wrong on" not in said(metrics, coverage=1.0, decided_error_low=0.03)  # no band was needed


def test_unseen_fakes_below_chance_do_not_turn_the_labels() -> None:
    below = {"held_out_gan_auc": 0.3, "held_out_gan_auc_low": 0.2, "held_out_gan_auc_high": 0.4}
    (line,) = explain(below)
    assert "held_out_gan: AUC 0.300 [0.200, 0.400]" in line and "never saw look more real" in line
