"""A picture as 64x64 grey pixels, its variants (rotated, turned, exposed, cropped) and their hashes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Sketches = npt.NDArray[np.uint8]  # (N, 64, 64), or one: (64, 64)
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]  # (N,)

SKETCH = 64  # pixels across; grey
_SMALL = 32  # pixels across, as pHash has it
_SIDES = (0.975, 0.95, 0.925, 0.9, 0.875, 0.85, 0.825, 0.8)
_STEP = 0.025  # between crops, of the image's side
_ANGLES = tuple(angle for angle in range(-20, 21, 2) if angle)
_EXPOSURES = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0)  # beyond white: perceptual hashes do not survive clipping
_RESAMPLING = Image.Resampling.LANCZOS


def sketch(image: Image.Image) -> Sketches:
    """(64, 64) uint8, grey: all that the search needs of an image."""
    return np.asarray(image.convert("L").resize((SKETCH, SKETCH), _RESAMPLING))


def variant_hashes(sketched: Sketches) -> Hashes:
    """(V,) uint64: the pHash of every variant of a sketch, in the order of `variants`."""
    wholes = whole_variants(sketched)
    low = [(_frequencies() @ whole @ _frequencies().T)[None] for whole in wholes]
    picture = wholes[0]
    for projection in _crops():  # all crops of one size at once: (8n, 64) @ (64, 64) @ (64, 8n)
        n = len(projection) // 8
        grid = (projection @ picture @ projection.T).reshape(n, 8, n, 8).transpose(0, 2, 1, 3)
        low.append(grid.reshape(n * n, 8, 8))
    return _bits(np.concatenate(low))


def render(sketched: Sketches, variant: int) -> Floats:
    """(32, 32) float: one variant of a sketch; its number is that in variant_hashes and `variants`."""
    whole, rows, columns = variants()[variant]
    top, left = _resampler(*rows), _resampler(*columns)
    return np.asarray(top @ whole_variants(sketched, whole)[0] @ left.T)


@cache
def variants() -> tuple[tuple[int, tuple[float, float], tuple[float, float]], ...]:
    """(whole variant, rows, columns) of every variant: the whole variants, then each crop of the sketch as it is."""
    full = (0.0, 1.0)
    wholes = [(number, full, full) for number in range(_WHOLE_VARIANTS)]
    return (*wholes, *((0, rows, columns) for side in _SIDES for rows in _spans(side) for columns in _spans(side)))


def _spans(side: float) -> list[tuple[float, float]]:
    """Where a crop of this share of the side begins and ends, in even steps."""
    starts = np.linspace(0, 1 - side, round((1 - side) / _STEP) + 1)
    return [(float(start), float(start) + side) for start in starts]


_WHOLE_VARIANTS = 1 + len(_ANGLES) + 3 + len(_EXPOSURES) + 1


def whole_variants(sketched: Sketches, only: int | None = None) -> list[Floats]:
    """The sketch as it is, rotated on black, upside down, a quarter left and right, overexposed, equalised.

    With `only`, a list of that one alone."""
    image = Image.fromarray(sketched)
    makers: list[Callable[[], Image.Image]] = [
        lambda: image,
        *((lambda a=a: image.rotate(a, Image.Resampling.BILINEAR)) for a in _ANGLES),
        lambda: ImageOps.flip(image),
        lambda: image.transpose(Image.Transpose.ROTATE_90),
        lambda: image.transpose(Image.Transpose.ROTATE_270),
        *((lambda e=e: image.point(lambda v: min(255, int(v * e)))) for e in _EXPOSURES),
        lambda: ImageOps.equalize(image),
    ]
    return [np.asarray(make(), np.float64) for make in (makers if only is None else [makers[only]])]


@cache
def _resampler(start: float, stop: float) -> Floats:
    """(32, 64): resamples start..stop of a line to 32 pixels, with Pillow's own filter."""
    lines = Image.fromarray(np.eye(SKETCH, dtype=np.float32))
    box = (0.0, start * SKETCH, float(SKETCH), stop * SKETCH)
    return np.asarray(lines.resize((SKETCH, _SMALL), _RESAMPLING, box=box), np.float64)


@cache
def _cosines() -> Floats:
    """(8, 32): the lowest frequencies of the DCT-II."""
    return np.asarray(np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(_SMALL)[None] + 1) / (2 * _SMALL)))


@cache
def _frequencies() -> Floats:
    """(8, 64): maps a line of a sketch to its lowest frequencies."""
    return np.asarray(_cosines() @ _resampler(0.0, 1.0))


@cache
def _crops() -> tuple[Floats, ...]:
    """For each size of crop (8n, 64): maps a line of a sketch to the lowest frequencies of its n spans."""
    return tuple(np.concatenate([_cosines() @ _resampler(*span) for span in _spans(side)]) for side in _SIDES)


def small(sketches: npt.NDArray[Any]) -> Floats:
    """(..., 32, 32) float of (..., 64, 64) sketches."""
    return np.asarray(_resampler(0.0, 1.0) @ sketches.astype(np.float64) @ _resampler(0.0, 1.0).T)


def hash_small(pictures: Floats) -> Hashes:
    """pHash (Zauner 2010) of (N, 32, 32) pictures -> (N,) uint64."""
    return _bits(_cosines() @ pictures @ _cosines().T)


def _bits(low: Floats) -> Hashes:
    """(N, 8, 8) frequencies -> (N,) uint64: which are above their median."""
    flat = low.reshape(len(low), 64)
    above = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").astype(np.uint64).ravel()
