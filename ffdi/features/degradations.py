"""What happens to pictures on their way: compression, scaling, blur, noise, other colours, screenshots, and mixes of them.

An operation takes an RGB image of any shape and a generator of random numbers, and returns an image of the same shape.
Its options are the ends of the range that its strength is drawn from; with equal ends the strength is always the same.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter

from ffdi.errors import ParamsError
from ffdi.intake.decoding.images import open_header

KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
ANY = "any"  # a kernel that is drawn, for each of two resizings
_BLOCK = 1 << 22  # values of noise that are drawn together
_MOST_SIDE = {"JPEG": 65_488, "WEBP": 16_368}  # pixels of a side that the formats have, in whole blocks
_NETWORK_SIDE = 224  # a mix counts the pixels of blur and shift in so many parts of the shorter side
Degradation = Callable[..., Image.Image]


@dataclass(frozen=True)
class Strength:
    """The options that the strength of an operation sets, its least and largest value, and whether it is a whole number."""

    options: tuple[str, ...]
    least: float
    most: float
    whole: bool = False


def _brightness(image: Image.Image, rng: Generator, low: float = 0.8, high: float = 1.2) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(rng.uniform(low, high))


def _contrast(image: Image.Image, rng: Generator, low: float = 0.7, high: float = 1.4) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(rng.uniform(low, high))


def _gamma(image: Image.Image, rng: Generator, low: float = 0.7, high: float = 1.4) -> Image.Image:
    """Each value to the power of `low` to `high`, on the scale 0..1."""
    power = rng.uniform(low, high)
    return image.point([round(255 * (value / 255) ** power) for value in range(256)] * 3)


def _tint(image: Image.Image, rng: Generator, low: float = 0.0, high: float = 20.0) -> Image.Image:
    """A grey level of its own added to each channel; the largest is of `low` to `high`, up or down."""
    offsets = rng.uniform(-1, 1, 3)
    offsets *= rng.uniform(low, high) / np.abs(offsets).max()
    return image.point([round(min(255, max(0, value + offset))) for offset in offsets for value in range(256)])


def _crop(image: Image.Image, rng: Generator, scale: float = 0.8, high: float = 1.0) -> Image.Image:
    """A random part of `scale` to `high` of the area, resized back."""
    share = float(np.sqrt(rng.uniform(scale, high)))
    return image.resize(image.size, Image.Resampling.BILINEAR, box=_part(image, rng, share))


def _screenshot(image: Image.Image, rng: Generator, low: float = 0.75, high: float = 1.0) -> Image.Image:
    """A random part of `low` to `high` of each side, shown at another size and resized back, each with a drawn kernel."""
    share = rng.uniform(low, high)
    shown, kernels = rng.uniform(share, 1), [_kernel(ANY, rng), _kernel(ANY, rng)]
    return image.resize(_scaled(image, shown), kernels[0], box=_part(image, rng, share)).resize(image.size, kernels[1])


def _downscale(
    image: Image.Image, rng: Generator, low: float = 0.5, high: float = 1.0, kernel: str = "bilinear"
) -> Image.Image:
    """To `low` to `high` of the side and back."""
    small = _scaled(image, rng.uniform(low, high))
    return image.resize(small, _kernel(kernel, rng)).resize(image.size, _kernel(kernel, rng))


def _blur(image: Image.Image, rng: Generator, sigma: float = 1.5, low: float = 0.1) -> Image.Image:
    """A Gaussian of `low` to `sigma` pixels."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(low, sigma)))


def _sharpen(image: Image.Image, rng: Generator, low: float = 0.5, high: float = 2.0) -> Image.Image:
    """`low` to `high` times the difference to a Gaussian of 2 pixels is added."""
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=round(100 * rng.uniform(low, high)), threshold=0))


def _noise(image: Image.Image, rng: Generator, sigma: float = 5.0, low: float = 0.0) -> Image.Image:
    """Gaussian noise of `low` to `sigma` grey levels."""
    clean, drawn = np.asarray(image), rng.uniform(low, sigma)
    noisy = np.empty_like(clean)
    rows = max(1, _BLOCK // clean[0].size)
    for start in range(0, len(clean), rows):  # an original may have 50 million pixels
        block = clean[start : start + rows].astype(np.float32)
        block += drawn * rng.standard_normal(block.shape, np.float32)
        noisy[start : start + rows] = np.clip(block + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(noisy)


def _shift(image: Image.Image, rng: Generator, low: float = 1.0, high: float = 3.0) -> Image.Image:
    """Red is moved by `low` to `high` pixels in a drawn direction, blue against it; the border is repeated."""
    distance, turn = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    right, down = round(distance * np.cos(turn)), round(distance * np.sin(turn))
    pixels = np.asarray(image).copy()
    for channel, way in ((0, 1), (2, -1)):
        pixels[..., channel] = _moved(pixels[..., channel], way * right, way * down)
    return Image.fromarray(pixels)


def _jpeg(image: Image.Image, rng: Generator, low: int = 50, high: int = 95) -> Image.Image:
    return _encoded(image, "JPEG", int(rng.integers(low, high + 1)))


def _webp(image: Image.Image, rng: Generator, low: int = 50, high: int = 95) -> Image.Image:
    return _encoded(image, "WEBP", int(rng.integers(low, high + 1)))


def _double_jpeg(image: Image.Image, rng: Generator, low: int = 50, high: int = 95) -> Image.Image:
    """Two JPEGs, each of its own quality; the second has its grid of 8 x 8 pixels 1 to 7 further left and up."""
    first, second = (int(quality) for quality in rng.integers(low, high + 1, 2))
    left, up = (int(pixels) for pixels in rng.integers(1, 8, 2))
    once = np.asarray(_encoded(image, "JPEG", first))
    moved = Image.fromarray(np.pad(once, ((up, 0), (left, 0), (0, 0)), mode="edge"))
    return _encoded(moved, "JPEG", second).crop((left, up, left + image.width, up + image.height))


def _mix(image: Image.Image, rng: Generator, strength: int = 3) -> Image.Image:
    """One to four operations of MIXED in a drawn order, more and harsher ones as `strength` goes from 1 to 5."""
    fewest, most = _COUNTS[strength - 1]
    for place in rng.permutation(len(MIXED))[: rng.integers(fewest, most + 1)]:
        name = list(MIXED)[place]
        mildest, harshest = MIXED[name]
        value = mildest + (harshest - mildest) * rng.uniform(strength - 1, strength) / 5
        if name in _FACTORS and rng.random() < 0.5:
            value = 1 / value
        if name in ("blur", "shift"):
            value *= min(image.size) / _NETWORK_SIDE
        what = STRENGTHS[name]
        options: dict[str, float | str] = dict.fromkeys(what.options, round(value) if what.whole else value)
        if name == "downscale":
            options["kernel"] = ANY
        image = DEGRADATIONS[name](image, rng, **options)
    return image


def _encoded(image: Image.Image, file_format: str, quality: int) -> Image.Image:
    """Compressed and decoded; in parts where a side is longer than the format has."""
    most = _MOST_SIDE[file_format]
    if max(image.size) > most:
        made = Image.new("RGB", image.size)
        for left, up in itertools.product(range(0, image.width, most), range(0, image.height, most)):
            part = image.crop((left, up, min(left + most, image.width), min(up + most, image.height)))
            made.paste(_encoded(part, file_format, quality), (left, up))
        return made
    buffer = io.BytesIO()
    image.save(buffer, file_format, quality=quality)
    return open_header(buffer.getvalue()).convert("RGB")


def _scaled(image: Image.Image, share: float) -> tuple[int, int]:
    return max(1, round(image.width * share)), max(1, round(image.height * share))


def _part(image: Image.Image, rng: Generator, share: float) -> tuple[float, float, float, float]:
    """The box of a random part with this share of each side."""
    width, height = image.width * share, image.height * share
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    return left, top, left + width, top + height


def _kernel(name: str, rng: Generator) -> Image.Resampling:
    return list(KERNELS.values())[rng.integers(len(KERNELS))] if name == ANY else KERNELS[name]


def _moved(plane: npt.NDArray[np.uint8], right: int, down: int) -> npt.NDArray[np.uint8]:
    height, width = plane.shape
    rows, columns = np.arange(height) - down, np.arange(width) - right
    return plane[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]


DEGRADATIONS: dict[str, Degradation] = {
    "brightness": _brightness,
    "crop": _crop,
    "jpeg": _jpeg,
    "blur": _blur,
    "downscale": _downscale,
    "noise": _noise,
    "webp": _webp,
    "double_jpeg": _double_jpeg,
    "contrast": _contrast,
    "gamma": _gamma,
    "tint": _tint,
    "sharpen": _sharpen,
    "shift": _shift,
    "screenshot": _screenshot,
    "mix": _mix,
}

STRENGTHS: dict[str, Strength] = {
    "brightness": Strength(("low", "high"), 0, 10),
    "crop": Strength(("scale", "high"), 0.01, 1),
    "jpeg": Strength(("low", "high"), 1, 100, whole=True),
    "blur": Strength(("low", "sigma"), 0, 100),
    "downscale": Strength(("low", "high"), 0.01, 1),
    "noise": Strength(("low", "sigma"), 0, 255),
    "webp": Strength(("low", "high"), 1, 100, whole=True),
    "double_jpeg": Strength(("low", "high"), 1, 100, whole=True),
    "contrast": Strength(("low", "high"), 0, 10),
    "gamma": Strength(("low", "high"), 0.1, 10),
    "tint": Strength(("low", "high"), 0, 255),
    "sharpen": Strength(("low", "high"), 0, 10),
    "shift": Strength(("low", "high"), 0, 100),
    "screenshot": Strength(("low", "high"), 0.01, 1),
    "mix": Strength(("strength",), 1, 5, whole=True),
}

# The mildest and the harshest strength of each operation of a mix: strength 1 has the first fifth of the way, 5 the last.
MIXED: dict[str, tuple[float, float]] = {
    "jpeg": (95, 20),
    "webp": (95, 10),
    "double_jpeg": (95, 25),
    "downscale": (0.95, 0.2),
    "screenshot": (0.98, 0.6),
    "blur": (0.2, 3.0),
    "noise": (1, 30),
    "brightness": (1.0, 2.0),
    "contrast": (1.0, 2.0),
    "gamma": (1.0, 2.2),
    "tint": (2, 40),
    "sharpen": (0.2, 3.0),
    "shift": (1, 5),
}
_FACTORS = ("brightness", "contrast", "gamma")  # half of them are divided by
_COUNTS = ((1, 1), (1, 2), (2, 3), (2, 4), (3, 4))  # the fewest and the most operations of a mix, by strength


def defaults_of(function: Degradation) -> dict[str, Any]:
    """The options of an operation, with their defaults."""
    code = function.__code__
    return dict(zip(code.co_varnames[2 : code.co_argcount], function.__defaults__ or (), strict=True))


def check_options(what: str, name: str, options: Mapping[str, Any]) -> None:
    """ParamsError, which begins with `what`, for options of a degradation that are no strengths or no kernel."""
    full, strength = defaults_of(DEGRADATIONS[name]) | dict(options), STRENGTHS[name]
    ends = [full[option] for option in strength.options]
    kind = int if strength.whole else int | float
    if any(isinstance(end, bool) or not isinstance(end, kind) for end in ends) or not (
        strength.least <= ends[0] <= ends[-1] <= strength.most
    ):
        number = "a whole number" if strength.whole else "a number"
        rising = f" and {strength.options[0]} is not above {strength.options[-1]}" if len(ends) > 1 else ""
        written = ", ".join(f"{option}: {end!r}" for option, end in zip(strength.options, ends, strict=True))
        raise ParamsError(
            f"{what} {name}: each strength is {number} {strength.least:g} to {strength.most:g}{rising} (is {written})"
        )
    if (kernel := full.get("kernel", ANY)) not in (*KERNELS, ANY):
        raise ParamsError(f"{what} {name}: kernel {kernel!r} is not one of {', '.join((*KERNELS, ANY))}")
