"""What a policy calls real, fake and undecided, and how it is set on out-of-fold scores."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from ffdi.bootstrap import Bootstrap
from ffdi.errors import PolicyError
from ffdi.metrics import best_threshold
from ffdi.tails.cut_points import CutPoints, chosen_place, widest_band
from ffdi.tails.policy import Policy, fit_policy
from ffdi.tails.policy_settings import Abstain, PolicySettings, ThresholdRule

Array = npt.NDArray[Any]
SCORES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
FPR = ThresholdRule("fpr", 0.05)
BAND = PolicySettings(abstain=Abstain(0.05))


def test_a_threshold_alone_decides_every_image() -> None:
    policy = Policy(0.5)
    assert policy.verdicts(SCORES).tolist() == ["real", "real", "fake", "fake", "fake"]
    assert Policy.of_record(policy.record) == policy and list(policy.record) == ["threshold"]


def test_scores_within_the_band_are_undecided() -> None:
    """The low end belongs to the band, the high end to the fakes, as the threshold does."""
    policy = Policy(0.5, 0.3, 0.7, {"abstain_low": 0.3, "abstain_high": 0.7})
    assert policy.verdicts(SCORES).tolist() == ["real", "undecided", "undecided", "fake", "fake"]
    assert Policy.of_record(policy.record) == policy


def few(seed: int) -> tuple[Array, Array, Array]:
    """Labels, scores with ties, and weights of at most 40 images."""
    rng = np.random.default_rng(seed)
    labels = np.append([0, 1], rng.integers(0, 2, rng.integers(2, 39)))
    scores = np.round(rng.normal(size=len(labels)) + 1.5 * labels, seed % 3)
    return labels, scores, np.maximum(rng.integers(0, 3, len(labels)), np.arange(len(labels)) < 2).astype(float)


@pytest.mark.parametrize("seed", range(8))
def test_the_place_is_the_best_of_all(seed: int) -> None:
    labels, scores, weights = few(seed)
    points = CutPoints.of(labels, scores)
    reals, fakes = points.weigh(weights[None])
    called = scores[None] >= np.array([points.threshold(p) for p in range(len(points.at) + 1)])[:, None]
    hits = (weights * (called == labels)).sum(axis=1)
    alarms = (weights * called * (labels == 0)).sum(axis=1)
    accuracy = int(chosen_place(reals, fakes, ThresholdRule("accuracy"))[0])
    assert hits[accuracy] == hits.max() and not (hits[accuracy + 1 :] == hits.max()).any()
    of_reals = float((weights * (labels == 0)).sum())
    for at in (0.1, 0.3, 0.6):
        chosen = int(chosen_place(reals, fakes, ThresholdRule("fpr", at))[0])
        assert chosen == next(
            (p for p, a in enumerate(alarms) if (a + 1) / (of_reals + 1) <= at + 1e-9), len(points.at)
        )
    once = points.weigh(np.ones((1, len(labels))))
    youden = int(chosen_place(*once, ThresholdRule())[0])
    assert points.place_of(best_threshold(labels, scores)) == youden


@pytest.mark.parametrize(("seed", "error"), product(range(6), (0.1, 0.2, 0.4)))
def test_the_band_is_the_widest_of_all(seed: int, error: float) -> None:
    """By trying each pair of places around each threshold."""
    labels, scores, weights = few(seed)
    points = CutPoints.of(labels, scores)
    reals, fakes = (of_class[0] for of_class in points.weigh(weights[None]))
    places = range(len(points.at) + 1)
    for around in places:
        due = (-1.0, 0.0)
        for low, high in product(places[: around + 1], places[around:]):
            decided = float((reals + fakes)[:low].sum() + (reals + fakes)[high:].sum())
            wrong = float(fakes[:low].sum() + reals[high:].sum())
            if wrong + 1 <= error * (decided + 1) + 1e-9:
                due = max(due, (decided, -wrong))
        band = widest_band(reals, fakes, around, error)
        assert due == ((-1.0, 0.0) if band is None else (band.decided, -band.wrong))
        assert band is None or band.low <= around <= band.high


def planted(seed: int, groups: int = 120, images: int = 4, apart: float = 2.0) -> tuple[Array, Array, Array]:
    """Labels, scores and groups whose true rates are known: reals are N(0, 1), fakes N(apart, 1), alike within a group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), images)
    labels = group % 2
    scores = np.sqrt(0.3) * rng.normal(size=groups)[group] + np.sqrt(0.7) * rng.normal(size=len(group))
    return labels, scores + apart * labels, group


def true_error(policy: Policy, apart: float = 2.0) -> float:
    """The share of wrong verdicts among the decided of as many reals as fakes."""
    assert policy.low is not None and policy.high is not None
    wrong = norm.sf(policy.high) + norm.cdf(policy.low - apart)
    return float(wrong / (wrong + norm.cdf(policy.low) + norm.sf(policy.high - apart)))


