"""BatchNorm by the statistics of a whole batch of which each rank has a share: torch's SyncBatchNorm is for GPUs alone.

Ioffe and Szegedy, ICML 2015, with mean and variance over all ranks. The running statistics are the same bits on each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ffdi.tails.ranks import Team
from ffdi.tails.share import Share

_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


@contextmanager
def whole_batch_statistics(team: Team, share: Share) -> Iterator[None]:
    """In the body, each BatchNorm in train mode takes the statistics of all ranks' shares of the batch."""
    if team.size == 1 or share.copies > 1:
        yield
        return
    with _InPlaceOfBatchNorm(team, share):
        yield


@dataclass(frozen=True)
class _Statistics:
    """(C,) mean and (biased) variance of the whole batch, and the number of values of a channel in it."""

    mean: Tensor
    variance: Tensor
    count: int
    eps: float
    team: Team


class _InPlaceOfBatchNorm(TorchFunctionMode):
    """Sees every call of torch's `batch_norm`, whatever module makes it: timm has BatchNorms of its own."""

    def __init__(self, team: Team, share: Share) -> None:
        super().__init__()
        self.team, self.share = team, share

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not nn.functional.batch_norm:
            return function(*args, **(kwargs or {}))
        return self._batch_norm(**dict(zip(_ARGUMENTS, args, strict=False)), **(kwargs or {}))

    def _batch_norm(self, **given: Any) -> Tensor:
        """One without running statistics normalises kernels, which all ranks have alike."""
        x, running_mean, running_var = given["input"], given["running_mean"], given["running_var"]
        if not given.get("training") or running_mean is None or running_var is None:
            return nn.functional.batch_norm(**given)
        share, momentum = self.share, given.get("momentum", 0.1)
        count = x.numel() // x.shape[1] * share.whole // (share.stop - share.start)
        if count < 2:  # in the words of torch
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.size()}")
        found = _Statistics(*_moments(self.team, x), count, given.get("eps", 1e-5), self.team)
        with torch.no_grad():
            running_mean.lerp_(found.mean.to(running_mean.dtype), momentum)
            running_var.lerp_((found.variance * (count / (count - 1))).to(running_var.dtype), momentum)
        return _Normalise.apply(x, given.get("weight"), given.get("bias"), found)  # type: ignore[no-any-return]


def _moments(team: Team, x: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) mean and (biased) variance over all ranks' x (B, C, ...).

    The sums of squares are taken about each rank's own mean (Chan, Golub and LeVeque, 1979): nothing cancels.
    """
    variance, mean = torch.var_mean(x.detach().float(), _axes(x), correction=0)
    count = torch.full_like(mean[:1], x.numel() // x.shape[1])
    means, variances, counts = team.gather(torch.cat([mean, variance, count])).split([len(mean), len(mean), 1], dim=1)
    shares = counts / counts.sum()
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)


def _axes(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) x weight + bias, where mean and variance are functions of all ranks' x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, of: _Statistics) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.of, ctx.has_bias = of, bias is not None
        return nn.functional.batch_norm(x, of.mean, of.variance, weight, bias, False, 0.0, of.eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x, weight), of = ctx.saved_tensors, ctx.of
        gradient, axes, shape = gradients[0].float(), _axes(x), [1, -1] + [1] * (x.ndim - 2)
        scale = (of.variance + of.eps).rsqrt()
        normed = (x.float() - of.mean.view(shape)) * scale.view(shape)
        of_bias, of_weight = gradient.sum(axes), (gradient * normed).sum(axes)
        mean_bias, mean_weight = of.team.sum(torch.stack([of_bias, of_weight])) / of.count
        scale = scale if weight is None else scale * weight
        of_x = (gradient - mean_bias.view(shape) - normed * mean_weight.view(shape)) * scale.view(shape)
        return of_x.to(x.dtype), None if weight is None else of_weight, of_bias if ctx.has_bias else None, None
