"""What goes wrong in a training is said in one line that names what it is and what to try."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import CPU, FIRST_24, PLAIN, cross_validated, fresh_tail
from torch import Tensor, nn

from ffdi.errors import FfdiError, NetworkError, ParamsError, network_code, placed
from ffdi.tails.failures import refuse_divergence
from ffdi.tails.heads import Tail
from ffdi.tails.train import fit


def test_a_batch_of_one_that_batchnorm_cannot_take_is_refused() -> None:
    """Behind the pooling a batch of one has one value of each channel; on maps of 2x2 it has four."""
    body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    tail = Tail(body, nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), None)
    with pytest.raises(ParamsError, match=r"fold 0, epoch 0: batch_size 1: BatchNorm .*: set batch_size to 2 or more"):
        fit(tail, FIRST_24, replace(PLAIN, batch_size=1), device=CPU)
    cross_validated(replace(PLAIN, batch_size=1, epochs=1))


class Overflow(nn.Module):
    """Infinite in eval mode alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x * float("inf")


@pytest.mark.parametrize(("norm", "says"), [(nn.BatchNorm2d(4), r"running statistics"), (nn.Identity(), r"are: train")])
def test_validation_logits_that_are_not_finite_are_not_the_losss_fault(norm: nn.Module, says: str) -> None:
    tail = Tail(nn.Sequential(norm, Overflow()), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), None)
    with pytest.raises(FfdiError) as error:
        fit(tail, FIRST_24, PLAIN, device=CPU)
    said = str(error.value)
    assert said.startswith("fold 0, epoch 0: 12 of 12 validation logits are not finite, first behind body.1 (Overflow)")
    assert "the mean loss (" in said and said.endswith("lower lr (is 0.01)") and "\n" not in said
    assert says.replace("\\", "") in said
    assert not any(module._forward_hooks for module in (tail.head, tail.body))


def test_weights_that_are_not_finite_are_named() -> None:
    tail = fresh_tail(0)
    with torch.no_grad():
        tail.head[2].bias[1] = float("nan")
    logits = np.array([0.0, np.nan])
    with pytest.raises(FfdiError, match=r"diverged \(mean loss 0.5, 1 of 9 tensors .* first head\.2\.bias\): lower lr"):
        refuse_divergence(0.5, logits, tail, lambda: None, 0.1)
    with pytest.raises(FfdiError, match=r"diverged \(mean loss nan\): lower lr \(is 0\.1\)"):
        refuse_divergence(float("nan"), logits, fresh_tail(0), lambda: None, 0.1)
    refuse_divergence(0.5, np.zeros(2), fresh_tail(0), lambda: None, 0.1)


class Picky(nn.Module):
    """Code of a network that fails, as if it had been written for another size."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("size mismatch:\n  7 and 14")


class PickyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        raise KeyError("saved")


class NoGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return PickyGradient.apply(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("body", "says"), [(Picky(), "RuntimeError: size mismatch: 7 and 14"), (NoGradient(), "KeyError: 'saved'")]
)
def test_what_a_networks_code_raises_is_one_line(body: nn.Module, says: str) -> None:
    tail = Tail(nn.Sequential(nn.Conv2d(4, 4, 1), body), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), None)
    with pytest.raises(NetworkError) as error, network_code("backbones.b: timm:x cut at y, 8 pixels"):
        fit(tail, FIRST_24, PLAIN, device=CPU)
    place = "backbones.b: timm:x cut at y, 8 pixels: the network's code fails"
    assert str(error.value) == f"{place} ({says}): try another cut or image_size"


def test_faults_of_this_library_and_memory_that_ran_out_are_not_the_networks() -> None:
    with pytest.raises(ZeroDivisionError), network_code("b"):
        print(1 / 0)

    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError), network_code("b"):
        Large()(torch.zeros(1))
    with pytest.raises(ParamsError, match=r"^fold 1: no$"), network_code("b"), placed("fold 1"):
        raise ParamsError("no")
