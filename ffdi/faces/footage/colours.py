"""High dynamic range and wide primaries -> sRGB.

The rule, in linear light of which 1 is the white of a page, 203 cd/m2 (ITU-R BT.2408):

1. PQ is decoded by SMPTE ST 2084. HLG is decoded by BT.2100 for a screen of 1000 cd/m2: inverse OETF, then the system
   gamma 1.2 on the luminance. Other curves, which wide primaries may come with, are taken as a gamma of 2.2.
2. The primaries become those of BT.709 by the matrix between them; colours that sRGB has not are clipped, after 3.
3. HDR only: all channels are multiplied by f(m) / m, where m is the largest of them. f leaves light up to 0.5 as it is and
   bends what is above so that 1000 cd/m2 becomes 1: 0.5 + 0.5 t (1 + t / T^2) / (1 + t), where t = (m - 0.5) / 0.5 and
   T is the t of 1000 cd/m2 (Reinhard et al. 2002, formula 4). So skin, which is below, keeps its light and its hue.
4. The curve of sRGB (that gamma where it was one), and 8 bits, rounded.

No metadata of the file's mastering plays a part: it is often missing, or wrong.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

PQ, HLG = 16, 18  # H.273's numbers of transfer curves
HDR_CURVES = (PQ, HLG)
_WHITE, _PEAK = 203.0, 1000.0  # cd/m2
_GAMMA = 2.2
_KNEE = 0.5
_LEVELS = 4096  # of the tables; 12 bits are more than a file has
_ROWS = 256  # that are converted at once: a picture in float32 is four times as large

_Linear = npt.NDArray[np.float32]

# (3, 3): linear RGB of those primaries (H.273's numbers) -> that of BT.709, both with the white D65.
_FROM_BT2020 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
_FROM_P3 = (
    (1.224940, -0.224940, 0.0),
    (-0.042057, 1.042057, 0.0),
    (-0.019638, -0.078636, 1.098274),
)
WIDE_PRIMARIES = {9: _FROM_BT2020, 11: _FROM_P3, 12: _FROM_P3}
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of linear RGB with primaries of BT.2020


def to_standard(pixels: npt.NDArray[np.uint16], curve: int, primaries: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint16 coded values of full range, by a transfer curve and primaries of H.273 -> uint8 sRGB."""
    made = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _ROWS):
        made[top : top + _ROWS] = _converted(pixels[top : top + _ROWS], curve, primaries)
    return made


def _converted(pixels: npt.NDArray[np.uint16], curve: int, primaries: int) -> npt.NDArray[np.uint8]:
    light = _decoding(curve)[_level(pixels.astype(np.float32) / np.float32(65535))]
    if curve == HLG:  # the screen's gamma: 1 of the scene's light is its peak
        light *= (light @ _LUMINANCE)[..., None] ** np.float32(0.2) * np.float32(_PEAK / _WHITE)
    if primaries in WIDE_PRIMARIES:
        light = light @ np.array(WIDE_PRIMARIES[primaries], np.float32).T
    if curve in HDR_CURVES:
        light *= _bent(light.max(axis=-1, keepdims=True))
    return _encoding(curve)[_level(np.sqrt(np.clip(light, 0, 1)))]


def _bent(brightest: _Linear) -> _Linear:
    """By how much light is multiplied: f(m) / m of step 3."""
    above = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    top = (_PEAK / _WHITE - _KNEE) / (1 - _KNEE)
    bent = _KNEE + (1 - _KNEE) * above * (1 + above / top**2) / (1 + above)
    return np.where(above > 0, bent / np.maximum(brightest, _KNEE), 1).astype(np.float32)


def _level(values: _Linear) -> npt.NDArray[np.intp]:
    """The place of values in 0..1 in a table."""
    return (values * (_LEVELS - 1) + 0.5).astype(np.intp)


@cache
def _decoding(curve: int) -> _Linear:
    """(_LEVELS,): coded values of 0..1 -> light; of HLG the scene's, of which 1 is the most."""
    coded = np.linspace(0, 1, _LEVELS)
    if curve == PQ:
        power = coded ** (1 / 78.84375)
        share = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        return (10_000 / _WHITE * share ** (1 / 0.1593017578125)).astype(np.float32)
    if curve == HLG:
        a = 0.17883277
        b = 1 - 4 * a
        c = 0.5 - a * np.log(4 * a)
        return np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12).astype(np.float32)
    return (coded**_GAMMA).astype(np.float32)


@cache
def _encoding(curve: int) -> npt.NDArray[np.uint8]:
    """(_LEVELS,): square roots of light in 0..1, which have finer steps in the dark -> 8 bits."""
    light = np.linspace(0, 1, _LEVELS) ** 2
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    if curve not in HDR_CURVES:
        coded = light ** (1 / _GAMMA)
    return (coded * 255 + 0.5).astype(np.uint8)
