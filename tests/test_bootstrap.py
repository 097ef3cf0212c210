"""Intervals by resampling whole groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ffdi import bootstrap
from ffdi.bootstrap import (
    Bootstrap,
    accuracy_interval,
    auc_interval,
    auc_of,
    interval_around,
    mean_of,
    rate_interval,
    resample,
    seeds_interval,
)
from ffdi.metrics import auc

Array = np.ndarray[Any, Any]


def noisy(images: int) -> tuple[Array, Array]:
    """Labels and scores of an AUC of about .75."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, images)
    return labels, 1 / (1 + np.exp(-(labels + rng.normal(0, 1, images))))


def test_intervals_hold_the_estimate_and_widen_with_fewer_groups() -> None:
    labels, scores = noisy(40)
    called, each = (scores >= 0.5).astype(int), np.arange(40)

    def widths(rows: Array, groups: Array) -> Array:
        drawn = {"bootstrap": Bootstrap(400)}
        found = (
            auc_interval(labels[rows], scores[rows], groups, **drawn),
            accuracy_interval(labels[rows], called[rows], groups, **drawn),
        )
        for (low, high), estimate in zip(found, (auc(labels, scores), (labels == called).mean()), strict=True):
            assert 0 <= low < estimate < high <= 1
        return np.array([high - low for low, high in found])

    # Ten copies of every image tell nothing new. By group the interval is the same, to the last bit; counted as 400
    # images it would shrink by about sqrt(10) = 3.2.
    copies = np.tile(each, 10)
    assert (widths(copies, copies) == widths(each, each)).all()
    assert (widths(copies, np.arange(400)) < widths(each, each) / 2.5).all()


def test_intervals_repeat_by_seed_alone() -> None:
    (labels, scores), groups = noisy(60), np.arange(60) % 15
    first, again, other = (auc_interval(labels, scores, groups, bootstrap=Bootstrap(100, s)) for s in (0, 0, 1))
    assert first == again != other


def test_the_interval_over_seeds_by_hand() -> None:
    """Mean .5, standard deviation .1, t(.975, 2) = 4.3027: .5 +- 4.3027 x .1 / sqrt(3)."""
    assert seeds_interval(np.array([0.4, 0.5, 0.6])) == pytest.approx((0.25159, 0.74841), abs=1e-4)


