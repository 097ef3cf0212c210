"""Pictures as a graph is given them, with the scores that the model gives them: what an export is checked on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from ffdi.errors import InputError
from ffdi.features.decoders import Decoder, Read
from ffdi.intake.decoding.images import RGB, UnreadableImage, to_array
from ffdi.tails.checkpoint import Scores
from ffdi.tails.model import Model
from ffdi.tails.predict import score_images

CHECKED = 100
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Squares:
    """`pixels` (N, S, S, 3) uint8 of pictures as the model sees them, and its `scores` (N,) of the same pictures."""

    pixels: RGB
    scores: Scores

    @classmethod
    def of(cls, model: Model, pictures: Sequence[tuple[str, Read]], max_pixels: int = MAX_PIXELS) -> Squares:
        """Those of pictures that the model can read; InputError names one that it cannot."""
        scores = []
        scored = score_images(model, pictures, max_pixels=max_pixels, device=torch.device("cpu"))
        for (name, _), score in zip(pictures, scored, strict=True):
            if isinstance(score, str):
                raise InputError(f"{name}: {score}")
            scores.append(score.mean)
        return cls(squares_of(model, pictures, max_pixels), np.array(scores))


def squares_of(model: Model, pictures: Sequence[tuple[str, Read]], max_pixels: int = MAX_PIXELS) -> RGB:
    """(N, S, S, 3) squares of pictures, as the decoder of the model's first part makes them."""
    squares: list[RGB] = []
    decoded = Decoder(model.parts[0].backbone, max_pixels=max_pixels)(pictures)
    for (name, _), square in zip(pictures, decoded, strict=True):
        if isinstance(square, UnreadableImage):
            raise InputError(f"{name}: {square}")
        squares.append(to_array(square))
    return np.stack(squares)


def drawn_pictures(count: int = CHECKED) -> list[tuple[str, Read]]:
    """Pictures with the spectrum of photos, roughly: smooth fields of colour of several scales, edges, and noise; seeded."""
    return [(f"drawn picture {seed}", partial(drawn_picture, seed)) for seed in range(count)]


def drawn_picture(seed: int) -> bytes:
    """The PNG of one of them, 256 x 240 pixels."""
    rng, (width, height) = np.random.default_rng(seed), (256, 240)
    field = np.zeros((height, width, 3))
    for scale in (2, 5, 12, 40):
        coarse = rng.normal(size=(scale, scale, 3)).astype(np.float32)
        planes = [Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        field += np.stack([np.asarray(plane) for plane in planes], axis=2) * 60 / scale**0.7
    top, left = rng.integers(0, 120, 2)
    field[top : top + 90, left : left + 110] += rng.normal(size=3) * 40
    field += rng.uniform(60, 190) + rng.normal(size=field.shape) * rng.uniform(0, 12)
    data = io.BytesIO()
    Image.fromarray(np.clip(field, 0, 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()
