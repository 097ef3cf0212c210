"""Intervals by resampling whole groups: the images of one group are not independent.

Everywhere here `labels` is (N,) of 0/1, `scores` is (N,) float, `groups` is (N,) of group names. A statistic maps row
weights (B, N), how often each row was drawn, to (B,) values: NaN when it is undefined because one class was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # (N,) of labels, scores or group names, as each function says
Statistic = Callable[[Array], Array]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: how many resamples, from which seed."""

    resamples: int
    seed: int = 0


_BLOCK = 200_000  # weights that are drawn together: as many as a core's cache holds


def auc_of(labels: Array, scores: Array) -> Statistic:
    """The AUC, P(a fake scores above a real) with ties counted half (the Mann-Whitney statistic)."""
    fakes, reals = (np.flatnonzero(np.asarray(labels) == label) for label in (1, 0))
    scores = np.asarray(scores)
    reals = reals[np.argsort(scores[reals], kind="stable")]
    below, up_to = (np.searchsorted(scores[reals], scores[fakes], side=side) for side in ("left", "right"))

    def statistic(weights: Array) -> Array:
        fake, real = weights[:, fakes], weights[:, reals]
        passed = np.zeros((len(weights), len(reals) + 1))
        np.cumsum(real, axis=1, out=passed[:, 1:])
        wins = (fake * (passed[:, below] + passed[:, up_to])).sum(axis=1) / 2
        with np.errstate(invalid="ignore"):
            return np.asarray(wins / (fake.sum(axis=1) * passed[:, -1]))

    return statistic


def of_rows(statistic: Statistic, rows: Array) -> Statistic:
    """The statistic of some of the rows: `rows` are the numbers of those that its labels and scores are of."""
    return lambda weights: statistic(weights[:, rows])


def mean_auc_of(labels: Array, scores: Array) -> Statistic:
    """The mean of the AUCs of (L, N) scores; the AUC itself of (N,)."""
    statistics = [auc_of(labels, one) for one in np.atleast_2d(scores)]
    return lambda weights: np.asarray(np.mean([statistic(weights) for statistic in statistics], axis=0))


def mean_of(values: Array) -> Statistic:
    """The weighted mean of (N,) values, such as the hits of an accuracy."""
    values = np.asarray(values, dtype=np.float64)

    def statistic(weights: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray((weights @ values) / weights.sum(axis=1))

    return statistic


def resample(
    groups: Array, statistics: Mapping[str, Statistic], *, bootstrap: Bootstrap
) -> dict[str, npt.NDArray[np.float64]]:
    """(resamples,) values of each statistic. All statistics get the same draws, so that they can be compared in pairs.

    All values are NaN when there is a single group, because every draw is then the same.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return {name: np.full(bootstrap.resamples, np.nan) for name in statistics}
    rng = np.random.default_rng(bootstrap.seed)
    size = max(1, _BLOCK // max(len(group), 1))
    drawn: dict[str, list[Array]] = {name: [] for name in statistics}
    for start in range(0, bootstrap.resamples, size):
        count = min(size, bootstrap.resamples - start)
        chosen = rng.integers(len(names), size=(count, len(names))) + len(names) * np.arange(count)[:, None]
        times = np.bincount(chosen.ravel(), minlength=count * len(names)).reshape(count, len(names))
        weights = times[:, group].astype(np.float64)
        for name, statistic in statistics.items():
            drawn[name].append(statistic(weights))
    return {name: np.concatenate(values) for name, values in drawn.items()}


def interval_around(
    estimate: float, drawn: Array, *, level: float = 0.95, within: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """The middle `level` of the resampled values, undefined ones left out, shifted so that their mean is the estimate.

    The shift corrects a bias: a group that is drawn twice is paired with its own copy, so pairs within groups get too
    much weight in an AUC. (nan, nan) when no value is defined.
    """
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return float("nan"), float("nan")
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) + estimate - drawn.mean()
    low, high = np.clip(ends, *within)
    return float(low), float(high)


def auc_interval(labels: Array, scores: Array, groups: Array, *, bootstrap: Bootstrap) -> tuple[float, float]:
    """95 % interval of the AUC; of the mean AUC when `scores` is (S, N), of S models."""
    statistics = {str(n): auc_of(labels, of_model) for n, of_model in enumerate(np.atleast_2d(scores))}
    drawn = resample(groups, statistics, bootstrap=bootstrap)
    every_row_once = np.ones((1, len(labels)))
    estimate = float(np.mean([statistic(every_row_once) for statistic in statistics.values()]))
    return interval_around(estimate, np.mean(list(drawn.values()), axis=0))


def accuracy_interval(labels: Array, predicted: Array, groups: Array, *, bootstrap: Bootstrap) -> tuple[float, float]:
    """95 % interval of the accuracy of `predicted` (N,) of 0/1."""
    hits = np.asarray(labels) == predicted
    drawn = resample(groups, {"accuracy": mean_of(hits)}, bootstrap=bootstrap)
    return interval_around(float(np.mean(hits)), drawn["accuracy"])


def rate_interval(
    events: Array, groups: Array, *, bootstrap: Bootstrap, rate: float | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the rate of (N,) 0/1 events, which may be as rare as never; (nan, nan) when there are fewer than two groups.

    It is Jeffreys' interval of a binomial rate (Brown, Cai, DasGupta 2001) of as many independent images as have the
    variance that resampling of groups gives (Korn and Graubard 1998); an event that never or always happens tells nothing
    of that variance, and each group counts as one image. `rate` is another estimate of the rate than the mean.
    """
    from scipy.stats import beta, t

    events, count = np.asarray(events, dtype=np.float64), len(np.unique(groups))
    if count < 2:
        return float("nan"), float("nan")
    seen = float(events.mean())
    rate = seen if rate is None else rate
    trials, variance = float(count), np.nanvar(resample(groups, {"": mean_of(events)}, bootstrap=bootstrap)[""])
    if 0 < seen < 1 and variance > 0:
        few = t.ppf((1 + level) / 2, len(events) - 1) / t.ppf((1 + level) / 2, count - 1)
        trials = float(np.clip(seen * (1 - seen) / variance * few**2, 1, len(events)))
    low, high = beta.ppf([(1 - level) / 2, (1 + level) / 2], rate * trials + 0.5, (1 - rate) * trials + 0.5)
    return (0.0 if rate == 0 else float(low)), (1.0 if rate == 1 else float(high))


def seeds_interval(values: Array, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of (S,) values, one per seed, by Student's t with S - 1 degrees of freedom."""
    from scipy.stats import t

    reach = float(t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach
