"""What becomes of a frame: colours, dynamic range, interlace, pixel aspect, rotation, transparency."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from made_videos import encode
from PIL import Image

from ffdi.faces.footage.colours import HLG, PQ
from ffdi.faces.footage.footage import UnreadableVideo, frames_of

av = pytest.importorskip("av")
Pixels = npt.NDArray[np.uint8]
COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128], [200, 150, 120], [30, 60, 90]]
)
BT709, UNNAMED, BT601, SMPTE170M, BT2020 = 1, 2, 5, 6, 9
LIMITED, FULL = 1, 2
WEIGHTS = {
    BT709: (0.2126, 0.0722),
    BT601: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    BT2020: (0.2627, 0.0593),
}  # red, blue


def first(path: Path) -> Pixels:
    return next(frames_of(path, 1, max_pixels=10**7)).pixels


def coded(colours: Any, matrix: int, full: bool, bits: int) -> Any:
    """(N, 3) RGB in 0..1 -> Y, Cb and Cr as ITU-R BT.601, 709 and 2020 define them, in levels of so many bits."""
    red, blue = WEIGHTS[matrix]
    r, g, b = np.asarray(colours, float).T
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    step, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        levels = [y * top, cb * top + 128 * step, cr * top + 128 * step]
    else:
        levels = [(16 + 219 * y) * step, (128 + 224 * cb) * step, (128 + 224 * cr) * step]
    return np.clip(np.round(np.stack(levels)), 0, top)


def patches(levels: Any, layout: str, size: tuple[int, int] = (128, 16)) -> Any:
    """A frame of upright patches of one colour each, (3, N) levels."""
    frame = av.VideoFrame(*size, layout)
    kind = np.uint16 if "10" in layout else np.uint8
    for plane, row in zip(frame.planes, levels):
        lines = np.frombuffer(plane, kind).reshape(plane.height, -1)
        lines[:, : plane.width] = np.repeat(row, plane.width // levels.shape[1])[None]
    return frame


def tagged(matrix: int, colour_range: int, curve: int = 2, primaries: int = 2) -> Callable[[Any], None]:
    def prepare(stream: Any) -> None:
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, colour_range
        context.color_trc, context.color_primaries = curve, primaries

    return prepare


def in_file(path: Path, frame: Any, prepare: Callable[[Any], None], codec: str = "ffv1", **options: Any) -> Pixels:
    """The frame as it comes back from a file, without loss but for that of the codec."""
    stated: Any = type("Stated", (), {})()
    stated.codec_context = frame
    prepare(stated)
    return first(encode(path, [frame], codec=codec, pix_fmt=frame.format.name, prepare=prepare, **options))


@pytest.mark.parametrize(
    ("matrix", "colour_range", "layout", "codec"),
    [
        (BT709, LIMITED, "yuv444p", "ffv1"),
        (BT601, LIMITED, "yuv444p", "ffv1"),
        (SMPTE170M, LIMITED, "yuv420p", "libx264"),
        (BT709, LIMITED, "yuv420p", "libx264"),
        (BT709, FULL, "yuv420p", "libx264"),
        (BT601, FULL, "yuvj420p", "mjpeg"),
        (BT709, LIMITED, "yuv420p10le", "libx264"),
        (BT2020, LIMITED, "yuv444p10le", "ffv1"),
        (BT709, FULL, "yuv444p10le", "ffv1"),
        (BT709, LIMITED, "yuv422p10le", "prores_ks"),
    ],
)
def test_colours_are_those_of_the_matrix_and_range(
    matrix: int, colour_range: int, layout: str, codec: str, tmp_path: Path
) -> None:
    frame = patches(coded(COLOURS / 255, matrix, colour_range == FULL, 10 if "10" in layout else 8), layout)
    options = {"libx264": {"crf": "0"}, "mjpeg": {"qmin": "1", "qmax": "1"}}.get(codec, {})
    pixels = (
        in_file(tmp_path / "a.mov", frame, tagged(matrix, colour_range), codec, codec_options=options)
        if codec in ("prores_ks", "mjpeg")
        else in_file(tmp_path / "a.mkv", frame, tagged(matrix, colour_range), codec, codec_options=options)
    )
    assert np.abs(pixels[8, 8::16].astype(int) - COLOURS).max() <= 1


@pytest.mark.parametrize(
    ("size", "matrix"), [((128, 16), BT601), ((720, 576), BT601), ((1280, 16), BT709), ((128, 592), BT709)]
)
def test_unnamed_matrix_is_that_of_the_size(size: tuple[int, int], matrix: int, tmp_path: Path) -> None:
    frame = patches(coded(COLOURS / 255, matrix, False, 8), "yuv444p", size)
    pixels = in_file(tmp_path / "a.mkv", frame, tagged(UNNAMED, 0))
    middles = np.arange(len(COLOURS)) * (size[0] // len(COLOURS)) + size[0] // len(COLOURS) // 2
    assert np.abs(pixels[8, middles].astype(int) - COLOURS).max() <= 1


# Coded grey -> cd/m2 by the standards, in units of 203 -> bent -> sRGB, worked out by hand from colours.py's rule:
# 100 / 203 = 0.4926 stays: 1.055 * 0.4926 ** (1 / 2.4) - 0.055 = 0.7305 -> 186.
# 203 / 203 = 1: t = 1, T = (1000 / 203 - 0.5) / 0.5 = 8.852, 0.5 + 0.5 * (1 + 1 / 78.36) / 2 = 0.7532 -> 0.8825 -> 225.
# HLG 0.5 is 1/12 of the scene's light: 1000 * (1 / 12) ** 1.2 = 50.70, / 203 = 0.2497 -> 0.5368 -> 137.
@pytest.mark.parametrize(
    ("curve", "value", "grey"),
    [
        (PQ, 0.0, 0),
        (PQ, 0.5081, 186),  # 100 cd/m2
        (PQ, 0.5807, 225),  # 203
        (PQ, 0.7518, 255),  # 1000
        (PQ, 1.0, 255),  # 10000
        (HLG, 0.0, 0),
        (HLG, 0.5, 137),  # 50.7
        (HLG, 0.75, 225),  # 203
        (HLG, 1.0, 255),  # 1000
    ],
)
def test_high_dynamic_range_is_bent_by_the_stated_rule(curve: int, value: float, grey: int, tmp_path: Path) -> None:
    frame = patches(coded([[value] * 3] * 8, BT2020, False, 10), "yuv420p10le")
    pixels = in_file(
        tmp_path / "a.mkv", frame, tagged(BT2020, LIMITED, curve, BT2020), "libx264", codec_options={"crf": "0"}
    )
    assert np.abs(pixels.astype(int) - grey).max() <= 1


def test_wide_primaries_become_those_of_srgb(tmp_path: Path) -> None:
    """PQ red of 203 cd/m2: BT.709's red is 1.6605 (t = 2.321, bent to 0.8598, 238), green and blue are below 0.

    Of a standard curve with P3's primaries, a grey stays, and P3's (0.5, 0.25, 0.25) ** 2.2 is redder in sRGB:
    0.2176 + 0.2249 * (0.2176 - 0.0474) = 0.2559 -> 0.2559 ** (1 / 2.2) = 0.5382 -> 137.
    """
    red = coded([[0.5807, 0, 0]] * 8, BT2020, False, 10)
    pixels = in_file(tmp_path / "a.mkv", patches(red, "yuv444p10le"), tagged(BT2020, LIMITED, PQ, BT2020))
    assert np.abs(pixels[8, 8].astype(int) - (238, 0, 0)).max() <= 1
    pair = coded([[0.5] * 3] * 4 + [[0.5, 0.25, 0.25]] * 4, BT709, False, 10)
    pixels = in_file(tmp_path / "b.mkv", patches(pair, "yuv444p10le"), tagged(BT709, LIMITED, 1, 12))
    assert np.abs(pixels[8, 8].astype(int) - 128).max() <= 1
    assert abs(int(pixels[8, 120, 0]) - 137) <= 1


def test_colours_of_another_kind_are_refused(tmp_path: Path) -> None:
    frame = patches(coded(COLOURS / 255, BT709, False, 8), "yuv444p")
    with pytest.raises(UnreadableVideo, match="transfer curve 9"):
        in_file(tmp_path / "a.mkv", frame, tagged(BT709, LIMITED, 9))
    with pytest.raises(UnreadableVideo, match="matrix 10"):
        in_file(tmp_path / "b.mkv", frame, tagged(10, LIMITED))


def stripes(height: int = 32) -> Image.Image:
    """White lines between black ones, white first."""
    pixels = np.zeros((height, 64, 3), np.uint8)
    pixels[::2] = 255
    return Image.fromarray(pixels)


WOVEN = {
    "libx264": {"crf": "0", "x264-params": "tff=1"},
    "mpeg2video": {"flags": "+ildct+ilme", "qmin": "1", "qmax": "1"},
}


@pytest.mark.parametrize(
    ("codec", "height"), [("libx264", 32), ("mpeg2video", 34)]
)  # 34: an odd number of lines of chroma
def test_of_interlaced_frames_the_upper_field_is_taken(codec: str, height: int, tmp_path: Path) -> None:
    pixels = first(encode(tmp_path / "woven.mkv", [stripes(height)], codec=codec, codec_options=WOVEN[codec]))
    assert pixels.shape == (height, 64, 3) and pixels.min() >= 245
    whole = first(encode(tmp_path / "whole.mkv", [stripes(height)], codec_options={"crf": "0"}))
    assert whole[::2].min() > 180 and whole[1::2].max() < 80


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        ((2, 1), (128, 48)),
        ((1, 2), (64, 96)),
        ((12, 11), (70, 48)),
        ((16, 15), (68, 48)),
        ((0, 1), (64, 48)),
        ((90, 1), (64, 48)),
    ],
)
def test_pixels_become_square(aspect: tuple[int, int], size: tuple[int, int], tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect) if aspect[0] else Fraction(0)

    pixels = first(encode(tmp_path / "a.mkv", [corner()], prepare=prepare))
    assert pixels.shape[1::-1] == size


def corner() -> Image.Image:
    """64 x 48, black, with a red patch at the upper left."""
    picture = Image.new("RGB", (64, 48))
    picture.paste((255, 0, 0), (0, 0, 16, 16))
    return picture


@pytest.mark.parametrize(
    ("degrees", "mirrored", "size", "place"),  # counterclockwise, then mirrored; where the red patch comes to lie
    [
        (0, False, (64, 48), "upper left"),
        (90, False, (48, 64), "lower left"),
        (180, False, (64, 48), "lower right"),
        (270, False, (48, 64), "upper right"),
        (0, True, (64, 48), "upper right"),
        (180, True, (64, 48), "lower left"),
    ],
)
def test_frames_are_turned_as_the_display_matrix_says(
    degrees: int, mirrored: bool, size: tuple[int, int], place: str, tmp_path: Path
) -> None:
    path = encode(
        tmp_path / "a.mp4", [corner()], prepare=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored)
    )
    pixels = first(path)
    assert pixels.shape[1::-1] == size
    rows = {"upper": slice(0, 8), "lower": slice(-8, None)}[place.split()[0]]
    columns = {"left": slice(0, 8), "right": slice(-8, None)}[place.split()[1]]
    assert pixels[rows, columns, 0].min() > 200


def test_transparency_is_blended_over_white(tmp_path: Path) -> None:
    """Red of opacity 128 / 255 over white: 255, and 255 - 128 = 127."""
    rgba = np.full((16, 16, 4), (255, 0, 0, 128), np.uint8)
    pixels = first(encode(tmp_path / "a.mov", [av.VideoFrame.from_ndarray(rgba, "rgba")], codec="png", pix_fmt="rgba"))
    assert np.abs(pixels.astype(int) - (255, 127, 127)).max() <= 1


@pytest.mark.parametrize(
    ("layout", "codec"), [("yuv420p", "ffv1"), ("yuv444p", "libx264"), ("bgr0", "ffv1"), ("gray", "ffv1")]
)
def test_odd_sizes(layout: str, codec: str, tmp_path: Path) -> None:
    picture = Image.new("RGB", (63, 47), (90, 90, 90))
    pixels = first(encode(tmp_path / "a.mkv", [picture], codec=codec, pix_fmt=layout))
    assert pixels.shape == (47, 63, 3) and np.abs(pixels.astype(int) - 90).max() <= 2


def test_a_picture_of_square_pixels_may_not_be_larger_than_allowed(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "a.mkv",
        [corner()],
        prepare=lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", Fraction(4)),
    )
    with pytest.raises(UnreadableVideo, match="256x48 is more than"):
        list(frames_of(path, 1, max_pixels=5000))
