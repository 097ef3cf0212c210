"""The moving average of a tail's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ffdi.tails.trainable import Trained, copy_sharing


class MovingAverage:
    """The exponential moving average of what trains in a tail: weights, and the buffers of their modules.

    `module` is the tail with the averages in their place; what is frozen it has in common with the tail. The first update
    copies, each later one gives decay x average + (1 - decay) x weights.
    """

    def __init__(self, tail: nn.Module, decay: float, trained: Trained) -> None:
        self.module: nn.Module = copy_sharing(tail, trained.names)
        self.started = False
        self._blend = get_ema_multi_avg_fn(decay)
        self._pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        averages, weights = trained.state(self.module), trained.state(tail)
        for name, average in averages.items():
            mine, theirs = self._pairs.setdefault(average.dtype, ([], []))
            mine.append(average)
            theirs.append(weights[name])

    @torch.no_grad()
    def update(self) -> None:
        """Follow the tail after a step."""
        for averages, weights in self._pairs.values():
            if self.started:
                self._blend(averages, weights, 0)
            else:
                torch._foreach_copy_(averages, weights)
        self.started = True
