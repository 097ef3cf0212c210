"""Colours of an embedded profile -> sRGB.

A profile that says sRGB in its own words changes no byte: what it makes of a lattice of colours is looked at, and where
that is within rounding of the colours themselves, the pixels are left alone.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

_ROUNDING = 2  # levels of 255: makes of sRGB differ by 1, the nearest other (its primaries, a gamma of 2.2) by 9
_MODES = ("RGB", "L", "CMYK")  # of pictures that profiles are for


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode RGB, L or CMYK by its profile, as RGB; the image itself where the profile asks for no change.

    So it is where there is none, where it cannot be read, where it is of another kind of picture, and where it is sRGB.
    """
    transform = _transform(profile, image.mode) if profile and image.mode in _MODES else None
    if transform is None:
        return image
    from PIL import ImageCms

    converted: Image.Image | None = ImageCms.applyTransform(image, transform)
    assert converted is not None  # which it is where it is asked to work in place
    return converted


def is_srgb(profile: bytes | None, mode: str) -> bool:
    """Whether to_srgb leaves pictures of that mode and profile alone."""
    return not profile or mode not in _MODES or _transform(profile, mode) is None


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> Any:
    """LittleCMS's transform to sRGB (relative colorimetric, black to black), which threads may share; else None."""
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
        srgb = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform: Any = ImageCms.buildTransform(own, srgb, mode, "RGB", intent, flags)
        lattice = _lattice(mode)
        made: Any = ImageCms.applyTransform(lattice, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # broken, or of another kind of picture
        return None
    if mode == "CMYK":  # whose plain conversion is none of a profile's
        return transform
    change = np.abs(np.asarray(made, np.int16) - np.asarray(lattice.convert("RGB"), np.int16)).max()
    return transform if change > _ROUNDING else None


def _lattice(mode: str) -> Image.Image:
    """All greys, and colours all over the space of a mode."""
    bands = len(mode)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], bands, axis=1)
    steps = np.linspace(0, 255, 9 if bands == 3 else 2).astype(np.uint8)
    colours = np.stack(np.meshgrid(*[steps] * bands, indexing="ij"), axis=-1).reshape(-1, bands)
    return Image.frombytes(mode, (1, len(greys) + len(colours)), np.concatenate([greys, colours]).tobytes())
