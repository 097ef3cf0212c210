"""What the mean of all tails will give, as threshold and temperature need to know it, from out-of-fold logits.

An image of the training has one tail that did not train on it, a new image has the mean score of all tails, and means are
less spread. `nested` trains a tail more for each two folds, on neither of them: then every image has K - 1 tails that did
not train on it. `pair` trains one such tail, and learns from it how alike two tails' logits are within a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from ffdi.bootstrap import Array
from ffdi.errors import placed
from ffdi.metrics import fit_temperature
from ffdi.tails.bundle import sigmoid
from ffdi.tails.checkpoint import Fit
from ffdi.tails.folds import FoldedTable

Kind = Literal["folds", "pair", "nested"]
Pair = tuple[int, int]
Logits = Mapping[
    Pair, "pd.Series[float]"
]  # of the images of both folds, by image_id, by the tail that trained on neither


@dataclass(frozen=True)
class Calibration:
    """How the scores of the mean of all tails come out: the temperature, and (N,) `scores` of the validated images as the
    mean of all tails would have them. `facts` is the entry `calibration` of bundle.json, empty for kind `folds`.

    With `pair` the scores are made with the labels' help: they are for thresholds and their rates alone.
    """

    temperature: float
    scores: Array
    facts: Mapping[str, Any] = field(default_factory=dict)


def pairs_of(kind: Kind, trained: list[int], folds: list[int]) -> list[Pair]:
    """The pairs of `trained` folds that a kind of calibration has a tail more for; without a third of `folds`, none."""
    if kind == "folds" or len(folds) < 3:
        return []
    return list(combinations(trained, 2))[: 1 if kind == "pair" else None]


def train_pairs(
    pairs: list[Pair], images: FoldedTable, train: Callable[[FoldedTable], Mapping[int, Fit]]
) -> dict[Pair, pd.Series[float]]:
    """The Logits of the tails more; `train` gives the fits of the folds that its images ask for."""
    logits = {}
    for pair in pairs:
        joined = images.without(*pair)
        with placed(f"calibration, a tail without folds {pair[0]} and {pair[1]}"):
            ((number, fitted),) = train(joined).items()
        logits[pair] = pd.Series(fitted.logits, index=list(joined.split(number).validation.image_ids))
    return logits


def calibrate(kind: Kind, scores: pd.DataFrame, pairs: Logits) -> Calibration:
    """From oof.csv's image_id, fold, label and logit, and from the tails more, if there are any."""
    labels, logits = scores["label"].to_numpy(), scores["logit"].to_numpy()
    facts: dict[str, Any] = {}
    tails = logits[:, None]
    if pairs and kind == "pair":
        rho, count = agreement(scores, pairs), scores["fold"].nunique()
        tails = like_the_mean(labels, logits, rho, count)
        facts = {"kind": kind, "agreement": rho, "contraction": contraction(rho, count), "tails": count}
    elif pairs:
        tails = _nested(scores, pairs)
        facts = {"kind": kind, "tails": tails.shape[1]}
    temperature = fit_temperature(labels, tails if facts else logits)
    return Calibration(temperature, mean_of_tails(tails, temperature), facts)


def mean_of_tails(tails: Array, temperature: float) -> Array:
    """(N,) the mean P(fake) of (N, K) logits, each divided by the temperature."""
    return np.asarray(sigmoid(tails / temperature).mean(axis=1))


def agreement(scores: pd.DataFrame, pairs: Logits) -> float:
    """How alike two tails' logits are of images that neither trained on, 0 to 1: their concordance correlation (Lin,
    Biometrics 1989) within a class. A tail's own offset and scale count as disagreement, for a mean evens them out.

    It is 2 cov(a, b) / (var a + var b + d^2) of the logits a and b of one image, and d, the gap of their means.
    """
    both = pd.concat(
        rows.assign(other=rows["image_id"].map(other))[["label", "logit", "other"]]
        for rows, other in ((scores[scores["fold"].isin(pair)], other) for pair, other in pairs.items())
    )
    means = both.groupby("label")[["logit", "other"]].transform("mean")
    own, other, gap = both["logit"] - means["logit"], both["other"] - means["other"], means["logit"] - means["other"]
    apart = (own**2 + other**2 + gap**2).mean()
    return float(np.clip(2 * (own * other).mean() / max(apart, 1e-12), 0, 1))


def contraction(rho: float, count: int) -> float:
    """The spread within a class of the mean of `count` logits, as a share of that of one: sqrt(rho + (1 - rho) / K)."""
    return float(np.sqrt(rho + (1 - rho) / count))


def like_the_mean(labels: Array, logits: Array, rho: float, count: int) -> Array:
    """(N, K) logits of `count` tails, whose mean is as spread within a class as that of tails with the agreement `rho`.

    (N,) `logits` of one tail each move towards their class's mean by the factor of `contraction`. The tails lie about
    them as independent normal draws lie about their own mean: the mean of the logits alone would not do, since a score is
    the mean of probabilities, which differs between images whose tails agree and those whose tails do not.
    """
    draws = np.random.default_rng(0).standard_normal((len(logits), count))
    about = draws - draws.mean(axis=1, keepdims=True)
    out = np.empty((len(logits), count))
    for label in np.unique(labels):
        of_class = labels == label
        mean, spread = logits[of_class].mean(), logits[of_class].std()
        middle = mean + contraction(rho, count) * (logits[of_class] - mean)
        out[of_class] = middle[:, None] + spread * np.sqrt(1 - rho) * about[of_class]
    return out


def _nested(scores: pd.DataFrame, pairs: Logits) -> Array:
    """(N, K - 1) the logits of every image by the tails more that trained neither on its fold nor on another one."""
    found = []
    for fold, rows in scores.groupby("fold"):
        logits = [of_tail[rows["image_id"]].to_numpy() for pair, of_tail in pairs.items() if fold in pair]
        found.append(pd.DataFrame(np.stack(logits, axis=1), rows.index))
    return pd.concat(found).sort_index().to_numpy()
