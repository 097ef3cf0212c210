"""Eval mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def judging(module: nn.Module) -> Iterator[None]:
    """`module` in eval mode. Afterwards each module in it has the mode that it had: what was still stays still."""
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        yield
    finally:
        module.train(modes[module])  # which a network's code may have a function of its own for
        for part, training in modes.items():
            part.training = training
