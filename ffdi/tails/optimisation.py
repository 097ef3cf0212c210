"""The settings of a recipe on how its weights follow the loss. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from typing_extensions import assert_never

from ffdi.bounds import LATER, Fraction, NonNegative, NonNegativeFloat, Positive, PositiveFloat


@dataclass(frozen=True)
class Optimizer:
    """`adam` couples weight decay with the gradient; `adamw` decouples it."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """`adam` couples weight decay with the gradient, `adamw` decouples it."""

    weight_decay: NonNegativeFloat = 0.0
    """The weight decay."""

    momentum: Fraction | None = None
    """Of `sgd`; `null` is .9."""

    decayed: Annotated[Literal["all", "weights"], LATER] = "all"
    """What decays: `all` that trains, or only the `weights` of layers: no norms, biases, position embeddings, tokens."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes over the epochs."""

    name: Literal["none", "step", "cosine"] = "none"
    """`none` keeps it; `step` multiplies it by `gamma` every `size` epochs; `cosine` lets it fall to 0."""

    size: Positive = 1
    """Schedule step: the number of epochs between two steps."""

    gamma: PositiveFloat = 0.1
    """Schedule step: the factor of each step."""

    warmup: NonNegative = 0
    """Schedule cosine: the number of epochs of a linear rise at the start."""

    def factor(self, epoch: float, epochs: int) -> float:
        """What the learning rate is multiplied by at a fractional epoch."""
        match self.name:
            case "none":
                return 1.0
            case "step":
                return float(self.gamma ** (int(epoch) // self.size))
            case "cosine":
                if epoch < self.warmup:
                    return (epoch + 1e-3) / self.warmup  # not 0: the first step would be lost
                return 0.5 * (1 + math.cos(math.pi * (epoch - self.warmup) / max(epochs - self.warmup, 1e-9)))
        assert_never(self.name)


@dataclass(frozen=True)
class Mix:
    """Blends of two images of a batch, and of their labels."""

    mixup: NonNegativeFloat = 0.0
    """The alpha of mixup, which blends two images; 0 is none."""

    cutmix: NonNegativeFloat = 0.0
    """The alpha of cutmix, which pastes a rectangle of another image; 0 is none."""

    @property
    def wanted(self) -> bool:
        """Whether any has an alpha."""
        return bool(self.mixup or self.cutmix)


@dataclass(frozen=True)
class ExtraLosses:
    """Losses beside the cross-entropy, on what the head reads, each vector normalised to length 1."""

    alignment: NonNegativeFloat = 0.0
    """The weight of the mean squared distance between two images of one class: see [training.md](training.md)."""

    uniformity: NonNegativeFloat = 0.0
    """The weight of how unevenly the images of a batch lie on the sphere: see [training.md](training.md)."""

    @property
    def wanted(self) -> bool:
        """Whether any has a weight."""
        return bool(self.alignment or self.uniformity)
