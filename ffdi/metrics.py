"""Labels and scores -> plain floats. Label 1 = fake is the positive class; a score is P(fake) in [0, 1].

Everywhere here `labels` is (N,) of 0/1, `scores` is (N,) float, `groups` is (N,) of group names.
"""

from __future__ import annotations

import numpy as np

from ffdi.bootstrap import Array, Bootstrap, auc_of, interval_around, mean_of, resample
from ffdi.errors import FfdiError

Metrics = dict[str, float | int | str | bool | None]

FPR_POINTS = {"tpr_at_fpr_1e_1": 1e-1, "tpr_at_fpr_1e_2": 1e-2, "tpr_at_fpr_1e_3": 1e-3}


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve: P(a fake scores above a real), ties counted half. NaN when a class is missing."""
    return float(auc_of(labels, scores)(np.ones((1, len(labels))))[0])


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
    """Accuracy, balanced accuracy, false-positive rate, and precision, recall and F1 of each class, from a confusion with fake positive.

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
        "fpr": ratio(fp, fp + tn),
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

    With probability `level`, at most k of so many independent reals score above the threshold of that rate (binomial, for
    any distribution of scores). So the threshold is no lower than the one that gives k false alarms. The bound holds for
    these fakes: their own sampling is left out. The only lower bound is 0.
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


def calibrated_ece(scores: Array, *, bootstrap: Bootstrap, quantile: float = 0.95, bins: int = 10) -> float:
    """The ECE that perfectly calibrated scores stay below, in `quantile` of test sets of this size.

    Labels are drawn from the scores themselves. With few images even perfect scores have an ECE well above 0.
    """
    place = np.minimum((scores * bins).astype(int), bins - 1)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    rng, errors = np.random.default_rng(bootstrap.seed), []
    for _ in range(bootstrap.resamples):
        surplus: Array = (rng.random(len(scores)) < scores) - scores
        errors.append(np.abs(np.add.reduceat(surplus[order], starts)).sum() / len(scores))
    return float(np.quantile(errors, quantile))


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

    When several are equal, the one with the lowest false-alarm rate is chosen. Raises FfdiError when a class is missing.
    """
    if len(np.unique(labels)) < 2:
        raise FfdiError("a threshold needs out-of-fold scores of both classes: lower split.folds, or add images")
    fpr, tpr, at = roc_points(labels, scores)
    best = int(np.argmax(tpr - fpr))
    above, below = at[best], at[min(best + 1, len(at) - 1)]
    middle = (above + below) / 2
    return float(middle if middle > below else above)  # adjacent floats have no number between them


def fit_temperature(labels: Array, logits: Array) -> float:
    """The temperature T that minimises the log loss of sigmoid(logit / T) (Guo et al., ICML 2017); 0.05 <= T <= 20.

    `logits` (N,) is log P(fake) - log P(real); call with out-of-fold logits only. Of (N, K) logits of K models, the log
    loss is that of the mean of their probabilities.
    """
    from scipy.optimize import minimize_scalar

    sign = np.where(np.asarray(labels) == 1, 1.0, -1.0)

    def loss(log_t: float) -> float:
        if logits.ndim == 1:
            return float(np.logaddexp(0.0, -sign * logits / np.exp(log_t)).mean())
        log_p = -np.logaddexp(0.0, -sign[:, None] * logits / np.exp(log_t))
        return float(np.log(logits.shape[1]) - np.logaddexp.reduce(log_p, axis=1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def evaluate_scores(labels: Array, scores: Array, groups: Array, *, threshold: float, bootstrap: Bootstrap) -> Metrics:
    """Every metric of metrics/details/NAME.json that follows from labels and scores; an undefined one is None with a reason."""
    from sklearn.metrics import average_precision_score

    labels, scores, groups = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(groups)
    if not np.isfinite(scores).all():
        raise FfdiError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite: train again with a lower lr"
        )
    predicted = (scores >= threshold).astype(int)
    reals, fakes = int((labels == 0).sum()), int((labels == 1).sum())
    both = reals > 0 and fakes > 0
    statistics = {"auc": auc_of(labels, scores), "accuracy": mean_of(labels == predicted)}
    drawn = resample(groups, statistics, bootstrap=bootstrap)
    out: Metrics = {"auc": None, "auc_low": None, "auc_high": None, "ap": None, "eer": None}
    if both:
        fpr, tpr, _ = roc_points(labels, scores)
        low, high = interval_around(auc(labels, scores), drawn["auc"])
        out |= {"auc": auc(labels, scores), "auc_low": low, "auc_high": high}
        out |= {"ap": float(average_precision_score(labels, scores)), "eer": equal_error_rate(fpr, tpr)}
    out |= class_metrics(*confusion(labels, predicted))
    low, high = interval_around(float(np.mean(labels == predicted)), drawn["accuracy"])
    out |= {"accuracy_low": low, "accuracy_high": high}
    out["brier"] = float(np.mean((scores - labels) ** 2))
    out["ece"] = expected_calibration_error(labels, scores)
    out["ece_if_calibrated"] = calibrated_ece(
        scores, bootstrap=Bootstrap(min(bootstrap.resamples, 1000), bootstrap.seed)
    )
    for key, rate in FPR_POINTS.items():
        out[key] = None
        if both and reals * rate >= 1:
            out[key] = float(tpr[fpr <= rate + 1e-12].max())
        elif both:
            out[key + "_reason"] = f"{reals} reals cannot resolve a false-positive rate of {rate:g}"
            out[key + "_at_most"] = tpr_bound(fpr, tpr, reals, rate)
    out |= {"threshold": threshold, "n_test": len(labels), "n_groups": len(np.unique(groups))}
    return explain_nulls(out, f"{reals} reals and {fakes} fakes, {out['n_groups']} groups")


def explain_nulls(metrics: Metrics, reason: str) -> Metrics:
    """Turn NaN into None and give every None without a `<key>_reason` this one."""
    out: Metrics = {}
    for key, value in metrics.items():
        missing = value is None or (isinstance(value, float) and not np.isfinite(value))
        out[key] = None if missing else value
        if missing and f"{key}_reason" not in metrics and not key.endswith("_reason"):
            out[f"{key}_reason"] = f"undefined: {reason}"
    return out
