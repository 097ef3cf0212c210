"""Alignment and uniformity against numbers worked by hand; how they enter a training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_training import CPU, FIRST_24, PLAIN, cross_validated, fresh_tail, same
from torch import nn

from ffdi.errors import ParamsError
from ffdi.tails.heads import Tail
from ffdi.tails.losses import alignment, extra_losses, uniformity
from ffdi.tails.optimisation import ExtraLosses, Mix
from ffdi.tails.train import fit

# At 0, 90, 180 and 180 degrees: squared distances 2, 4, 4, 2, 2, 0 of the pairs 01 02 03 12 13 23
CIRCLE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, 0.0]])


@pytest.mark.parametrize(
    ("labels", "due"),
    [
        ([0, 0, 1, 1], (2 + 0) / 2),
        ([0, 1, 0, 0], (4 + 4 + 0) / 3),
        ([1, 1, 1, 1], (2 + 4 + 4 + 2 + 2 + 0) / 6),
    ],
)
def test_alignment_by_hand(labels: list[int], due: float) -> None:
    assert alignment(CIRCLE, torch.tensor(labels)).item() == pytest.approx(due)


def test_uniformity_by_hand() -> None:
    """exp(-2 d^2): e^-4 three times, e^-8 twice, and 1."""
    assert uniformity(CIRCLE).item() == pytest.approx(math.log((3 * math.exp(-4) + 2 * math.exp(-8) + 1) / 6))
    assert uniformity(CIRCLE[[0, 2]]).item() == pytest.approx(-8)  # as far apart as two images can be


def test_without_a_pair_there_is_nothing_to_lose() -> None:
    assert alignment(CIRCLE[:2], torch.tensor([0, 1])).item() == 0
    assert uniformity(CIRCLE[:1]).item() == 0


def test_their_gradients_are_right_also_where_features_coincide() -> None:
    features = nn.functional.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double())
    labels = torch.tensor([0, 1, 0, 1, 1])
    assert torch.autograd.gradcheck(lambda f: alignment(f, labels), features.requires_grad_())
    assert torch.autograd.gradcheck(uniformity, features)
    equal = CIRCLE[[2, 3]].double().requires_grad_()
    (alignment(equal, labels[[0, 2]]) + uniformity(equal)).backward()
    assert torch.isfinite(equal.grad).all()  # type: ignore[arg-type]


def test_the_sum_is_weighted_and_takes_the_direction_of_each_image_alone() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    longer = (CIRCLE * torch.tensor([[3.0], [0.5], [7.0], [1.0]])).view(4, 2, 1, 1)
    due = 0.1 * 1 + 0.5 * uniformity(CIRCLE).item()
    assert extra_losses(ExtraLosses(0.1, 0.5), longer, labels).item() == pytest.approx(due)
    assert extra_losses(ExtraLosses(0.1), longer.bfloat16(), labels).item() == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize("loss", [ExtraLosses(0.1, 0), ExtraLosses(0, 0.5)])
@pytest.mark.parametrize("changes", [{}, {"precision": "bfloat16", "class_weights": "balanced"}])
def test_a_loss_reaches_the_body_and_the_history_stays_cross_entropy(
    loss: ExtraLosses, changes: dict[str, Any]
) -> None:
    """One step from the same tail: the cross-entropy is the same, the weights are not."""
    recipe = replace(PLAIN, epochs=1, batch_size=64, **changes)
    plain, changed = (cross_validated(replace(recipe, loss=chosen))[0] for chosen in (ExtraLosses(), loss))
    assert plain.history[0].loss == pytest.approx(changed.history[0].loss)
    assert not same(plain.state, changed.state)


def test_a_loss_pulls_the_features_as_it_says() -> None:
    def angle(loss: ExtraLosses) -> float:
        """The mean cosine of the training images of one class after the training."""
        tail = fresh_tail(0)
        recipe = replace(PLAIN, epochs=8, loss=loss)
        fit(tail, FIRST_24, recipe, device=CPU)
        features, labels = next(FIRST_24.train.clean(24))
        with torch.no_grad():
            unit = nn.functional.normalize(tail.eval().embed(features).flatten(1))
        return float((unit[labels == 0] @ unit[labels == 0].T).mean())

    assert angle(ExtraLosses(0, 5)) < angle(ExtraLosses()) < angle(ExtraLosses(5, 0))


def test_uniformity_goes_with_blended_images() -> None:
    fits = cross_validated(replace(PLAIN, epochs=1, mix=Mix(0.5), loss=ExtraLosses(0, 0.5)))
    assert math.isfinite(fits[0].history[0].loss)


@pytest.mark.parametrize(("changes", "key"), [({"loss": ExtraLosses(0.1)}, "loss"), ({"lr_decay": 0.5}, "lr_decay")])
def test_a_tail_with_nothing_to_train_before_its_head_refuses_it(changes: dict[str, Any], key: str) -> None:
    bare = Tail(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), None)
    with pytest.raises(ParamsError, match=f"recipe tiny: {key}: has no effect: nothing trains before the head"):
        fit(bare, FIRST_24, replace(PLAIN, **changes), device=CPU)
