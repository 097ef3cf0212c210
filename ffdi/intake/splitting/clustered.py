"""Folds that are as unlike each other as the data allows: clusters of groups by the features of a backbone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
COMPONENTS = 32  # of the features that groups are clustered by
LEAST = 0.5  # of an equal share: what each fold gets of each class


def cluster_folds(embeddings: npt.NDArray[Any], label: Ints, group: npt.NDArray[Any], *, folds: int, seed: int) -> Ints:
    """(N,) the fold of each image: the cluster of its group, by k-means on (N, D) pooled features.

    From the standardised features the mean of each class is taken, so that clusters differ by content and not by class,
    and the first COMPONENTS principal components of the group means are clustered, a group weighing as its images do.
    Then groups move, those that lose least first, until each fold has LEAST of an equal share of each class. InputError
    when groups are too few or too large for that.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    names, at = np.unique(group, return_inverse=True)
    if len(names) < folds:
        raise InputError(f"{len(names)} groups with {len(group)} images cannot make {folds} folds: lower split.folds")
    with threadpool_limits(1):  # sums in one order on every machine
        means = _components(_group_means(embeddings, label, at, len(names)))
        model = KMeans(folds, n_init=10, random_state=seed).fit(means, sample_weight=np.bincount(at))
        distances = np.square(means[:, None] - model.cluster_centers_[None]).sum(axis=2)
    counts = np.stack([np.bincount(at[label == c], minlength=len(names)) for c in (0, 1)], axis=1)
    return _with_both_classes(model.labels_.astype(np.int64), distances, counts)[at]


def _group_means(embeddings: npt.NDArray[Any], label: Ints, at: Ints, groups: int) -> Floats:
    """(G, D) the mean of each group's features, standardised and without the means of the classes."""
    x = np.array(embeddings, np.float64)
    for c in (0, 1):
        x[label == c] -= x[label == c].mean(axis=0)
    std = x.std(axis=0)
    x /= np.where(std > 1e-9, std, 1.0)
    sums = np.zeros((groups, x.shape[1]))
    np.add.at(sums, at, x)
    return np.asarray(sums / np.bincount(at)[:, None])


def _components(means: Floats) -> Floats:
    """(G, at most COMPONENTS) principal components."""
    from sklearn.decomposition import PCA

    most = min(COMPONENTS, *means.shape)
    return np.asarray(PCA(most, svd_solver="full").fit_transform(means))


def _with_both_classes(part: Ints, distances: Floats, counts: Ints) -> Ints:
    """`part` (G,) after moves: each fold gets LEAST of an equal share of each class; `counts` (G, 2) images by class."""
    part, folds = part.copy(), distances.shape[1]
    least = np.ceil(LEAST * counts.sum(axis=0) / folds)
    load = np.zeros((folds, 2), np.int64)
    np.add.at(load, part, counts)
    for _ in range(2 * folds):  # filling one class never takes a fold below its least of the other
        short = [(fold, c) for fold in range(folds) for c in (0, 1) if load[fold, c] < least[c]]
        if not short:
            return part
        for fold, c in short:
            extra = distances[:, fold] - distances[np.arange(len(part)), part]
            for one in np.argsort(extra, kind="stable").tolist():
                if load[fold, c] >= least[c]:
                    break
                left = load[part[one]] - counts[one]
                gives = counts[one] > 0
                if part[one] != fold and counts[one, c] and (left >= least)[gives].all():
                    load[part[one]], part[one] = left, fold
                    load[fold] += counts[one]
    raise InputError(
        f"{len(part)} groups cannot make {folds} clustered folds with {LEAST:.0%} of an equal share of each class in each: "
        "lower split.folds"
    )
