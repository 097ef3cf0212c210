"""What stands between the body, or the features themselves, and a head: a norm without anything to learn by gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import assert_never

from ffdi.features.devices import precision_on
from ffdi.tails.batches import FeatureTable
from ffdi.tails.modes import judging
from ffdi.tails.recipe import Norm
from ffdi.tails.row_norms import LAYER_EPSILON, deviation


def build_norm(norm: Norm, channels: int) -> nn.Module:
    """The norm of (B, D) vectors, (B, L, D) tokens or (B, D, H, W) maps with D `channels`; the identity for `none`."""
    match norm:
        case "none":
            return nn.Identity()
        case "l2" | "layer":
            return RowNorm(norm)
        case "standardise":
            return Standardise(channels)
    assert_never(norm)


class RowNorm(nn.Module):
    """Each vector, token or place on its own: `l2` to length 1, `layer` to mean 0 and variance 1."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        rows, axis = x.float(), channel_axis(x)
        if self.norm == "l2":
            return nn.functional.normalize(rows, dim=axis)
        centred = rows - rows.mean(axis, keepdim=True)
        return centred * (centred.square().mean(axis, keepdim=True) + LAYER_EPSILON).rsqrt()


class Standardise(nn.Module):
    """Each channel to mean 0 and standard deviation 1 of the training fold. `mean` and `std` (D,) are set before training:
    see `settle_norm`."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = [1] * x.ndim
        shape[channel_axis(x)] = -1
        return (x.float() - self.mean.view(shape)) / self.std.view(shape)

    def settle(self, mean: Tensor, std: Tensor) -> None:
        """Take these statistics (D,)."""
        with torch.no_grad():
            self.mean.copy_(mean)
            self.std.copy_(std)


def channel_axis(x: Tensor) -> int:
    """The axis of the channels in a batch of vectors, tokens (B, L, C) or maps (B, C, H, W)."""
    return 2 if x.ndim == 3 else 1


def settle_norm(tail: nn.Module, table: FeatureTable, batch_size: int, device: torch.device) -> None:
    """Give a tail's `standardise` the statistics of what its body makes of the clean views of `table`, the training fold.

    It runs once, before the training, in eval mode, but not in inference mode: what a network caches there could not be
    used in training. Nothing happens to a tail with another norm.
    """
    if not isinstance(tail.norm, Standardise):
        return
    count = 0
    total = squares = torch.zeros_like(tail.norm.mean, dtype=torch.float64, device=device)
    tail.to(device)
    with judging(tail), torch.no_grad(), precision_on(device, "float32"):
        for features, _ in table.clean(batch_size, device):
            x = tail.body(tail.normalised(features)).double()  # type: ignore[operator]
            others = [axis for axis in range(x.ndim) if axis != channel_axis(x)]
            total, squares = total + x.sum(others), squares + x.square().sum(others)
            count += x.numel() // x.shape[channel_axis(x)]
    mean, square = ((moment / count).cpu().numpy() for moment in (total, squares))
    std = deviation(mean, square - np.square(mean))
    tail.norm.settle(torch.from_numpy(mean), torch.from_numpy(std))
