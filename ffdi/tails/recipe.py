"""The settings of a recipe: which features it reads, which head it trains, and how. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt

from ffdi.bounds import Fraction, FractionBelow1, NonNegative, NonNegativeFloat, Positive, PositiveFloat


@dataclass(frozen=True)
class Head:
    """The new layers on top of the network's body; they give two logits, real and fake."""

    kind: Literal["linear", "mlp", "transformer"] = "mlp"
    hidden: tuple[Positive, ...] = (512, 256)
    dropout: Fraction = 0.0
    depth: Positive = 2
    heads: Positive = 4
    width: Positive = 128
    drop_path: FractionBelow1 = 0.0


@dataclass(frozen=True)
class Optimizer:
    """`adam` couples weight decay with the gradient; `adamw` decouples it."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: NonNegativeFloat = 0.0
    momentum: Fraction | None = None


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes over the epochs."""

    name: Literal["none", "step", "cosine"] = "none"
    size: Positive = 1
    gamma: PositiveFloat = 0.1
    warmup: NonNegative = 0

    def factor(self, epoch: float, epochs: int) -> float:
        """What the learning rate is multiplied by at a fractional epoch."""
        if self.name == "step":
            return float(self.gamma ** (int(epoch) // self.size))
        if self.name == "cosine":
            if epoch < self.warmup:
                return (epoch + 1e-3) / self.warmup
            return 0.5 * (1 + math.cos(math.pi * (epoch - self.warmup) / max(epochs - self.warmup, 1e-9)))
        return 1.0


@dataclass(frozen=True)
class Mix:
    """Blends of two images of a batch, and of their labels."""

    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0


@dataclass(frozen=True)
class Recipe:
    """An entry of `recipes` in params.yaml. bundle.json stores the fields in this order."""

    name: str
    backbone: str
    head: Head = Head()
    folds: Literal["all"] | Positive = "all"
    views: Literal["sample", "all"] = "sample"
    epochs: Positive = 10
    patience: Positive | None = None
    batch_size: Positive = 64
    optimizer: Optimizer = Optimizer()
    lr: PositiveFloat = 1e-4
    schedule: Schedule = Schedule()
    l1: NonNegativeFloat = 0.0
    label_smoothing: FractionBelow1 = 0.0
    class_weights: Literal["balanced"] | tuple[PositiveFloat, PositiveFloat] | None = None
    clip_grad: PositiveFloat | None = None
    ema: Annotated[float, Gt(0.0), Lt(1.0)] | None = None
    mix: Mix = Mix()
    augment: tuple[str | dict[str, Any], ...] = ()
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    seed: NonNegative = 0
