"""Scores of several recipes become one: the mean of their logits, or a logistic regression on out-of-fold logits.

Everywhere here `labels` is (N,) of 0/1, `logits` (N, M) is log P(fake) - log P(real) of N images by M members, `folds`
(N,) is the fold of each image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ffdi.bootstrap import Array
from ffdi.errors import FfdiError
from ffdi.tails.ensemble_settings import Weighting

_SMALLEST = 1e-9  # P(fake) of a score that rounds to 0
LARGEST_LOGIT = float(np.log1p(-_SMALLEST) - np.log(_SMALLEST))  # of any score


def logit(scores: Array) -> Array:
    """log P(fake) - log P(real) of scores in [0, 1]; 0 and 1 are taken for numbers that have a logit."""
    inside = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


@dataclass(frozen=True)
class Stack:
    """The joint logit is `bias` + the sum of `weights` times the members' logits; no weight is negative."""

    weights: tuple[float, ...]
    bias: float = 0.0

    def of(self, logits: Array) -> Array:
        """(N,) joint logits of (N, M)."""
        return np.asarray(logits @ np.array(self.weights) + self.bias)


def equal_stack(members: int) -> Stack:
    """The mean logit."""
    return Stack((1 / members,) * members)


def fit_stack(labels: Array, logits: Array) -> Stack:
    """Logistic regression with weights of 0 or more (stacked generalisation: Wolpert, Neural Networks 1992; why not
    negative: Breiman, Machine Learning 1996).

    The loss is the mean log loss plus |weights - 1/M|^2 / 2N: one image's worth of belief in the mean. It makes the
    weights finite where the members separate the classes, and unique where two members are alike. FfdiError when a class
    is missing.
    """
    from scipy.optimize import minimize

    labels, (count, members) = np.asarray(labels), logits.shape
    if len(np.unique(labels)) < 2:
        raise FfdiError("weights need out-of-fold scores of both classes: take equal")
    sign, mean = np.where(labels == 1, 1.0, -1.0), 1 / members

    def loss(point: Array) -> tuple[float, Array]:
        margin = sign * (logits @ point[:-1] + point[-1])
        slope = -sign / (1 + np.exp(np.clip(margin, -500, 500))) / count
        apart = point[:-1] - mean
        gradient = np.append(slope @ logits + apart / count, slope.sum())
        return float(np.logaddexp(0.0, -margin).mean() + apart @ apart / (2 * count)), gradient

    bounds = [(0.0, None)] * members + [(None, None)]
    start = np.append(np.full(members, mean), 0.0)
    found = minimize(
        loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    ).x
    return Stack(tuple(float(weight) for weight in found[:-1]), float(found[-1]))


@dataclass(frozen=True)
class NestedStack:
    """`final` joins the scores of new images. `logits` (N,) are the joint logits of the out-of-fold images: those of fold
    K by `by_fold[K]`, whose weights saw no image of that fold."""

    final: Stack
    by_fold: Mapping[int, Stack]
    logits: Array


def nested_stack(labels: Array, logits: Array, folds: Array, weighting: Weighting) -> NestedStack:
    """The stack of all images, and that of each fold on the images of the other folds.

    FfdiError when weights are to be fitted and there is one fold, or the other folds lack a class.
    """
    numbers = sorted({int(fold) for fold in folds})
    if weighting == "equal":
        final = equal_stack(logits.shape[1])
        return NestedStack(final, dict.fromkeys(numbers, final), final.of(logits))
    if len(numbers) < 2:
        raise FfdiError("fitted weights need out-of-fold scores of two folds or more: train more folds, or take equal")
    by_fold, joined = {}, np.empty(len(labels))
    for fold in numbers:
        inside = folds == fold
        by_fold[fold] = fit_stack(labels[~inside], logits[~inside])
        joined[inside] = by_fold[fold].of(logits[inside])
    return NestedStack(fit_stack(labels, logits), by_fold, joined)
