"""Every place where a threshold may stand among scores, and which of them a rule chooses.

Between M distinct scores, ascending, there are M + 1 places: at place p, the scores from number p on are called fake. The
images may be weighted, many times at once: `reals` and `fakes` are (B, M), the weight of each class at each score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from ffdi.bootstrap import Array
from ffdi.tails.policy_settings import ThresholdRule

_ROUNDING = 1e-9


class Band(NamedTuple):
    """The places of the two ends of an abstain band, and how much weight is decided, and how much of it wrongly."""

    low: int
    high: int
    decided: float
    wrong: float

    @property
    def error(self) -> float:
        """The share of wrong verdicts; NaN when nothing is decided."""
        return self.wrong / self.decided if self.decided else float("nan")


@dataclass(frozen=True)
class CutPoints:
    """The distinct scores `at` (M,) of (N,) images: `place` (N,) is the number of each image's score, `labels` (N,) 0/1."""

    at: Array
    place: Array
    labels: Array

    @classmethod
    def of(cls, labels: Array, scores: Array) -> CutPoints:
        """Of (N,) labels and scores."""
        at, place = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
        return cls(at, place, np.asarray(labels))

    def threshold(self, place: int) -> float:
        """The score midway between the neighbours of a place; above the highest score, the next number."""
        if place == len(self.at):
            return float(np.nextafter(self.at[-1], np.inf))
        below, above = self.at[max(place - 1, 0)], self.at[place]
        middle = (below + above) / 2
        return float(middle if middle > below else above)  # adjacent floats have no number between them

    def place_of(self, threshold: float) -> int:
        """The place of a threshold."""
        return int(np.searchsorted(self.at, threshold))

    def weigh(self, weights: Array) -> tuple[Array, Array]:
        """(B, M) weight of the reals and of the fakes at each score, of (B, N) weights of the images."""
        count, size = len(weights), len(self.at)
        cell = (self.place + size * np.arange(count)[:, None]).ravel()
        sums = [
            np.bincount(cell, (weights * (self.labels == label)).ravel(), minlength=count * size) for label in (0, 1)
        ]
        reals, fakes = (total.reshape(count, size) for total in sums)
        return reals, fakes


def from_place_on(weights: Array) -> Array:
    """(B, M + 1) the weight that is called fake at each place, of (B, M)."""
    return np.pad(np.cumsum(weights[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1)))


def chosen_place(reals: Array, fakes: Array, rule: ThresholdRule) -> npt.NDArray[np.int64]:
    """(B,) the place that the rule chooses; of several as good, the highest.

    Rule fpr counts the real at the threshold as called fake: of n + 1 exchangeable reals, the last is above the k-th of the
    others with probability k / (n + 1). So the expected rate is at most `at`, whatever the distribution of scores.
    """
    alarms, found = from_place_on(reals), from_place_on(fakes)
    match rule.rule:
        case "youden":
            with np.errstate(invalid="ignore", divide="ignore"):
                return _last_best(found / found[:, :1] - alarms / alarms[:, :1])
        case "accuracy":
            return _last_best(found - alarms)
        case "fpr":
            allowed = np.floor(rule.at * (alarms[:, :1] + 1) + _ROUNDING) - 1
            return np.asarray((alarms > allowed).sum(axis=1).clip(max=reals.shape[1]))
    assert_never(rule.rule)


def _last_best(values: Array) -> npt.NDArray[np.int64]:
    return np.asarray(values.shape[1] - 1 - np.argmax(np.nan_to_num(values, nan=-np.inf)[:, ::-1], axis=1))


def widest_band(reals: Array, fakes: Array, around: int, error: float) -> Band | None:
    """The band around place `around` that leaves the most weight decided, of (M,) weights of the classes at each score.

    One more image is counted as decided, and wrongly: (wrong + 1) / (decided + 1) <= error, as rule fpr does. None when
    no band does this.
    """
    whole = reals + fakes
    below, missed = _up_to(whole)[: around + 1], _up_to(fakes)[: around + 1]
    above, alarms = (from_place_on(w[None])[0][around:] for w in (whole, reals))
    # Spare errors of each end. An end nearer to `around` decides more: it loses to a farther one only by its errors.
    spare_low, spare_high = error * below - missed, error * above - alarms
    due = 1 - error - _ROUNDING
    best: Band | None = None
    most_high = np.maximum.accumulate(spare_high)  # the nearest high end with so much to spare is where it rises
    for low in np.flatnonzero(spare_low >= np.append(np.maximum.accumulate(spare_low[::-1])[::-1][1:], -np.inf)):
        high = int(np.searchsorted(most_high, due - spare_low[low]))
        if high == len(most_high):
            continue
        decided = float(below[low] + above[high])
        band = Band(int(low), around + high, decided, float(missed[low] + alarms[high]))
        if best is None or (decided, -band.wrong) > (best.decided, -best.wrong):
            best = band
    return best


def band_of(reals: Array, fakes: Array, band: Band) -> Band:
    """The same band on other (M,) weights."""
    decided = reals[: band.low].sum() + fakes[: band.low].sum() + reals[band.high :].sum() + fakes[band.high :].sum()
    return Band(band.low, band.high, float(decided), float(fakes[: band.low].sum() + reals[band.high :].sum()))


def _up_to(weights: Array) -> npt.NDArray[Any]:
    """(M + 1,) the weight that is called real at each place."""
    return np.append(0.0, np.cumsum(weights))
