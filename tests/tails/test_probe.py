"""The linear probe: it is scikit-learn's, its C is chosen without the reported fold, and nothing of that fold leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ffdi.errors import FfdiError
from ffdi.tails import probe
from ffdi.tails.probe import OutOfFoldProbe, ProbeSettings, Roles, probe_out_of_fold
from ffdi.tails.row_norms import row_normalised

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 2, 120).astype(np.int64)
FEATURES = (RNG.normal(size=(120, 12)) * np.geomspace(0.1, 10, 12) + 3 + LABELS[:, None] * 0.3).astype(np.float32)
FOLDS = RNG.permutation(np.arange(120) % 4)
FEW = ProbeSettings(sweep=5, c_range=(1e-4, 1.0))


def probed(settings: ProbeSettings = FEW, features: npt.NDArray[Any] = FEATURES, **options: Any) -> OutOfFoldProbe:
    return probe_out_of_fold(features, options.pop("labels", LABELS), FOLDS, None, settings, **options)


def scaled(rows: npt.NDArray[Any], by: npt.NDArray[Any], settings: ProbeSettings) -> npt.NDArray[Any]:
    """`rows` as the probe sees them when it is fitted on `by`, in float64."""
    rows, by = (row_normalised(x, settings.norm).astype(np.float64) for x in (rows, by))
    std = by.std(axis=0) if settings.norm == "standardise" else np.sqrt(by.var(axis=0).mean())
    return np.asarray((rows - by.mean(axis=0)) / std)


def by_scikit_learn(fitted: npt.NDArray[Any], held: npt.NDArray[Any], c: float, settings: ProbeSettings) -> Any:
    weights: Any = settings.class_weights
    weights = dict(enumerate(weights)) if isinstance(weights, tuple) else weights
    model = LogisticRegression(C=c, tol=1e-8, max_iter=10_000, class_weight=weights)
    x, training = FEATURES[held], FEATURES[fitted]
    return (
        model.fit(scaled(training, training, settings), LABELS[fitted])
        .decision_function(scaled(x, training, settings))
        .astype(float)
    )


@pytest.mark.parametrize(
    "settings",
    [
        FEW,
        ProbeSettings(5, (1e-4, 1.0), "standardise"),
        ProbeSettings(5, (1e-4, 1.0), "l2", "balanced"),
        ProbeSettings(5, (1e-4, 1.0), "layer", (1.0, 3.0)),
    ],
    ids=lambda settings: settings.norm,
)
def test_the_probe_is_scikit_learns_with_the_c_of_a_nested_cross_validation(settings: ProbeSettings) -> None:
    found = probed(settings)
    for fold, made in found.by_fold.items():
        others = sorted(set(FOLDS) - {fold})
        due = [
            np.mean(
                [
                    roc_auc_score(
                        LABELS[other == FOLDS],
                        by_scikit_learn(~np.isin(FOLDS, (fold, other)), other == FOLDS, c, settings),
                    )
                    for other in others
                ]
            )
            for c in settings.values
        ]
        assert made.sweep.auc == pytest.approx(due, abs=0.005)
        assert made.c == settings.values[np.argmax(made.sweep.auc)]
        margins = by_scikit_learn(fold != FOLDS, fold == FOLDS, made.c, settings)
        assert found.logits[fold == FOLDS] == pytest.approx(margins, abs=0.01)


def reported_fold_plays_a_part(fold: int = 2) -> bool:
    """Whether other rows of the reported fold, of another scale and with other labels, change its probe or its sweep."""
    features, labels = FEATURES.copy(), LABELS.copy()
    features[fold == FOLDS] = 50 * features[fold == FOLDS][::-1] + 7
    labels[fold == FOLDS] = 1 - labels[fold == FOLDS]
    made, other = (
        probe_out_of_fold(x, y, FOLDS, None, ProbeSettings(5, (1e-4, 1.0), "standardise"), reported=[fold]).by_fold[
            fold
        ]
        for x, y in ((FEATURES, LABELS), (features, labels))
    )
    pairs = [(getattr(made, key), getattr(other, key)) for key in ("weight", "bias", "mean", "std", "c")]
    pairs += [(getattr(made.sweep, key), getattr(other.sweep, key)) for key in ("auc", "loss", "train_auc")]
    return not all(np.array_equal(*pair) for pair in pairs)


def test_rows_of_the_reported_fold_play_no_part() -> None:
    assert not any(reported_fold_plays_a_part(fold) for fold in range(4))


def standardised_on_all_rows(plain: Callable[..., Any], features: npt.NDArray[Any], *rest: Any) -> Any:
    return (plain(features, *rest) - features.mean(axis=0)) / features.std(axis=0)


def fitted_on_all_rows(plain: Callable[..., Any], rows: Any, chosen: npt.NDArray[Any], *rest: Any) -> Any:
    return plain(rows, np.ones_like(chosen), *rest)


@pytest.mark.parametrize(("name", "leak"), [("row_normalised", standardised_on_all_rows), ("_fit", fitted_on_all_rows)])
def test_a_planted_leak_is_seen(name: str, leak: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = getattr(probe, name)
    monkeypatch.setattr(probe, name, lambda *given: leak(plain, *given))
    assert reported_fold_plays_a_part()


def test_rows_that_do_not_validate_are_trained_on_and_never_scored() -> None:
    validates = np.arange(120) % 3 > 0
    found = probed(roles=Roles(validates))
    assert np.isnan(found.logits[~validates]).all() and np.isfinite(found.logits[validates]).all()
    flipped = probed(roles=Roles(validates), labels=np.where(validates, LABELS, 1 - LABELS))
    assert not np.array_equal(found.logits, flipped.logits, equal_nan=True)
    inner = found.by_fold[0].sweep.auc[0]
    without = [FOLDS == 1, FOLDS == 2, FOLDS == 3]
    due = []
    for held in without:
        scores = by_scikit_learn((FOLDS != 0) & ~held, held & validates, FEW.values[0], FEW)
        due.append(roc_auc_score(LABELS[held & validates], scores))
    assert inner == pytest.approx(np.mean(due), abs=0.005)


def test_with_two_folds_the_inner_folds_are_drawn_by_groups() -> None:
    """Two copies of a random vector have one label. A probe that trained on one copy knows the other's."""
    vectors, labels = RNG.normal(size=(60, 200)).astype(np.float32), RNG.integers(0, 2, 60)
    features, twice = np.repeat(vectors, 2, axis=0), np.repeat(labels, 2).astype(np.int64)
    folds, groups = np.repeat(np.arange(60) % 2, 2), np.repeat(np.arange(60), 2).astype(str)
    kept, parted = (
        probe_out_of_fold(features, twice, folds, names, FEW).by_fold[0].sweep.auc.max() for names in (groups, None)
    )
    assert kept < 0.75 < 0.95 < parted


