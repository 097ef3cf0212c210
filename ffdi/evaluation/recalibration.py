"""Temperature and threshold of a model for another domain, from a few labelled images of it; its weights stay.

Everywhere here `labels` is (N,) of 0/1, `groups` (N,) of group names, and `at` gives (N,) P(fake) at a temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ffdi.bootstrap import Array, Bootstrap, Statistic, interval_around, mean_of, resample
from ffdi.errors import InputError, placed
from ffdi.metrics import Metrics, expected_calibration_error
from ffdi.tails.bundle import Bundle, sigmoid
from ffdi.tails.checkpoint import Scores
from ffdi.tails.model import Model, ModelScores
from ffdi.tails.policy import Policy, fit_policy
from ffdi.tails.policy_settings import PolicySettings
from ffdi.tails.stacking import logit

FEWEST_IMAGES, FEWEST_GROUPS = 20, 5  # the groups of each class
MOST_FOLDS = 5
LOWEST, HIGHEST = 0.05, 20.0  # temperatures, as of fit_temperature
_NEAR_0 = 1e-12  # P(fake) of a score that rounds to 0
At = Callable[[float], Scores]


@dataclass(frozen=True)
class Recalibration:
    """What a few labelled images say: the temperature and the policy, fitted on all of them.

    `figures` compares the model before and after: log loss, ECE, accuracy and false-positive rate, by cross-validation, so
    that no image is judged with what was fitted on it or its group. `KEY_gain` is by how much better it became, with its
    95 % interval over groups.
    """

    temperature: float
    policy: Policy
    figures: Metrics

    @property
    def enough_for_temperature(self) -> bool:
        """Whether the images show a gain of log loss: its interval is above 0."""
        return self._shown("log_loss")

    @property
    def enough_for_threshold(self) -> bool:
        """Whether they show a gain of accuracy."""
        return self._shown("accuracy")

    def _shown(self, key: str) -> bool:
        low = self.figures[f"{key}_gain_low"]
        return isinstance(low, float) and low > 0

    def lines(self) -> list[str]:
        """Before and after of each figure, and whether the images were enough."""
        f, lines = self.figures, []
        for key, name in (("log_loss", "log loss"), ("ece", "ECE"), ("accuracy", "accuracy")):
            ends = f"[{f[f'{key}_gain_low']:+.3f}, {f[f'{key}_gain_high']:+.3f}]"
            lines.append(
                f"{name} {f[f'{key}_before']:.3f} -> {f[f'{key}_after']:.3f}, better by {f[f'{key}_gain']:+.3f} {ends}"
            )
        lines.append(f"false-positive rate {f['fpr_before']:.3f} -> {f['fpr_after']:.3f}")
        for what, enough in (("temperature", self.enough_for_temperature), ("threshold", self.enough_for_threshold)):
            verdict = "were enough: the gain's interval is above 0" if enough else "were not enough to show a gain"
            lines.append(f"for the {what}, {f['images']} images {verdict}")
        return lines


def scores_at(model: Model, scores: ModelScores) -> At:
    """The scores that a model gave, at any other temperature: of each tail whose mean is a recipe's score, of an ensemble's
    joint logit."""
    if isinstance(model, Bundle) and not model.is_refit:
        logits = model.temperature * np.stack([logit(of_fold) for of_fold in scores.by_fold.values()])
        return lambda temperature: np.asarray(sigmoid(logits / temperature).mean(axis=0))
    joint = model.temperature * logit(scores.mean)
    return lambda temperature: sigmoid(joint / temperature)


def recalibrate(
    at: At, labels: Array, groups: Array, settings: PolicySettings, old: tuple[float, Policy], bootstrap: Bootstrap
) -> Recalibration:
    """Temperature and policy of the images, and what they are worth; `old` are the model's.

    Raises InputError when the images are too few, PolicyError as fit_policy does.
    """
    refuse_too_few(labels, groups)
    temperature = best_temperature(at, labels, np.ones(len(labels), dtype=bool))
    policy = fit_policy(labels, at(temperature), groups, settings, bootstrap)
    before = (at(old[0]), np.full(len(labels), old[1].threshold))
    after = cross_validated(at, labels, groups, settings, bootstrap)
    return Recalibration(temperature, policy, compared(labels, groups, before, after, bootstrap))


def refuse_too_few(labels: Array, groups: Array) -> None:
    """InputError below 20 images, or below 5 groups of either class."""
    if len(labels) < FEWEST_IMAGES:
        raise InputError(f"{len(labels)} labelled images are too few: it takes {FEWEST_IMAGES} or more: label more")
    for label, name in ((0, "real"), (1, "fake")):
        if (count := len(np.unique(groups[labels == label]))) < FEWEST_GROUPS:
            raise InputError(
                f"{count} groups with {name} images are too few: it takes {FEWEST_GROUPS} or more of each class: "
                "label images of more people, or give no groups"
            )


def best_temperature(at: At, labels: Array, chosen: Array) -> float:
    """The temperature of the lowest log loss of the `chosen` (N,) images.

    No bias is fitted beside it: it would take the share of fakes among a few images, which someone chose, for that of the
    domain. What moves all scores one way is the threshold's to mend.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return float(log_losses(labels, at(float(np.exp(log_t))))[chosen].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded").x))


