"""Forge a portrait: blend a region of a donor's face into it.

The recipe is that of self-blended images (Shiohara & Yamasaki, CVPR 2022): a region's mask, bent elastically
and blurred; a source whose colour, sharpness and resolution differ a little from the target's; a slight local warp.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image

from ffdi.demo.fields import Field, blur, noise, resize, sample, soften, step

# Regions as superellipses in head units (see people.py): centre v, half-width, half-height.
REGIONS = {
    "eyes": (-0.04, 0.60, 0.25),
    "nose": (0.32, 0.33, 0.34),
    "mouth": (0.76, 0.46, 0.29),
    "face": (0.32, 0.62, 0.72),
}

# How strong the traces are; tuned on demo seeds 1 to 4, never on the one that is committed.
_COLOUR = 0.05  # deviation of the donor's gain per channel, after its colours were matched to the target's
_SHIFT = 0.014  # deviation of an offset per channel, in sRGB
_SCALES = (0.5, 0.8)  # the donor is reduced to this share of its size and enlarged again
_SHARPEN = 0.6  # at most: unsharp masking of the donor, or a blur of it
_EDGE = (4.0, 12.0)  # radius of the mask's blur, pixels
_OPACITY = (0.75, 0.95)
_WARP = 1.6  # pixels: deviation of the local warp


def forge(target: Field, face: Field, donor: Field, region: str, random: Generator) -> Field:
    """Blend the donor's region into the target.

    target, donor: (3, S, S) sRGB in 0..1, in the same pose; face: (2, S, S) the target's head coordinates.
    Returns a new (3, S, S) picture.
    """
    mask = region_mask(face, region, random)
    source = _match(_resampled(_warped(donor, random), random), target, mask, random)
    return target + (source - target) * mask


def region_mask(face: Field, region: str, random: Generator) -> Field:
    """(S, S) opacity of a region: a superellipse on the head, bent, blurred, and nothing beyond the head."""
    centre, wide, tall = REGIONS[region]
    u, v = face
    size = u.shape[0]
    u = u - random.normal(0, 0.02) + 0.05 * noise(random, u.shape, 5)
    v = v - random.normal(0, 0.02) + 0.05 * noise(random, u.shape, 5)
    wide, tall = wide * random.uniform(0.9, 1.1), tall * random.uniform(0.9, 1.1)
    inside = step(1.05, 0.95, (np.abs(u / wide) ** 2.6 + np.abs((v - centre) / tall) ** 2.6) ** (1 / 2.6))
    radius = random.uniform(*_EDGE) * size / 256
    soft: Field = soften(soften(inside, radius), radius / 2).clip(0, 1)
    return soft * random.uniform(*_OPACITY)


def _warped(picture: Field, random: Generator) -> Field:
    size = picture.shape[-1]
    grid = np.arange(size, dtype=np.float32)
    row = np.clip(grid[:, None] + _WARP * noise(random, (size, size), 6), 0, size - 1.01)
    column = np.clip(grid[None, :] + _WARP * noise(random, (size, size), 6), 0, size - 1.01)
    return np.stack([sample(plane, row, column) for plane in picture])


def _resampled(picture: Field, random: Generator) -> Field:
    """Down and up again, then sharpened or blurred a little: another camera, another resolution."""
    size = picture.shape[-1]
    small = round(size * random.uniform(*_SCALES))
    picture = resize(resize(picture, small, small, Image.Resampling.BILINEAR), size, size)
    return picture + (picture - blur(picture, 1.2)) * random.uniform(-_SHARPEN, _SHARPEN)


def _match(source: Field, target: Field, mask: Field, random: Generator) -> Field:
    """Match the source's mean and spread of colour under the mask to the target's, up to a small random error."""
    weight = mask / max(float(mask.sum()), 1e-6)
    out = np.empty_like(source)
    for channel, (ours, theirs) in enumerate(zip(source, target, strict=True)):
        mean, wanted = float((ours * weight).sum()), float((theirs * weight).sum())
        spread = float((((ours - mean) ** 2) * weight).sum()) ** 0.5
        goal = float((((theirs - wanted) ** 2) * weight).sum()) ** 0.5
        gain = np.clip(goal / max(spread, 1e-3), 0.7, 1.4) * (1 + random.normal(0, _COLOUR))
        out[channel] = (ours - mean) * gain + wanted + random.normal(0, _SHIFT)
    return out


# In a photo to self-blend: the middle between the eyes and the length of a head unit, in shares of the picture's side, as
# in most crops of faces. Landmarks would be more exact, but need a network of their own.
_EYES = (0.5, 0.42)
_HEAD_UNIT = 0.45
_MOVE = 0.02  # of the side: deviation of the donor's offset
_ZOOM = 0.03  # deviation of its scale


def self_blend(picture: Field, random: Generator) -> Field:
    """Forge a photo of a face with its own picture as the donor, a little moved, resampled and recoloured.

    picture: (3, S, S) sRGB in 0..1, a face about in the middle. Returns a new (3, S, S) picture in 0..1.
    """
    size = picture.shape[-1]
    grid = np.arange(size, dtype=np.float32) / size
    unit = _HEAD_UNIT * random.uniform(0.85, 1.15)
    across, down = (centre + random.normal(0, 0.03) for centre in _EYES)
    u, v = np.meshgrid((grid - across) / unit, (grid - down) / unit)
    region = str(random.choice(list(REGIONS)))
    forged = forge(picture, np.stack([u, v]), _moved(picture, random), region, random)
    return np.clip(forged, 0, 1)


def _moved(picture: Field, random: Generator) -> Field:
    size = picture.shape[-1]
    middle = (size - 1) / 2
    zoom = 1 + random.normal(0, _ZOOM)
    across, down = (
        np.clip((np.arange(size, dtype=np.float32) - middle) * zoom + middle + shift, 0, size - 1.01)
        for shift in random.normal(0, _MOVE * size, 2)
    )
    column, row = np.meshgrid(across, down)
    return np.stack([sample(plane, row, column) for plane in picture])
