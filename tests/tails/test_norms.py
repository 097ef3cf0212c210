"""The norms before a head, by hand, and where their statistics come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import CPU, FIRST_24, PLAIN, fresh_tail
from torch import Tensor, nn

from ffdi.tails.heads import Tail
from ffdi.tails.norms import Standardise, build_norm, settle_norm
from ffdi.tails.recipe import Norm
from ffdi.tails.row_norms import row_normalised
from ffdi.tails.train import fit

VECTOR = torch.tensor([[3.0, 0.0, -4.0, 1.0]])


@pytest.mark.parametrize("norm", ["none", "l2", "layer"])
@pytest.mark.parametrize("shape", [(5, 4), (5, 6, 4), (5, 4, 2, 3)], ids=str)
def test_every_vector_token_and_place_is_normalised_over_its_channels(norm: Norm, shape: tuple[int, ...]) -> None:
    """As the probe does it in NumPy, which fits what the tail computes."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1
    axis = 2 if len(shape) == 3 else 1
    rows = x.movedim(axis, -1).reshape(-1, 4)
    found = build_norm(norm, 4)(x).movedim(axis, -1).reshape(-1, 4)
    assert np.allclose(found.numpy(), row_normalised(rows.numpy(), norm), atol=1e-6)


def test_the_norms_by_hand() -> None:
    assert build_norm("l2", 4)(VECTOR).tolist()[0] == pytest.approx(np.array([3, 0, -4, 1]) / np.sqrt(26))
    assert build_norm("layer", 4)(VECTOR).tolist()[0] == pytest.approx(np.array([3, 0, -4, 1]) / np.sqrt(6.5), abs=1e-5)
    assert build_norm("l2", 4)(torch.zeros(1, 4)).tolist() == [[0.0] * 4]  # no division by nothing


def standardised() -> Tail:
    plain = fresh_tail(0)
    return Tail(plain.body, plain.head, None, Standardise(6))


def behind_body(tail: Tail, at: Tensor) -> Tensor:
    features = FIRST_24.train.source.features[FIRST_24.train.first[at]]  # type: ignore[attr-defined]
    with torch.inference_mode():
        return tail.body(tail.normalised(features))  # type: ignore[no-any-return]


def test_standardise_takes_the_clean_views_of_the_training_fold_behind_the_body() -> None:
    tail = standardised()
    before = {k: v.clone() for k, v in tail.body.state_dict().items()}
    settle_norm(tail.train(), FIRST_24.train, 7, CPU)
    assert tail.training and all(torch.equal(v, before[k]) for k, v in tail.body.state_dict().items())
    rows = behind_body(tail.eval(), torch.arange(24)).double()
    assert tail.norm.mean.tolist() == pytest.approx(rows.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert tail.norm.std.tolist() == pytest.approx(rows.std((0, 2, 3), correction=0).tolist(), abs=1e-6)
    with torch.inference_mode():
        made = tail.norm(behind_body(tail, torch.arange(24)))
    assert made.mean((0, 2, 3)).tolist() == pytest.approx([0] * 6, abs=1e-5)


def test_a_network_that_caches_trains_behind_standardise() -> None:
    """What it caches in inference mode could not be used in training."""

    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.scale = nn.Parameter(torch.ones(1)), torch.empty(0)

        def forward(self, x: Tensor) -> Tensor:
            self.scale = self.scale if len(self.scale) else torch.full((1,), 2.0)
            return x.mean((2, 3)) * self.weight * self.scale

    tail = Tail(Caches(), nn.Linear(4, 2), None, Standardise(4))
    assert fit(tail, FIRST_24, replace(PLAIN, epochs=1), device=CPU).history[0].loss > 0


def test_a_training_settles_the_norm_before_its_first_step() -> None:
    due = standardised()
    settle_norm(due, FIRST_24.train, 8, CPU)
    fitted = fit(standardised(), FIRST_24, replace(PLAIN, epochs=1), device=CPU)
    for key in ("norm.mean", "norm.std"):
        assert torch.equal(fitted.state[key], due.state_dict()[key])
    other = fit(standardised(), replace(FIRST_24, train=FIRST_24.validation), replace(PLAIN, epochs=1), device=CPU)
    assert not torch.equal(fitted.state["norm.mean"], other.state["norm.mean"])


def test_a_channel_that_never_changes_keeps_its_scale() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 6), 0.1)

    tail = Tail(Constant(), nn.Linear(6, 2), None, Standardise(6))
    settle_norm(tail, FIRST_24.train, 5, CPU)
    assert tail.norm.std.tolist() == [1.0] * 6