def test_inner_folds_need_two_groups_of_each_class() -> None:
    groups = np.where(LABELS == 1, "one person", np.arange(120).astype(str))
    with pytest.raises(FfdiError, match="head probe, fold 0: a class has 1 groups to train on, two are needed"):
        probe_out_of_fold(FEATURES, LABELS, FOLDS % 2, groups, FEW)


def test_one_class_is_an_error_in_one_line() -> None:
    with pytest.raises(FfdiError, match="of a fold, or of an inner fold, are of one class"):
        probed(labels=np.zeros_like(LABELS))


def test_the_bytes_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for count in (1, 4):
        monkeypatch.setattr("ffdi.parallel.worker_count", lambda count=count: count)
        found.append(probed().logits.tobytes())
    assert found[0] == found[1]


def test_features_of_any_scale_give_the_same_probe() -> None:
    """The sweep's range means the same for a backbone whose features are a thousand times larger, or lie elsewhere."""
    logits, larger = (probed(features=x).logits for x in (FEATURES, 1000 * FEATURES + 500))
    assert larger == pytest.approx(logits, abs=0.01)


def test_a_channel_that_never_changes_says_nothing() -> None:
    features = FEATURES.copy()
    features[:, 3] = 7
    found = probed(ProbeSettings(3, (1e-3, 1.0), "standardise"), features)
    assert np.isfinite(found.logits).all() and found.by_fold[0].weight[3] == 0


def test_only_the_folds_that_are_asked_for_get_a_probe() -> None:
    first, all_of_them = probed(reported=[0]), probed()
    assert list(first.by_fold) == [0] and np.isfinite(first.logits).sum() == (FOLDS == 0).sum()
    assert np.array_equal(first.logits[FOLDS == 0], all_of_them.logits[FOLDS == 0])
