"""Clustered folds: unlike each other, whole groups, both classes."""

from __future__ import annotations

import numpy as np
import pytest
from fold_cases import NO_PAIRS, table

from ffdi.errors import InputError
from ffdi.intake.settings import SplitSettings
from ffdi.intake.splitting.clustered import cluster_folds
from ffdi.intake.splitting.folds import assign_folds

RNG = np.random.default_rng(0)
GROUP = np.repeat([f"g{i:02d}" for i in range(60)], 4)
PLACE = np.repeat(np.arange(60) % 3, 4)  # three places where groups were photographed
LABEL = np.arange(240) % 2
FEATURES = RNG.normal(size=(240, 12)) + 6 * np.eye(12)[PLACE]
FEATURES[:, 4:] += 20 * LABEL[:, None]  # classes are easier to tell apart than places


def test_folds_are_the_clusters_of_the_groups_and_not_the_classes() -> None:
    lone = np.array([f"i{i:03d}" for i in range(240)])
    for groups in (GROUP, lone):
        folds = cluster_folds(FEATURES, LABEL, groups, folds=3, seed=0)
        assert len(set(zip(PLACE.tolist(), folds.tolist(), strict=True))) == 3
        assert all(len(set(folds[groups == g])) == 1 for g in np.unique(groups))
        assert np.array_equal(folds, cluster_folds(FEATURES, LABEL, groups, folds=3, seed=0))


def test_each_fold_has_half_of_an_equal_share_of_each_class() -> None:
    lone = np.array([f"i{i:03d}" for i in range(240)])
    odd = FEATURES[:, :4].copy()
    odd[:, 3] += 50 * LABEL * (PLACE == 0)  # the fakes of one place are a cluster of their own
    folds = cluster_folds(odd, LABEL, lone, folds=4, seed=0)
    counts = np.array([[((folds == f) & (c == LABEL)).sum() for c in (0, 1)] for f in range(4)])
    assert counts.min() == 15 and counts.sum() == 240


def test_too_few_or_too_large_groups_are_said() -> None:
    with pytest.raises(InputError, match="60 groups with 240 images cannot make 61 folds"):
        cluster_folds(FEATURES, LABEL, GROUP, folds=61, seed=0)
    with pytest.raises(InputError, match="50% of an equal share of each class"):
        cluster_folds(FEATURES, LABEL, np.where(np.arange(240) < 238, "huge", "small"), folds=2, seed=0)


def test_the_split_draws_them_from_the_training_images() -> None:
    images = table(LABEL.tolist(), GROUP.tolist())
    out = assign_folds(images, NO_PAIRS, SplitSettings("clustered", test_size=0.25, folds=3), FEATURES)
    plain = assign_folds(images, NO_PAIRS, SplitSettings("stratified", test_size=0.25, folds=3))
    test = (out["role"] == "test").to_numpy()
    assert list(out.columns) == list(plain.columns) and list(out["role"]) == list(plain["role"])
    folds = out["fold"].to_numpy()[~test]
    assert len(set(zip(PLACE[~test].tolist(), folds.tolist(), strict=True))) == 3
