"""A decoded frame -> a picture: upright, square pixels, 8-bit RGB. The rules of every video that is read:

- colours: by the matrix and the range that the video names. One that names no matrix has that of BT.709 from 1280 wide or
  more than 576 high on, else that of BT.601, as players have it; one that names no range has the limited one (JPEGs and
  RGB: the full one). Curves of standard dynamic range are left as they are; wide primaries and HDR: colours.py;
- interlaced frames: the lines of the upper field, which are one moment; those of the lower field between them are
  interpolated. A frame depends on no other, so it is the same however one comes to it;
- odd pixel aspects: the narrower side of the pixel is stretched, so that nothing is thrown away;
- transparency is blended over white, as in images;
- rotation and mirroring by the display matrix, to a quarter turn.

swscale converts with fixed flags, by its exact code: twelve times as slow as what readers usually take, 7 ms for a frame of
1920 x 1080 on one thread, and three times as close to the colours that were encoded. Threads change no byte.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ffdi.faces.footage.colours import HDR_CURVES, WIDE_PRIMARIES, to_standard
from ffdi.faces.footage.unreadable import UnreadableVideo, too_large
from ffdi.intake.decoding.images import RGB

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# H.273's numbers of matrices -> swscale's; those that are missing here are no matrix of RGB, or a rare one.
_RGB, _BT709, _UNSPECIFIED, _BT601, _BT2020 = 0, 1, 2, 5, 9
_MATRICES = {_BT709: 1, 4: 4, _BT601: 5, 6: 5, 7: 7, _BT2020: 9}
_CURVES = {
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    11,
    12,
    13,
    14,
    15,
    *HDR_CURVES,
}  # H.273's; no logarithms, no linear light, no X'Y'Z'
_LIMITED, _FULL = 1, 2
_HD_WIDTH, _SD_HEIGHT = 1280, 576
_BILINEAR, _BICUBIC = 2, 4  # swscale's flags
_EXACT = 0x2000 | 0x4000 | 0x40000 | 0x80000  # of chroma between its samples, of rounding; the same on any processor
_ODDEST = 4  # pixels of a larger aspect are taken for an error of the file, and for square


class Developer:
    """Makes pictures of the frames of one video."""

    def __init__(self, pixel_aspect: Fraction, max_pixels: int, threads: int = 1) -> None:
        from av.video.reformatter import VideoReformatter

        self._aspect = pixel_aspect if Fraction(1, _ODDEST) <= pixel_aspect <= _ODDEST else Fraction(1)
        self._max_pixels, self._threads = max_pixels, threads
        self._scaler = VideoReformatter()

    def picture(self, frame: VideoFrame) -> RGB:
        """(H, W, 3) uint8 of a frame. Raises UnreadableVideo for colours that are not read, and a size above the limit."""
        size = _square(frame.width, frame.height, self._aspect)
        if size[0] * size[1] > self._max_pixels:
            raise too_large(*size, self._max_pixels)
        turn = _display_matrix(frame)
        return _upright(self._in_rgb(_one_moment(frame), size), turn)

    def _in_rgb(self, frame: VideoFrame, size: tuple[int, int]) -> RGB:
        """The frame in RGB, of a size (width, height)."""
        curve, primaries = int(frame.color_trc), int(frame.color_primaries)
        if curve not in _CURVES:
            raise UnreadableVideo(f"colours with transfer curve {curve} of H.273 are not read")
        if curve in HDR_CURVES or primaries in WIDE_PRIMARIES:
            return to_standard(self._scaled(frame, size, "rgb48le"), curve, primaries)
        if not any(component.is_alpha for component in frame.format.components):
            return self._scaled(frame, size, "rgb24")
        rgba = self._scaled(frame, size, "rgba").astype(np.uint16)
        opacity = rgba[..., 3:]
        return ((rgba[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)

    def _scaled(self, frame: VideoFrame, size: tuple[int, int], layout: str) -> npt.NDArray[Any]:
        is_rgb = frame.format.is_rgb
        matrix = _BT709 if is_rgb else _matrix_of(frame, size)
        converted = self._scaler.reformat(
            frame,
            *size,
            layout,
            src_colorspace=_MATRICES[matrix],
            dst_colorspace=_MATRICES[matrix],
            interpolation=_EXACT | (_BILINEAR if size == (frame.width, frame.height) else _BICUBIC),
            src_color_range=_FULL if is_rgb or _is_full(frame) else _LIMITED,
            dst_color_range=_FULL,
            threads=self._threads,
        )
        return converted.to_ndarray()


def _matrix_of(frame: VideoFrame, size: tuple[int, int]) -> int:
    named = int(frame.colorspace)
    if named in (_RGB, _UNSPECIFIED, 3):
        return _BT709 if size[0] >= _HD_WIDTH or size[1] > _SD_HEIGHT else _BT601
    if named not in _MATRICES:
        raise UnreadableVideo(f"colours with matrix {named} of H.273 are not read")
    return named


def _is_full(frame: VideoFrame) -> bool:
    return int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")


def _square(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """(width, height) in square pixels, for pixels that are `aspect` times as wide as high."""
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def _one_moment(frame: VideoFrame) -> VideoFrame:
    """The frame, or of an interlaced one the upper field, of half its height."""
    if not frame.interlaced_frame or frame.height < 2:
        return frame
    from av.video.frame import VideoFrame

    field = VideoFrame(frame.width, (frame.height + 1) // 2, frame.format.name)
    for woven, plane in zip(frame.planes, field.planes, strict=True):
        source, target = _lines(woven), _lines(plane)
        width = min(source.shape[1], target.shape[1])
        target[:, :width] = source[::2, :width]
    for name in ("colorspace", "color_range", "color_trc", "color_primaries"):
        setattr(field, name, getattr(frame, name))
    return field


def _lines(plane: Any) -> npt.NDArray[np.uint8]:
    """(lines, bytes) of a plane's memory, with what fills up the lines."""
    return np.frombuffer(plane, np.uint8, plane.height * plane.line_size).reshape(plane.height, plane.line_size)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d): a point (x, y) is shown at (a x + c y, b x + d y); in 65536ths."""
    sides: Any = frame.side_data
    try:
        a, b, _, c, d = np.frombuffer(bytes(sides["DISPLAYMATRIX"]), np.int32)[:5].tolist()
    except KeyError:
        return 1, 0, 0, 1
    except ValueError:  # the frame has another kind of side data that PyAV does not know, and gives none of them
        turn = round(frame.rotation / 90) % 4  # counterclockwise
        return [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)][turn]
    return a, b, c, d


def _upright(pixels: RGB, matrix: tuple[int, int, int, int]) -> RGB:
    """The picture as its display matrix turns and mirrors it, to a quarter turn."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    pixels = pixels[:, ::-1] if a < 0 else pixels
    pixels = pixels[::-1] if d < 0 else pixels
    return np.ascontiguousarray(pixels)
