"""The strengths of views as they were before degradations.py, to compare pixels with: a copy that is not to be edited."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter

BILINEAR = Image.Resampling.BILINEAR


def brightness(image: Image.Image, rng: Generator, low: float = 0.8, high: float = 1.2) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(rng.uniform(low, high))


def crop(image: Image.Image, rng: Generator, scale: float = 0.8, high: float = 1.0) -> Image.Image:
    side = image.width * float(np.sqrt(rng.uniform(scale, high)))
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    return image.resize(image.size, BILINEAR, box=(left, top, left + side, top + side))


def jpeg(image: Image.Image, rng: Generator, low: int = 50, high: int = 95) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(low, high + 1)))
    return Image.open(buffer).convert("RGB")


def blur(image: Image.Image, rng: Generator, sigma: float = 1.5, low: float = 0.1) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(low, sigma)))


def downscale(image: Image.Image, rng: Generator, low: float = 0.5, high: float = 1.0) -> Image.Image:
    side = max(1, round(image.width * rng.uniform(low, high)))
    return image.resize((side, side), BILINEAR).resize(image.size, BILINEAR)


def noise(image: Image.Image, rng: Generator, sigma: float = 5.0, low: float = 0.0) -> Image.Image:
    clean = np.asarray(image, np.float32)
    noisy = clean + rng.uniform(low, sigma) * rng.standard_normal(clean.shape, np.float32)
    return Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))


OPERATIONS: dict[str, Any] = {
    "brightness": brightness,
    "crop": crop,
    "jpeg": jpeg,
    "blur": blur,
    "downscale": downscale,
    "noise": noise,
}
