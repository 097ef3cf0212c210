"""Labels and scores -> plain floats. Label 1 = fake is the positive class; a score is P(fake) in [0, 1].

Everywhere here `labels` is (N,) of 0/1, `scores` is (N,) float, `groups` is (N,) of group names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.errors import FfdiError

Array = npt.NDArray[Any]
Metrics = dict[str, float | int | str | bool | None]

FPR_POINTS = {"tpr_at_fpr_1e_1": 1e-1, "tpr_at_fpr_1e_2": 1e-2, "tpr_at_fpr_1e_3": 1e-3}


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve: P(a fake scores above a real), ties counted half. NaN when a class is missing."""
    return float(_weighted_auc(labels, scores, np.ones((1, len(labels))))[0])


def _weighted_auc(labels: Array, scores: Array, weights: Array) -> Array:
    """AUC under each row of `weights` (B, N) -> (B,); the Mann-Whitney statistic with ties counted half."""
    _, rank = np.unique(scores, return_inverse=True)
    steps = int(rank.max()) + 1 if len(rank) else 1
    order = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[order], np.arange(steps))
    by_score = weights[:, order]
    fake = np.add.reduceat(by_score * (labels[order] == 1), starts, axis=1)
    real = np.add.reduceat(by_score * (labels[order] == 0), starts, axis=1)
    below = np.cumsum(real, axis=1) - real
    wins = (fake * (below + 0.5 * real)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wins / (fake.sum(axis=1) * real.sum(axis=1)))


def _weighted_accuracy(labels: Array, hits: Array, weights: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights * hits).sum(axis=1) / weights.sum(axis=1))


