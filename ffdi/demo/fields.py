"""Small pieces of drawing on float32 fields: smooth steps, bumps, noise, sampling, resampling."""

from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Field: TypeAlias = NDArray[np.floating[Any]]  # float32 wherever it is large


def step(low: float, high: float, x: Field) -> Field:
    """Smoothstep: 0 below `low`, 1 above `high`; falling where low > high. Same shape as x."""
    t: Field = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(u: Field, v: Field, at_u: float, at_v: float, size_u: float, size_v: float) -> Field:
    """A Gaussian hill of height 1; the sizes are its sqrt(2) standard deviations."""
    hill: Field = np.exp(-(((u - at_u) / size_u) ** 2) - ((v - at_v) / size_v) ** 2)
    return hill


def resize(field: Field, height: int, width: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Field:
    """(H, W) or (C, H, W) float32 -> the same at another size."""
    if field.ndim == 3:
        return np.stack([resize(plane, height, width, how) for plane in field])
    return np.asarray(Image.fromarray(field).resize((width, height), how), dtype=np.float32)


def noise(random: Generator, shape: tuple[int, ...], cells: int, octaves: int = 1) -> Field:
    """Smooth (H, W) noise of about unit deviation: octaves of random grids, `cells` cells along the shorter side."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        grid = max(2, cells * 2**octave)
        rows, columns = (max(2, grid * side // min(shape)) for side in shape)
        knots = random.standard_normal((rows, columns), dtype=np.float32)
        total += resize(knots, height, width) * (1.35 / 2**octave)
    return total


def sample(field: Field, row: Field, column: Field) -> Field:
    """Bilinear look-up in an (H, W) field that repeats endlessly, at fractional rows and columns of one shape."""
    height, width = field.shape
    top, left = np.floor(row), np.floor(column)
    down, right = row - top, column - left
    top_at, left_at = top.astype(np.int32) % height, left.astype(np.int32) % width
    flat, below, beside = field.ravel(), (top_at + 1) % height, (left_at + 1) % width
    upper = flat[top_at * width + left_at] * (1 - right) + flat[top_at * width + beside] * right
    lower = flat[below * width + left_at] * (1 - right) + flat[below * width + beside] * right
    values: Field = upper * (1 - down) + lower * down
    return values


def soften(field: Field, radius: float) -> Field:
    """Blur by shrinking to 1/radius and back: wide, cheap and smooth. (H, W) or (C, H, W)."""
    height, width = field.shape[-2:]
    small = max(2, round(height / radius)), max(2, round(width / radius))
    return resize(resize(field, *small, Image.Resampling.BOX), height, width)


def blur(field: Field, sigma: float) -> Field:
    """A small Gaussian blur (sigma in pixels, up to about 2) along both last axes; edges repeat."""
    reach = max(1, round(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    for axis in (-1, -2):
        width = [(0, 0)] * field.ndim
        width[axis] = (reach, reach)
        padded = np.pad(field, width, mode="edge")
        size = field.shape[axis]
        parts = (tap * np.take(padded, range(k, k + size), axis) for k, tap in enumerate(taps))
        field = np.asarray(sum(parts), dtype=np.float32)
    return field
