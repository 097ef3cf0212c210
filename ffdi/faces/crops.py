"""A face of a picture -> a square of pixels, and the bytes of its file.

`align: none` cuts a square around the box. It is moved into the picture where it reaches beyond, and is no larger than
the picture: every pixel of a crop is one of the picture. Borders that are filled, or faces that are mirrored at them,
would tell a network how a class was framed, and a mirrored eye looks like a forgery.

`align: similarity` turns, scales and moves the picture so that five landmarks come as near as they can, in least squares,
to where ArcFace has them. What lies outside of the picture is mirrored at its border: a turned square has corners that no
move brings inside, and a fill of one colour has an edge.

Both scale with Pillow's `resize`, whose filter grows with what it reduces, so that a large face has no aliases. Lanczos: of
its filters it keeps the most of the finest detail (docs/faces.md has the figures).
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ffdi.errors import InputError
from ffdi.faces.face import Box, Face, Landmarks
from ffdi.faces.settings import CropSettings
from ffdi.intake.decoding.images import RGB

# Where the eyes, the nose and the corners of the mouth of an aligned face lie, in a square of 112 x 112: ArcFace (Deng et
# al., CVPR 2019), `arcface_src` of insightface's face_align.py. DeepfakeBench aligns to the same points.
_TEMPLATE_SIDE = 112
_TEMPLATE = np.array(
    [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j]
)
_UNLIKE_BOX = 4  # times larger or smaller than the box is a face whose landmarks are of no use
_TAPS = 3  # pixels on each side that Lanczos reads
_FINER = 2  # times the crop's resolution: what an aligned crop is taken from

Reals = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def crop_face(pixels: RGB, face: Face, settings: CropSettings) -> RGB:
    """A face as (size, size, 3) uint8, from `pixels` (H, W, 3) of its upright picture.

    Landmarks that make a face of another size than its box, by four times, are not used: that face is cropped by its box.
    Raises InputError where `align` is similarity and the face has no landmarks.
    """
    if settings.align == "similarity":
        if face.landmarks is None:
            raise InputError(f"align: similarity needs landmarks, and {settings.detector} gives none: set align: none")
        if (turn := _aligned(face.landmarks, face.box, settings)) is not None:
            return _turned(pixels, turn, settings.size)
    return _cut(pixels, face.box, settings)


def encode_crop(pixels: RGB, form: Literal["png", "jpeg-95"]) -> bytes:
    """The file of a crop: pixels alone, no metadata. A JPEG is baseline, of full colour resolution (4:4:4)."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if form == "png":
        image.save(
            buffer, "PNG", compress_type=zlib.Z_RLE
        )  # as small as by default, in a fifth of the time: photos repeat little
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _cut(pixels: RGB, box: Box, settings: CropSettings) -> RGB:
    height, width, _ = pixels.shape
    side = min(max(settings.margin * max(box.width, box.height), 1.0), width, height)
    left, top = (
        min(max((low + high - side) / 2, 0.0), length - side)
        for low, high, length in ((box.left, box.right, width), (box.top, box.bottom, height))
    )
    reach = _TAPS * max(1.0, side / settings.size) + 1  # what the filter reads beyond the square
    x, y = max(floor(left - reach), 0), max(floor(top - reach), 0)
    part = Image.fromarray(pixels[y : ceil(top + side + reach), x : ceil(left + side + reach)])
    square = (left - x, top - y, min(left + side, width) - x, min(top + side, height) - y)
    return np.asarray(part.resize((settings.size,) * 2, Image.Resampling.LANCZOS, box=square))


@dataclass(frozen=True)
class _Turn:
    """How a crop lies in its picture: a point w of the crop is start + step * w there, x + yj in pixels."""

    start: complex
    step: complex


def _aligned(landmarks: Landmarks, box: Box, settings: CropSettings) -> _Turn | None:
    """The similarity without reflection that brings the landmarks to the template (Umeyama 1991); None: not usable.

    In the plane it is template = a * landmark + b with complex a and b, and least squares give them in closed form.
    """
    points = landmarks[:, 0].astype(np.float64) + 1j * landmarks[:, 1]
    about = points - points.mean()
    spread = float((np.abs(about) ** 2).sum())
    a = complex((about.conj() * (_TEMPLATE - _TEMPLATE.mean())).sum()) / spread if spread > 0 else 0j
    face_side, box_side = _TEMPLATE_SIDE / abs(a) if a else 0.0, max(box.width, box.height)
    if not box_side / _UNLIKE_BOX <= face_side <= box_side * _UNLIKE_BOX:  # false for NaN too
        return None
    unit = _TEMPLATE_SIDE * settings.margin / settings.size
    corner = (_TEMPLATE_SIDE - unit * settings.size) / 2 * (1 + 1j)  # of the crop, in the template
    return _Turn(complex(points.mean()) + (corner - complex(_TEMPLATE.mean())) / a, unit / a)


def _turned(pixels: RGB, turn: _Turn, size: int) -> RGB:
    """Reduced to the crop's resolution where the picture's is higher, for `transform` has no filter that grows; enlarged to
    twice as many pixels, between which a bilinear filter errs little; then turned.
    """
    corners = turn.start + turn.step * size * np.array([0, 1, 1j, 1 + 1j])
    scale = max(1.0, abs(turn.step))
    across = _Span.of(corners.real, pixels.shape[1], scale)
    down = _Span.of(corners.imag, pixels.shape[0], scale)
    part = Image.fromarray(pixels[down.low : down.high, across.low : across.high])
    for finer in (1, _FINER):
        part = part.resize((finer * across.count, finer * down.count), Image.Resampling.LANCZOS)
    around = Image.fromarray(np.asarray(part)[np.ix_(down.places, across.places)])
    step, start = turn.step, turn.start
    matrix = (
        *(step.real / across.scale, -step.imag / across.scale, (start.real - across.start) / across.scale),
        *(step.imag / down.scale, step.real / down.scale, (start.imag - down.start) / down.scale),
    )
    return np.asarray(around.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


@dataclass(frozen=True, eq=False)
class _Span:
    """The part of a picture's width (or height) that a turned crop reads: `low` to `high`, reduced to `count` pixels.

    `places` are those of their halves that lie side by side from `start` on (in pixels of the picture, which may be outside
    of it), each `scale` wide: mirrored at the picture's border, the pixel at the border twice.
    """

    low: int
    high: int
    count: int
    places: Places
    start: float
    scale: float

    @classmethod
    def of(cls, corners: Reals, length: int, scale: float) -> _Span:
        reach = 2 * _TAPS * scale + 1  # of the filters, one after the other
        first, last = floor(corners.min() - reach), ceil(corners.max() + reach)
        read = _mirrored(np.arange(first, last), length)
        low, high = int(read.min()), int(read.max()) + 1
        count = max(1, round((high - low) / scale))
        scale = (high - low) / (_FINER * count)
        begin, end = floor((first - low) / scale), ceil((last - low) / scale)
        return cls(low, high, count, _mirrored(np.arange(begin, end), _FINER * count), low + begin * scale, scale)


def _mirrored(places: Places, length: int) -> Places:
    within = places % (2 * length)
    return np.minimum(within, 2 * length - 1 - within)
