"""A score becomes a verdict: the threshold, and the band of scores that are left undecided.

policy = fit_policy(labels, scores, groups, PolicySettings(ThresholdRule("fpr", 0.01)), Bootstrap(2000))
policy.verdicts(scores)                 # (N,) "real", "fake" or "undecided"
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.bootstrap import Array, Bootstrap, Statistic, rate_interval, resample
from ffdi.errors import PolicyError
from ffdi.metrics import best_threshold
from ffdi.tails.cut_points import Band, CutPoints, band_of, chosen_place, from_place_on, widest_band
from ffdi.tails.policy_settings import PolicySettings, ThresholdRule

FEW_DRAWS = 200  # for a mean over draws, each of which searches for a band


@dataclass(frozen=True)
class Policy:
    """An image is called fake when its score is at least `threshold`. With an abstain band it is called fake from `high`
    on, real below `low`, and is undecided between them.

    `facts` says how the policy was set, and what is expected of it: the entry `policy` of bundle.json, empty for the
    default rule without a band.
    """

    threshold: float
    low: float | None = None
    high: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def abstains(self) -> bool:
        """Whether there is a band of undecided scores."""
        return self.low is not None

    def verdicts(self, scores: Array) -> npt.NDArray[np.str_]:
        """(N,) `real`, `fake` or `undecided`."""
        low = self.threshold if self.low is None else self.low
        high = self.threshold if self.high is None else self.high
        return np.where(scores >= high, "fake", np.where(scores < low, "real", "undecided"))

    @property
    def record(self) -> dict[str, Any]:
        """The entries of bundle.json: `threshold`, and `policy` where it is not the default."""
        return {"threshold": self.threshold, **({"policy": dict(self.facts)} if self.facts else {})}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Policy:
        """The policy of a bundle.json."""
        facts = record.get("policy", {})
        return cls(record["threshold"], facts.get("abstain_low"), facts.get("abstain_high"), facts)


def fit_policy(labels: Array, scores: Array, groups: Array, settings: PolicySettings, bootstrap: Bootstrap) -> Policy:
    """The policy of (N,) out-of-fold scores; `groups` (N,) are those of the images.

    Raises FfdiError when a class is missing, PolicyError when the reals cannot resolve the rate of rule fpr, or when no abstain band
    has so few errors.
    """
    rule, labels, scores, groups = settings.threshold, np.asarray(labels), np.asarray(scores), np.asarray(groups)
    youden = best_threshold(labels, scores)
    if settings == PolicySettings():
        return Policy(youden)
    refuse_unresolved(labels, groups, settings)
    points = CutPoints.of(labels, scores)
    once = points.weigh(np.ones((1, len(labels))))
    place = points.place_of(youden) if rule.rule == "youden" else int(chosen_place(*once, rule)[0])
    threshold = youden if rule.rule == "youden" else points.threshold(place)
    facts: dict[str, Any] = {"rule": rule.rule, **({"threshold_at": rule.at} if rule.rule == "fpr" else {})}
    facts |= _expected_fpr(points, place, groups, rule, bootstrap)
    if settings.abstain is None:
        return Policy(threshold, facts=_without_nan(facts))
    band = widest_band(once[0][0], once[1][0], place, settings.abstain.error)
    if band is None:
        raise PolicyError(
            f"abstain.error: no two thresholds around {threshold:.3f} leave at most {settings.abstain.error:g} of the "
            f"decided out-of-fold scores wrong ({int((scores >= threshold).sum())} of {len(labels)} are above it): raise it"
        )
    low, high = (threshold if at == place else points.threshold(at) for at in (band.low, band.high))
    facts |= {"abstain_error": settings.abstain.error, "abstain_low": low, "abstain_high": high}
    facts |= _expected_of_band(points, band, groups, settings, bootstrap)
    return Policy(threshold, low, high, _without_nan(facts))


@contextmanager
def named_policy(place: str) -> Iterator[None]:
    """PolicyErrors, which begin with `threshold.at` or `abstain.error`, say of which entry of params.yaml."""
    try:
        yield
    except PolicyError as error:
        raise PolicyError(f"{place}.{error}") from None


def refuse_unresolved(labels: Array, groups: Array, settings: PolicySettings) -> None:
    """PolicyError when reals, or their groups, are too few for the rate of rule fpr: 1 / at of either, less one."""
    if settings.threshold.rule != "fpr":
        return
    at, real = settings.threshold.at, np.asarray(labels) == 0
    reals, of_groups = int(real.sum()), len(np.unique(np.asarray(groups)[real]))
    fewest = min(reals, of_groups)
    if at * (fewest + 1) < 1 - 1e-9:
        raise PolicyError(
            f"threshold.at: {reals} real images of {of_groups} groups out of fold cannot resolve a false-positive rate of "
            f"{at:g}: it takes {math.ceil(1 / at - 1e-9) - 1} of either; raise it to {math.ceil(1e4 / (fewest + 1)) / 1e4:g}"
        )


def _expected_fpr(
    points: CutPoints, place: int, groups: Array, rule: ThresholdRule, bootstrap: Bootstrap
) -> dict[str, float]:
    """The false-positive rate that the threshold will really have, with its interval.

    It was chosen on the same scores, where it looks better than it is. With rule fpr the expected rate is that of the real
    next below the threshold. With the others it is corrected by how much better it looks in resamples of the groups, each
    with the threshold that it chooses itself (Efron 1983).
    """
    real = points.labels == 0
    at, of_groups = points.place[real], groups[real]
    if rule.rule == "fpr":
        called = at >= at[at < place].max(initial=0)
        rate = (float((at >= place).sum()) + 0.5) / len(at)
    else:
        called = at >= place
        every_alarm = from_place_on(points.weigh(np.ones((1, len(groups))))[0])[0]

        def optimism(weights: Array) -> Array:
            reals, fakes = points.weigh(weights)
            chosen, alarms = chosen_place(reals, fakes, rule), from_place_on(reals)
            with np.errstate(invalid="ignore"):
                own = alarms[np.arange(len(alarms)), chosen] / alarms[:, 0]
            return np.asarray(every_alarm[chosen] / every_alarm[0] - own)

        rate = float(called.mean()) + _mean_of_draws(groups, optimism, bootstrap)
    rate = min(max(rate, 0.0), 1.0)
    low, high = rate_interval(called, of_groups, bootstrap=bootstrap, rate=rate)
    mean = (rate * len(at) + 0.5) / (len(at) + 1) if rule.rule == "fpr" else rate
    return {"expected_fpr": mean, "expected_fpr_low": low, "expected_fpr_high": high}


def _expected_of_band(
    points: CutPoints, band: Band, groups: Array, settings: PolicySettings, bootstrap: Bootstrap
) -> dict[str, float]:
    """Coverage and error that the band will really have: the error corrected as in _expected_fpr."""
    assert settings.abstain is not None
    error, rule = settings.abstain.error, settings.threshold
    decided = (points.place < band.low) | (points.place >= band.high)
    wrong = ((points.place >= band.high) != (points.labels == 1))[decided]
    whole_reals, whole_fakes = (w[0] for w in points.weigh(np.ones((1, len(groups)))))

    def optimism(weights: Array) -> Array:
        reals, fakes = points.weigh(weights)
        gaps = []
        for real, fake, place in zip(reals, fakes, chosen_place(reals, fakes, rule)):
            own = widest_band(real, fake, int(place), error)
            gaps.append(np.nan if own is None else band_of(whole_reals, whole_fakes, own).error - own.error)
        return np.array(gaps)

    gap = _mean_of_draws(groups, optimism, Bootstrap(min(bootstrap.resamples, FEW_DRAWS), bootstrap.seed))
    rate = min(max(float(wrong.mean()) + gap, 0.0), 1.0)
    low, high = rate_interval(wrong, groups[decided], bootstrap=bootstrap, rate=rate)
    return {
        "expected_coverage": float(decided.mean()),
        "expected_error": rate,
        "expected_error_low": low,
        "expected_error_high": high,
    }


def _without_nan(facts: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: an end of an interval over a single group is None."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in facts.items()}


def _mean_of_draws(groups: Array, statistic: Statistic, bootstrap: Bootstrap) -> float:
    """The mean over resamples of the groups; 0 when it is defined in none."""
    drawn = resample(groups, {"": statistic}, bootstrap=bootstrap)[""]
    return float(drawn[np.isfinite(drawn)].mean()) if np.isfinite(drawn).any() else 0.0
