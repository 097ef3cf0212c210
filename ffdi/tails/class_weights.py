"""How much each class weighs in a loss or a vote."""

from __future__ import annotations

import torch
from torch import Tensor

from ffdi.tails.recipe import CLASSES, Recipe


def class_weights(recipe: Recipe, labels: Tensor) -> Tensor | None:
    """(2,) float32 weights of real and fake in the loss, or None; `balanced`: N / (2 x the class's number)."""
    if recipe.class_weights is None:
        return None
    if recipe.class_weights == "balanced":
        counts = torch.bincount(labels, minlength=CLASSES).clamp(min=1)
        return len(labels) / (CLASSES * counts.float())
    return torch.tensor(recipe.class_weights)