def test_the_interval_of_several_models_is_that_of_their_mean() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.arange(60) % 2, np.arange(60).astype(str)
    one, other = rng.normal(size=60) + labels, rng.normal(size=60)
    options: dict[str, Any] = {"bootstrap": Bootstrap(200)}
    assert auc_interval(labels, np.stack([one, one]), groups, **options) == auc_interval(labels, one, groups, **options)
    both = auc_interval(labels, np.stack([one, other]), groups, **options)
    middle = (auc(labels, one) + auc(labels, other)) / 2
    assert both[0] < middle < both[1]


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Labels and scores on a grid of 4, so that ties are common, and how often each row is drawn."""
    size = draw(st.integers(1, 12))
    rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 3)), min_size=size, max_size=size)
    labels, scores, weights = np.array(draw(rows)).T
    return labels, scores / 3, weights


@settings(deadline=None)
@given(weighted())
def test_a_weighted_auc_is_that_of_rows_repeated(data: tuple[Array, Array, Array]) -> None:
    labels, scores, weights = data
    found = auc_of(labels, scores)(np.stack([weights, 2 * weights]).astype(float))
    drawn = np.repeat(labels, weights)
    if len(set(drawn.tolist())) < 2:
        assert np.isnan(found).all()
    else:
        assert found == pytest.approx(roc_auc_score(drawn, np.repeat(scores, weights)))


def test_a_draw_without_a_class_is_nan_and_left_out() -> None:
    """Reals .5 and fakes .5 and .9: one tied and one won, .75; with a weight of 3 on the tied pair, (1.5 + 1) / 4."""
    statistic = auc_of(np.array([0, 1, 1]), np.array([0.5, 0.5, 0.9]))
    values = statistic(np.array([[1.0, 1, 1], [2, 0, 0], [0, 1, 2], [1, 3, 1]]))
    assert values.tolist()[::3] == [0.75, 2.5 / 4] and np.isnan(values[1:3]).all()
    assert interval_around(0.2, np.array([np.nan, 0.2, 0.2, np.nan])) == (0.2, 0.2)
    assert np.isnan(interval_around(0.2, np.array([np.nan, np.nan]))).all()


def test_an_interval_is_moved_to_its_estimate() -> None:
    """Of 0, .01, ..., 1 the middle 90 % reaches from .05 to .95 around .5; around .6 from .15, and no farther than 1."""
    draws = np.arange(101) / 100
    assert interval_around(0.5, draws, level=0.9) == pytest.approx((0.05, 0.95))
    assert interval_around(0.6, draws, level=0.9) == pytest.approx((0.15, 1))
    assert interval_around(0.6, draws, level=0.9, within=(-1, 2)) == pytest.approx((0.15, 1.05))


def test_an_auc_is_within_its_interval_where_pairs_within_groups_differ() -> None:
    """A real and a fake of each photo, nearly alike: a photo drawn twice would count its own pair twice over."""
    rng = np.random.default_rng(0)
    offsets = np.repeat(rng.normal(0, 1, 20), 2)
    labels, groups = np.tile([0, 1], 20), np.repeat(np.arange(20), 2)
    scores = offsets + 0.01 * labels
    drawn = resample(groups, {"auc": auc_of(labels, scores)}, bootstrap=Bootstrap(2000))["auc"]
    estimate = auc(labels, scores)
    assert np.quantile(drawn, 0.025) > estimate  # what the draws alone say
    low, high = auc_interval(labels, scores, groups, bootstrap=Bootstrap(2000))
    assert low < estimate < high


def test_a_weighted_mean_by_hand() -> None:
    assert mean_of(np.array([True, False, True]))(np.array([[1.0, 1, 2], [0, 3, 1]])).tolist() == [0.75, 0.25]


def test_whole_groups_are_drawn_and_as_many_as_there_are() -> None:
    """Groups of 1, 2 and 3 rows: a row's weight is its group's, and the weights of the groups add up to 3."""
    groups, seen = np.array(["c", "a", "b", "b", "c", "c"]), list[Array]()

    def keep(weights: Array) -> Array:
        seen.append(weights)
        return weights[:, 0]

    resample(groups, {"kept": keep}, bootstrap=Bootstrap(300))
    weights = np.concatenate(seen)
    for name in "abc":
        assert (weights[:, groups == name][:, 0] == weights[:, groups == name].T).all()
    assert (weights[:, [1, 2, 0]].sum(axis=1) == 3).all()
    assert weights[:, :3].mean(axis=0) == pytest.approx(1, abs=0.2)  # 1 on average: sigma of the mean is .05


def test_one_group_tells_nothing() -> None:
    """Every draw would be the same: an interval of no width, as though all were known."""
    (labels, scores), group = noisy(20), np.array(["g"] * 20)
    for rows, undefined in ((group, True), (np.arange(20) % 2, False)):
        drawn = resample(rows, {"auc": auc_of(labels, scores)}, bootstrap=Bootstrap(7))["auc"]
        assert drawn.shape == (7,) and np.isnan(drawn).all() == undefined
        assert np.isnan(auc_interval(labels, scores, rows, bootstrap=Bootstrap(100))).all() == undefined


@pytest.mark.parametrize("block", [1, 10, 35, 10**6])
def test_blocks_change_neither_the_number_of_draws_nor_their_values(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 10 weights are less than 1 draw of 7 rows each; of 35 they are 5 draws, which do not divide 23."""
    statistics = {name: mean_of(np.arange(7.0) ** 2) for name in ("one", "other")}
    due = resample(np.arange(7), statistics, bootstrap=Bootstrap(23, 1))
    monkeypatch.setattr(bootstrap, "_BLOCK", block)
    drawn = resample(np.arange(7), statistics, bootstrap=Bootstrap(23, 1))
    assert drawn["one"].shape == (23,) and len(set(drawn["one"])) > 10
    # Both see the same draws: equal statistics are equal draw by draw.
    assert drawn["one"].tolist() == drawn["other"].tolist() == due["one"].tolist()


def test_images_of_a_group_that_are_alike_count_as_one() -> None:
    """40 groups of which 4 are called fake: ten images each, all alike, tell as much as one."""
    events, groups = np.arange(40) % 10 == 0, np.arange(40)
    alone = rate_interval(events, groups, bootstrap=Bootstrap(4000))
    alike = rate_interval(np.repeat(events, 10), np.repeat(groups, 10), bootstrap=Bootstrap(4000))
    independent = rate_interval(np.repeat(events, 10), np.arange(400), bootstrap=Bootstrap(4000))
    assert alike == pytest.approx(alone, abs=0.03)
    assert alike[1] - alike[0] > 2.5 * (independent[1] - independent[0])
    assert independent == pytest.approx((0.074, 0.132), abs=0.005)  # Jeffreys: 40 of 400


def test_a_rate_that_was_never_seen_may_be_above_0() -> None:
    """Nothing is known of how alike the images of a group are: 20 groups tell as much as 20 images."""
    never = np.zeros(200)
    low, high = rate_interval(never, np.arange(200) // 10, bootstrap=Bootstrap(100))
    assert low == 0 and high == pytest.approx(0.117, abs=0.001)  # Jeffreys: 0 of 20
    assert rate_interval(1 - never, np.arange(200) // 10, bootstrap=Bootstrap(100)) == pytest.approx((1 - high, 1.0))
    assert np.isnan(rate_interval(never, never, bootstrap=Bootstrap(100))).all()
