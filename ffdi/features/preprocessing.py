"""What a network sees of an image: its size and its normalisation. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

Channels = tuple[float, float, float]  # red, green, blue
SIZE = 224
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """The network is given squares of `size` pixels, as (v / 255 - mean) / std of each channel."""

    size: int
    mean: Channels
    std: Channels