def cross_validated(
    at: At, labels: Array, groups: Array, settings: PolicySettings, bootstrap: Bootstrap
) -> tuple[Scores, Array]:
    """(N,) scores and thresholds of each image, by temperature and threshold of the images of other folds of groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    most = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    dealer = StratifiedGroupKFold(min(MOST_FOLDS, most), shuffle=True, random_state=bootstrap.seed)
    scores, thresholds = np.empty(len(labels)), np.empty(len(labels))
    threshold_alone = replace(settings, abstain=None)
    for train, held in dealer.split(labels, labels, groups):
        chosen = np.isin(np.arange(len(labels)), train)
        at_best = at(best_temperature(at, labels, chosen))
        scores[held] = at_best[held]
        few = replace(bootstrap, resamples=1)  # what is expected of these thresholds is not asked
        with placed(f"in cross-validation, with {len(train)} of the {len(labels)} images"):
            thresholds[held] = fit_policy(labels[train], at_best[train], groups[train], threshold_alone, few).threshold
    return scores, thresholds


def compared(
    labels: Array, groups: Array, before: tuple[Scores, Array], after: tuple[Scores, Array], bootstrap: Bootstrap
) -> Metrics:
    """The figures of (scores, thresholds) before and after, each (N,); a gain above 0 is for the better."""
    losses = [log_losses(labels, scores) for scores, _ in (before, after)]
    called = [scores >= thresholds for scores, thresholds in (before, after)]
    hits = [(one == labels).astype(float) for one in called]
    errors = [_calibration_error_of(labels, scores) for scores, _ in (before, after)]
    gains: dict[str, Statistic] = {
        "log_loss": mean_of(losses[0] - losses[1]),
        "ece": lambda weights: errors[0](weights) - errors[1](weights),
        "accuracy": mean_of(hits[1] - hits[0]),
    }
    drawn = resample(groups, gains, bootstrap=bootstrap)
    ece = [expected_calibration_error(labels, scores) for scores, _ in (before, after)]
    values = {"log_loss": [one.mean() for one in losses], "ece": ece, "accuracy": [one.mean() for one in hits]}
    out: Metrics = {"images": len(labels), "fakes": int(labels.sum()), "groups": len(np.unique(groups))}
    for key, (old, new) in values.items():
        gain = float(new - old if key == "accuracy" else old - new)
        low, high = interval_around(gain, drawn[key], within=(-np.inf, np.inf))
        out |= {f"{key}_before": float(old), f"{key}_after": float(new)}
        out |= {f"{key}_gain": gain, f"{key}_gain_low": low, f"{key}_gain_high": high}
    return out | {f"fpr_{when}": float(one[labels == 0].mean()) for when, one in zip(("before", "after"), called)}


def log_losses(labels: Array, scores: Scores) -> Array:
    """(N,) minus the logarithm of the probability that each image's own class got."""
    return np.asarray(-np.log(np.clip(np.where(labels == 1, scores, 1 - scores), _NEAR_0, 1.0)))


def _calibration_error_of(labels: Array, scores: Scores, bins: int = 10) -> Statistic:
    """expected_calibration_error, of weighted images."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    surplus = (scores - labels)[:, None] * (place[:, None] == np.arange(bins))
    return lambda weights: np.asarray(np.abs(weights @ surplus).sum(axis=1) / weights.sum(axis=1))