def bootstrap_interval(
    groups: Array,
    statistic: Callable[[Array], Array],
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of `statistic` over resampled groups: whole groups are drawn, for their images are not independent.

    `statistic` maps row weights (B, N) to (B,). Resamples in which it is undefined (one class drawn) are left out;
    (nan, nan) when all are.
    """
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    block = max(1, 4_000_000 // max(len(group), 1))
    values = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size)
        values.append(statistic(counts[:, group].astype(np.float64)))
    drawn = np.concatenate(values)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auc_interval(labels: Array, scores: Array, groups: Array, *, resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the AUC over groups; of the mean AUC when `scores` is (S, N), of S models."""

    def mean_auc(weights: Array) -> Array:
        return np.asarray(np.mean([_weighted_auc(labels, one, weights) for one in np.atleast_2d(scores)], axis=0))

    return bootstrap_interval(groups, mean_auc, resamples=resamples, seed=seed)


def seeds_interval(values: Array, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of (S,) values of as many seeds, by Student's t with S - 1 degrees of freedom."""
    from scipy.stats import t

    reach = float(t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach


def accuracy_interval(
    labels: Array, predicted: Array, groups: Array, *, resamples: int, seed: int
) -> tuple[float, float]:
    """95 % bootstrap interval of the accuracy of `predicted` (N,) of 0/1, over groups."""
    hits = (labels == predicted).astype(np.float64)
    return bootstrap_interval(groups, lambda w: _weighted_accuracy(labels, hits, w), resamples=resamples, seed=seed)


def confusion(labels: Array, predicted: Array) -> tuple[int, int, int, int]:
    """(TP, FN, FP, TN) with fake as the positive class."""
    fake, called = labels == 1, predicted == 1
    return (
        int((fake & called).sum()),
        int((fake & ~called).sum()),
        int((~fake & called).sum()),
        int((~fake & ~called).sum()),
    )


def class_metrics(tp: int, fn: int, fp: int, tn: int) -> Metrics:
    """Accuracy, balanced accuracy, and precision, recall and F1 of each class, from a confusion with fake positive.

    A ratio whose denominator is 0 is None.
    """

    def ratio(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    def f1(hit: int, missed: int, wrong: int) -> float | None:
        return ratio(2 * hit, 2 * hit + missed + wrong)

    recall, recall_real = ratio(tp, tp + fn), ratio(tn, tn + fp)
    balanced = (recall + recall_real) / 2 if recall is not None and recall_real is not None else None
    return {
        "accuracy": ratio(tp + tn, tp + fn + fp + tn),
        "balanced_accuracy": balanced,
        "precision": ratio(tp, tp + fp),
        "recall": recall,
        "f1": f1(tp, fn, fp),
        "precision_real": ratio(tn, tn + fn),
        "recall_real": recall_real,
        "f1_real": f1(tn, fp, fn),
    }


def roc_points(labels: Array, scores: Array) -> tuple[Array, Array, Array]:
    """(fpr, tpr, threshold), from (0, 0) to (1, 1), one point per distinct score; the first threshold is just above the top."""
    from sklearn.metrics import roc_curve

    fpr, tpr, threshold = roc_curve(labels, scores, drop_intermediate=False)
    threshold[0] = np.nextafter(threshold[1], np.inf) if len(threshold) > 1 else 1.0
    return fpr, tpr, threshold


def tpr_bound(fpr: Array, tpr: Array, reals: int, rate: float, level: float = 0.95) -> float:
    """Upper bound of the true-positive rate at a false-positive rate that `reals` are too few to resolve.

    Of so many reals at most k stand above the threshold of that rate, with probability `level` (binomial, whatever the
    scores' distribution): it is no lower than where k false alarms put it. There is no lower bound but 0.
    """
    from scipy.stats import binom

    alarms = float(binom.ppf(level, reals, rate))
    return float(tpr[fpr <= alarms / reals + 1e-12].max())


def equal_error_rate(fpr: Array, tpr: Array) -> float:
    """The rate at which false alarms and misses are equal, interpolated on the ROC curve."""
    gap = fpr - (1 - tpr)
    right = int(np.argmax(gap >= 0))
    if right == 0:
        return float(fpr[0])
    left = right - 1
    share = -gap[left] / (gap[right] - gap[left])
    return float(fpr[left] + share * (fpr[right] - fpr[left]))


def expected_calibration_error(labels: Array, scores: Array, bins: int = 10) -> float:
    """Mean gap of confidence and frequency of fakes over equal-width bins of P(fake) (Naeini et al., AAAI 2015)."""
    rows = reliability(labels, scores, bins)
    return sum(count * abs(mean - rate) for mean, rate, count in rows) / len(labels)


def reliability(labels: Array, scores: Array, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean score, share of fakes, count) of every non-empty equal-width bin of [0, 1]."""
    place = np.minimum((np.asarray(scores) * bins).astype(int), bins - 1)
    return [
        (float(scores[place == b].mean()), float(labels[place == b].mean()), int((place == b).sum()))
        for b in range(bins)
        if (place == b).any()
    ]


def best_threshold(labels: Array, scores: Array) -> float:
    """The threshold of highest balanced accuracy, midway between neighbouring scores; call with out-of-fold scores only.

    Of equal ones the lowest false-alarm rate wins. Raises FfdiError when a class is missing.
    """
    if len(np.unique(labels)) < 2:
        raise FfdiError("a threshold needs out-of-fold scores of both classes")
    fpr, tpr, at = roc_points(labels, scores)
    best = int(np.argmax(tpr - fpr))
    above, below = at[best], at[min(best + 1, len(at) - 1)]
    middle = (above + below) / 2
    return float(middle if middle > below else above)  # neighbours one rounding apart have no middle


def fit_temperature(labels: Array, logits: Array) -> float:
    """The temperature T that minimises the log loss of sigmoid(logit / T) (Guo et al., ICML 2017); 0.05 <= T <= 20.

    `logits` (N,) is log P(fake) - log P(real); call with out-of-fold logits only.
    """
    from scipy.optimize import minimize_scalar

    sign = np.where(np.asarray(labels) == 1, 1.0, -1.0)

    def loss(log_t: float) -> float:
        return float(np.logaddexp(0.0, -sign * logits / np.exp(log_t)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def evaluate_scores(
    labels: Array, scores: Array, groups: Array, *, threshold: float, resamples: int, seed: int
) -> Metrics:
    """Every figure of metrics/NAME.json that labels and scores decide; a figure that is undefined is None with a reason."""
    from sklearn.metrics import average_precision_score

    labels, scores, groups = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(groups)
    if not np.isfinite(scores).all():
        raise FfdiError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    predicted = (scores >= threshold).astype(int)
    reals, fakes = int((labels == 0).sum()), int((labels == 1).sum())
    both = reals > 0 and fakes > 0
    out: Metrics = {"auc": None, "auc_low": None, "auc_high": None, "ap": None, "eer": None}
    if both:
        fpr, tpr, _ = roc_points(labels, scores)
        low, high = auc_interval(labels, scores, groups, resamples=resamples, seed=seed)
        out |= {"auc": auc(labels, scores), "auc_low": low, "auc_high": high}
        out |= {"ap": float(average_precision_score(labels, scores)), "eer": equal_error_rate(fpr, tpr)}
    out |= class_metrics(*confusion(labels, predicted))
    low, high = accuracy_interval(labels, predicted, groups, resamples=resamples, seed=seed)
    out |= {"accuracy_low": low, "accuracy_high": high}
    out["brier"] = float(np.mean((scores - labels) ** 2))
    out["ece"] = expected_calibration_error(labels, scores)
    for key, rate in FPR_POINTS.items():
        out[key] = None
        if both and reals * rate >= 1:
            out[key] = float(tpr[fpr <= rate + 1e-12].max())
        elif both:
            out[key + "_reason"] = f"{reals} reals cannot resolve a false-positive rate of {rate:g}"
            out[key + "_at_most"] = tpr_bound(fpr, tpr, reals, rate)
    out |= {"threshold": threshold, "n_test": len(labels), "n_groups": len(np.unique(groups))}
    return explain_nulls(out, f"{reals} reals and {fakes} fakes")


def explain_nulls(metrics: Metrics, reason: str) -> Metrics:
    """Turn NaN into None and give every None without a `<key>_reason` this one."""
    out: Metrics = {}
    for key, value in metrics.items():
        missing = value is None or (isinstance(value, float) and not np.isfinite(value))
        out[key] = None if missing else value
        if missing and f"{key}_reason" not in metrics and not key.endswith("_reason"):
            out[f"{key}_reason"] = f"undefined: {reason}"
    return out
