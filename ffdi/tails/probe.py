"""The linear probe: logistic regression on features, whose regularisation inner folds choose. NumPy in, NumPy out.

fitted = probe_out_of_fold(features, labels, folds, groups, ProbeSettings())
auc(labels, fitted.logits)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ffdi.errors import FfdiError
from ffdi.metrics import auc
from ffdi.parallel import bounded_map
from ffdi.tails.recipe import Norm
from ffdi.tails.row_norms import deviation, row_normalised

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TOLERANCE = 1e-5  # of the gradient of the mean loss; features have a variance of 1
MOST_STEPS = 1000
INNER_FOLDS = 5  # that are drawn where the other folds are too few to be the inner ones


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is fitted.

    `sweep` values of scikit-learn's C, the inverse of the regularisation's strength, log-spaced over `c_range`, are tried.
    `norm` comes first. Then the training rows' mean is subtracted, and their mean variance over the channels is scaled to
    1, so that one range of C serves all backbones; with `norm: standardise` each channel's variance is. `class_weights`
    are those of a recipe.
    """

    sweep: int = 20
    c_range: tuple[float, float] = (1e-6, 1e2)
    norm: Norm = "none"
    class_weights: Literal["balanced"] | tuple[float, float] | None = None

    @property
    def values(self) -> Floats:
        """(S,) every C that is tried, ascending: each fit starts from the one before it."""
        return np.geomspace(*self.c_range, self.sweep)


@dataclass(frozen=True)
class Sweep:
    """What the inner folds say of each C: (S,) mean cross-entropy and AUC on held-out rows, AUC on the rows of the fit."""

    c: Floats
    loss: Floats
    auc: Floats
    train_auc: Floats

    @property
    def best(self) -> int:
        """The number of the C with the highest held-out AUC, of equals the smallest; without an AUC, of least loss."""
        return int(np.nanargmax(self.auc) if np.isfinite(self.auc).any() else np.argmin(self.loss))

    @classmethod
    def mean(cls, parts: Sequence[Sweep]) -> Sweep:
        """The mean over inner folds; an AUC is undefined where a class is missing, and then left out."""
        held, fitted = (np.array([getattr(part, key) for part in parts]) for key in ("auc", "train_auc"))
        return cls(parts[0].c, np.mean([part.loss for part in parts], axis=0), np.nanmean(held, 0), fitted.mean(0))


@dataclass(frozen=True)
class FoldProbe:
    """The probe that one fold's rows played no part in: margin = normalised features @ `weight` (D,) + `bias`.

    "Normalised" is l2 or layer alone; the mean and variance of the training rows are in `weight` and `bias`. They are
    `mean` (D,) and `std` (D,), which is the same number D times unless channels are standardised.
    """

    weight: Floats
    bias: float
    mean: Floats
    std: Floats
    c: float
    sweep: Sweep

    def margins(self, normalised: Floats) -> Floats:
        """(N,) log-odds of fake."""
        return np.asarray(normalised @ self.weight + self.bias)


@dataclass(frozen=True)
class Roles:
    """What rows do beside training the probes of the other folds.

    Rows where `validates` (N,) is False are trained on and never scored, in inner folds either: views beyond the clean
    one, synthesised fakes. `barred` (N,) is a second fold whose probe a row does not train, -1 for none; a barred row is
    not scored either. By default all rows validate, and none is barred.
    """

    validates: Mask | None = None
    barred: Ints | None = None


@dataclass(frozen=True)
class OutOfFoldProbe:
    """`logits` (N,) is each row's log-odds by the probe of its own fold; NaN for rows that validate none."""

    logits: Floats
    by_fold: Mapping[int, FoldProbe]


@dataclass(frozen=True)
class _Rows:
    """Normalised features with what is known of each row."""

    features: Floats
    labels: Ints
    folds: Ints
    groups: npt.NDArray[Any]
    validates: Mask
    barred: Ints
    settings: ProbeSettings

    def of_fold(self, fold: int) -> Mask:
        """(N,) the rows that a fold validates."""
        return np.asarray(self.validates & (self.folds == fold))

    def outside(self, *folds: int) -> Mask:
        """(N,) the rows that train the probe of each of these folds."""
        return np.asarray(~np.isin(self.folds, folds) & ~np.isin(self.barred, folds))


@dataclass(frozen=True)
class _Inner:
    """One fit of the sweep: the rows it is fitted on, and the rows held out for each reported fold that it serves."""

    fitted: Mask
    held: Mapping[int, Mask]


def probe_out_of_fold(
    features: Floats,
    labels: Ints,
    folds: Ints,
    groups: npt.NDArray[Any] | None,
    settings: ProbeSettings,
    *,
    roles: Roles = Roles(),
    reported: Sequence[int] | None = None,
) -> OutOfFoldProbe:
    """Probe (N, D) features: for each fold, a logistic regression on the rows of all other folds.

    Its C is chosen on inner folds, where no row of the reported fold takes part. With three folds or more the other folds
    are the inner ones, and a model that was trained without two folds serves both of them. With fewer,
    StratifiedGroupKFold divides the training rows by `groups` (N,); without groups each row is one of its own.

    `reported` are the folds that get a probe, by default all. Fits run in threads, each on one processor, and the bytes
    do not depend on their number. FfdiError when a fit would see one class alone.
    """
    named = np.arange(len(labels)).astype(str) if groups is None else groups
    barred = np.full(len(labels), -1) if roles.barred is None else roles.barred
    scored = (barred < 0) & (True if roles.validates is None else roles.validates)
    rows = _Rows(row_normalised(features, settings.norm), labels, folds, named, scored, barred, settings)
    wanted = sorted(set(folds.tolist())) if reported is None else list(reported)
    logits = np.full(len(labels), np.nan)
    with _quiet_on_one_thread():
        sweeps = _sweeps(rows, wanted)
        size = rows.features.nbytes
        fits = bounded_map(partial(_final_fit, rows), sweeps.items(), workers=None, item_bytes=size)
        by_fold = dict(zip(wanted, fits, strict=True))
    for fold, probe in by_fold.items():
        validated = rows.of_fold(fold)
        logits[validated] = probe.margins(rows.features[validated])
    return OutOfFoldProbe(logits, by_fold)


