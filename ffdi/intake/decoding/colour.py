"""Colours of an embedded profile -> sRGB.

A profile that describes sRGB changes no byte: it is applied to a lattice of colours, and where the result is within
rounding of those colours, the pixels are left as they are.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

_ROUNDING = (
    2  # levels of 255: profiles of sRGB differ by 1, the most similar other one (same primaries, gamma 2.2) by 9
)
_MODES = ("RGB", "L", "CMYK")  # modes that a profile can apply to


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image of mode RGB, L or CMYK by its profile to RGB.

    Returns the image itself where there is no profile, or one that is broken, for another mode, or sRGB.
    """
    transform = _transform(profile, image.mode) if profile and image.mode in _MODES else None
    if transform is None:
        return image
    from PIL import ImageCms

    converted: Image.Image | None = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None only when it works in place
    return converted


def is_srgb(profile: bytes | None, mode: str) -> bool:
    """Whether to_srgb changes nothing in pictures of that mode and profile."""
    return not profile or mode not in _MODES or _transform(profile, mode) is None


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> Any:
    """LittleCMS's transform to sRGB, relative colorimetric with black point compensation; threads may share it.

    None where to_srgb changes nothing.
    """
    from PIL import ImageCms

    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
        srgb = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform: Any = ImageCms.buildTransform(embedded, srgb, mode, "RGB", intent, flags)
        lattice = _lattice(mode)
        made: Any = ImageCms.applyTransform(lattice, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # broken, or for another mode
        return None
    if mode == "CMYK":  # a plain conversion of CMYK uses no profile, so there is nothing to compare with
        return transform
    change = np.abs(np.asarray(made, np.int16) - np.asarray(lattice.convert("RGB"), np.int16)).max()
    return transform if change > _ROUNDING else None


def _lattice(mode: str) -> Image.Image:
    """All greys, and a grid of the colours of a mode."""
    bands = len(mode)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], bands, axis=1)
    steps = np.linspace(0, 255, 9 if bands == 3 else 2).astype(np.uint8)
    colours = np.stack(np.meshgrid(*[steps] * bands, indexing="ij"), axis=-1).reshape(-1, bands)
    return Image.frombytes(mode, (1, len(greys) + len(colours)), np.concatenate([greys, colours]).tobytes())
