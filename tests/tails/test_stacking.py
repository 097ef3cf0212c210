"""The weights of an ensemble: known optima come out, none is negative, and none saw the fold that it judges."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.bootstrap import Array
from ffdi.errors import FfdiError
from ffdi.metrics import auc
from ffdi.tails.stacking import Stack, equal_stack, fit_stack, logit, nested_stack


def drawn(count: int, weights: list[float], seed: int = 0, bias: float = 0.0) -> tuple[Array, Array]:
    """(labels, logits) of members for which the best joint logit is `bias` + the sum of these weights times theirs."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, len(weights)))
    chance = 1 / (1 + np.exp(-(logits @ np.array(weights) + bias)))
    return (rng.random(count) < chance).astype(int), logits


def interval_of(labels: Array, logits: Array, stack: Stack) -> tuple[Array, Array]:
    """The 95 % interval of (weights, bias): the inverse of the Fisher information (Wald)."""
    design = np.column_stack([logits, np.ones(len(labels))])
    chance = 1 / (1 + np.exp(-stack.of(logits)))
    reach = 1.96 * np.sqrt(np.diag(np.linalg.inv((design.T * (chance * (1 - chance))) @ design)))
    found = np.array([*stack.weights, stack.bias])
    return found - reach, found + reach


def test_planted_weights_come_out_within_their_intervals() -> None:
    truth, inside = np.array([0.9, 0.4, 0.2, -0.3]), []
    for seed in range(40):
        labels, logits = drawn(1500, [0.9, 0.4, 0.2], seed, bias=-0.3)
        low, high = interval_of(labels, logits, fit_stack(labels, logits))
        inside.append((low <= truth) & (truth <= high))
    assert (np.mean(inside, axis=0) >= 0.85).all()  # of 95 %, by 40 draws
    assert np.mean(inside) <= 0.995


def test_a_member_that_harms_gets_no_weight_and_no_weight_is_negative() -> None:
    labels, logits = drawn(3000, [0.8, 0.0, -0.5])
    stack = fit_stack(labels, logits)
    assert stack.weights[2] == 0.0 and min(stack.weights) == 0.0
    assert stack.weights[0] == pytest.approx(0.8, abs=0.15) and stack.weights[1] < 0.1


def test_twins_share_their_weight_and_separable_classes_have_finite_weights() -> None:
    labels, logits = drawn(800, [1.0])
    one, other = fit_stack(labels, np.repeat(logits, 2, axis=1)).weights
    assert one == pytest.approx(other, abs=1e-4) and one + other == pytest.approx(
        fit_stack(labels, logits).weights[0], abs=0.02
    )
    apart = np.where(np.arange(20) < 10, -2.0, 2.0)[:, None] * np.ones((1, 2))
    assert np.isfinite(fit_stack((apart[:, 0] > 0).astype(int), apart).weights).all()


def test_fitted_weights_beat_the_mean_where_members_are_unequal() -> None:
    labels, logits = drawn(2000, [1.0, 0.05])
    folds = np.arange(2000) % 5
    fitted = nested_stack(labels, logits, folds, "fitted")
    assert auc(labels, fitted.logits) > auc(labels, equal_stack(2).of(logits)) + 0.02


def test_the_weights_of_a_fold_saw_no_image_of_it() -> None:
    """Whatever the labels of the fold are, its logits are the same, and those of the other folds are not."""
    labels, logits = drawn(300, [0.7, 0.5])
    folds = np.arange(300) % 3
    before = nested_stack(labels, logits, folds, "fitted")
    turned = nested_stack(np.where(folds == 1, 1 - labels, labels), logits, folds, "fitted")
    assert np.array_equal(before.logits[folds == 1], turned.logits[folds == 1])
    assert before.by_fold[1] == turned.by_fold[1] and before.final != turned.final
    assert not np.allclose(before.logits[folds == 0], turned.logits[folds == 0])


def test_members_of_noise_show_no_skill_out_of_fold() -> None:
    """Weights that saw their validation rows find it in noise: with 60 members and 120 images the AUC rises above .75."""
    rng = np.random.default_rng(3)
    labels, logits, folds = np.arange(120) % 2, rng.normal(size=(120, 60)), np.arange(120) // 2 % 4
    seen = fit_stack(labels, logits).of(logits)
    assert auc(labels, seen) > 0.75
    by_fold = [
        auc(labels[folds == k], nested_stack(labels, logits, folds, "fitted").logits[folds == k]) for k in range(4)
    ]
    assert np.mean(by_fold) < 0.65


def test_equal_weights_are_the_mean_logit() -> None:
    labels, logits = drawn(30, [1.0, 1.0])
    nested = nested_stack(labels, logits, np.zeros(30, int), "equal")
    assert nested.final == Stack((0.5, 0.5)) == nested.by_fold[0]
    np.testing.assert_allclose(nested.logits, logits.mean(axis=1))


def test_what_cannot_be_fitted_is_said() -> None:
    labels, logits = drawn(30, [1.0, 1.0])
    with pytest.raises(FfdiError, match="two folds"):
        nested_stack(labels, logits, np.zeros(30, int), "fitted")
    with pytest.raises(FfdiError, match="both classes"):
        nested_stack(np.arange(30) % 2, logits, np.arange(30) % 2, "fitted")


def test_scores_of_0_and_1_have_a_logit() -> None:
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    np.testing.assert_allclose(logit(np.array([0.25, 0.5])), [-np.log(3), 0.0], atol=1e-12)