@contextmanager
def _quiet_on_one_thread() -> Iterator[None]:
    """A fit that has not converged after MOST_STEPS is judged as it is. Each fit has a thread of its own, and no others."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _sweeps(rows: _Rows, wanted: Sequence[int]) -> dict[int, Sweep]:
    """What the inner folds say, for each reported fold."""
    inner = list(_inner_fits(rows, wanted))
    results = bounded_map(partial(_sweep, rows), inner, workers=None, item_bytes=rows.features.nbytes)
    parts: dict[int, list[Sweep]] = {fold: [] for fold in wanted}
    for by_fold in results:
        for fold, sweep in by_fold.items():
            parts[fold].append(sweep)
    return {fold: Sweep.mean(found) for fold, found in parts.items()}


def _inner_fits(rows: _Rows, wanted: Sequence[int]) -> Iterator[_Inner]:
    numbers = sorted(set(rows.folds.tolist()))
    for fold in (fold for fold in wanted if fold not in numbers):  # a refit: all folds are inner ones
        for other in numbers:
            yield _Inner(rows.outside(other), {fold: rows.of_fold(other)})
    if len(numbers) > 2:
        for pair in combinations(numbers, 2):
            sides = (pair, pair[::-1])
            held = {fold: rows.of_fold(other) for fold, other in sides if fold in wanted}
            if held:
                yield _Inner(rows.outside(*pair), held)
        return
    for fold in (fold for fold in wanted if fold in numbers):
        training = rows.outside(fold)
        for held_out in _drawn_folds(rows, np.flatnonzero(training), fold):
            yield _Inner(training & ~held_out, {fold: held_out & rows.validates})


def _drawn_folds(rows: _Rows, training: Ints, fold: int) -> Iterator[Mask]:
    """(N,) the rows of each inner fold, drawn by groups among the `training` rows of a fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = rows.labels[training], rows.groups[training]
    most = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    if most < 2:
        raise FfdiError(
            f"head probe, fold {fold}: a class has {most} groups to train on, two are needed to choose the regularisation: "
            "lower split.folds, or add images of other groups"
        )
    drawn = StratifiedGroupKFold(min(INNER_FOLDS, most)).split(training, labels, groups)
    for _, at in drawn:
        held_out = np.zeros(len(rows.labels), bool)
        held_out[training[at]] = True
        yield held_out


def _sweep(rows: _Rows, inner: _Inner) -> dict[int, Sweep]:
    """Fit every C on the rows of an inner fit, and judge each on the rows held out."""
    values = rows.settings.values
    weights, biases, _, _ = _fit(rows, inner.fitted, values)

    def margins(at: Mask) -> Floats:  # (N, S)
        return np.asarray(rows.features[at] @ weights.T + biases)

    def aucs(at: Mask, found: Floats) -> Floats:
        return np.array([auc(rows.labels[at], column) for column in found.T])

    train_auc = aucs(inner.fitted, margins(inner.fitted))
    signs = 1 - 2 * rows.labels[:, None]
    sweeps = {}
    for fold, held in inner.held.items():
        found = margins(held)
        loss = np.logaddexp(0, signs[held] * found).mean(0)
        sweeps[fold] = Sweep(values, loss, aucs(held, found), train_auc)
    return sweeps


def _final_fit(rows: _Rows, found: tuple[int, Sweep]) -> FoldProbe:
    """The probe of a fold: its chosen C, on all rows of the other folds."""
    fold, sweep = found
    c = float(sweep.c[sweep.best])
    weights, biases, mean, std = _fit(rows, rows.outside(fold), [c])
    return FoldProbe(weights[0], float(biases[0]), mean, std, c, sweep)


def _fit(rows: _Rows, chosen: Mask, values: Sequence[float] | Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """(weights (S, D), biases (S,), mean (D,), std (D,)) of a logistic regression for each C of `values`.

    The intercept is not regularised, so that without the mean the problem is the same one; it takes L-BFGS a fraction of
    the steps. Mean and standard deviation are those of the chosen rows.
    """
    from sklearn.linear_model import LogisticRegression

    x, labels = rows.features[chosen], rows.labels[chosen]
    if len(np.unique(labels)) < 2:
        raise FfdiError(
            "head probe: the training rows of a fold, or of an inner fold, are of one class: lower split.folds"
        )
    mean = x.mean(axis=0, dtype=np.float64)
    x -= mean
    variance = np.einsum("nd,nd->d", x, x) / len(x)
    if rows.settings.norm != "standardise":
        variance = np.full_like(variance, variance.mean())
    std = deviation(mean, variance)
    x /= std
    classes = rows.settings.class_weights
    weighted = dict(enumerate(classes)) if isinstance(classes, tuple) else classes
    model = LogisticRegression(tol=TOLERANCE, max_iter=MOST_STEPS, class_weight=weighted, warm_start=True)
    weights, biases = np.empty((len(values), x.shape[1])), np.empty(len(values))
    for number, c in enumerate(values):
        model.set_params(C=c).fit(x, labels)
        weights[number], biases[number] = model.coef_[0] / std, model.intercept_[0]
    return weights, biases - weights @ mean, mean, std