@pytest.mark.parametrize(
    ("rule", "draws"),
    [
        pytest.param(FPR, 15, id="fpr"),
        *(
            pytest.param(rule, 60, id=f"{rule.rule}-long", marks=pytest.mark.long)
            for rule in (ThresholdRule(), ThresholdRule("accuracy"), FPR)
        ),
    ],
)
def test_the_true_rates_lie_in_their_intervals_about_as_often_as_stated(rule: ThresholdRule, draws: int) -> None:
    """Intervals of 95 % should hold the truth in 85 % of the draws or more; and the expected rates are right on average."""
    fpr, error, within = [], [], {"fpr": 0, "error": 0}
    for seed in range(1000, 1000 + draws):
        policy = fit_policy(*planted(seed), PolicySettings(rule, Abstain(0.05)), Bootstrap(100))
        for key, true, found in (
            ("fpr", float(norm.sf(policy.threshold)), fpr),
            ("error", true_error(policy), error),
        ):
            facts = policy.facts
            within[key] += facts[f"expected_{key}_low"] <= true <= facts[f"expected_{key}_high"]
            found.append((true, facts[f"expected_{key}"]))
    assert min(within.values()) >= 0.85 * draws, within
    for found in (fpr, error):
        gaps = np.subtract(*np.transpose(found))
        assert abs(gaps.mean()) < 3 * gaps.std() / np.sqrt(draws)
    if rule.rule == "fpr":
        realised = np.array(fpr)[:, 0]
        assert abs(realised.mean() - rule.at) < 3 * realised.std() / np.sqrt(draws)


def test_a_rate_that_was_chosen_looks_better_than_it_is() -> None:
    """Of scores that say nothing, accuracy's threshold finds a lucky place; corrected, the expected error is no luck."""
    labels, scores, groups = planted(0, apart=0.0)
    policy = fit_policy(
        labels, scores, groups, PolicySettings(ThresholdRule("accuracy"), Abstain(0.49)), Bootstrap(200)
    )
    apparent = float((scores[labels == 0] >= policy.threshold).mean())
    assert policy.facts["expected_fpr"] > apparent
    assert policy.facts["expected_error"] > 0.47


def test_reals_that_cannot_resolve_the_rate_are_refused() -> None:
    """19 reals, or 19 groups of them, resolve .05: the next real is above all of them once in 20."""
    labels, scores = np.repeat([0, 1], [38, 20]), np.arange(58.0)
    settings = PolicySettings(FPR)
    pairs = np.arange(58) // 2
    assert fit_policy(labels, scores, pairs, settings, Bootstrap(100)).facts["threshold_at"] == 0.05
    with pytest.raises(
        PolicyError, match=r"threshold.at: 38 real images of 18 groups .* of 0.05: .* 19 .*raise it to 0.0527"
    ):
        fit_policy(labels, scores, np.minimum(pairs, 17), settings, Bootstrap(100))
    with pytest.raises(PolicyError, match=r"18 real images of 18 groups"):
        fit_policy(labels[20:], scores[20:], np.arange(38), settings, Bootstrap(100))


def test_a_band_that_does_not_exist_is_refused() -> None:
    labels, scores = np.arange(40) % 2, np.arange(40.0)
    with pytest.raises(PolicyError, match=r"abstain.error: no two thresholds around .* at most 0.05 of the decided"):
        fit_policy(labels, scores, np.arange(40), BAND, Bootstrap(100))


def test_no_band_where_every_verdict_is_right_enough() -> None:
    labels = np.repeat([0, 1], 30)
    policy = fit_policy(labels, labels + np.arange(60) / 100, np.arange(60), BAND, Bootstrap(100))
    assert policy.low == policy.high == policy.threshold
    assert policy.facts["expected_coverage"] == 1.0 and policy.facts["expected_error"] == 0.0
    assert 0 == policy.facts["expected_error_low"] < policy.facts["expected_error_high"] < 0.1


def test_the_default_is_the_threshold_of_the_highest_balanced_accuracy() -> None:
    labels, scores, groups = planted(1)
    assert fit_policy(labels, scores, groups, PolicySettings(), Bootstrap(100)) == Policy(
        best_threshold(labels, scores)
    )


def test_a_single_group_has_no_intervals() -> None:
    """And bundle.json, which takes no NaN, has nulls."""
    labels, scores, _ = planted(1)
    settings = PolicySettings(ThresholdRule("accuracy"), Abstain(0.1))
    facts = fit_policy(labels, scores, np.zeros(len(labels)), settings, Bootstrap(100)).facts
    assert facts["expected_fpr_low"] is None and facts["expected_error_high"] is None and 0 < facts["expected_fpr"] < 1
    json.dumps(facts, allow_nan=False)
