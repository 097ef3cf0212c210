"""Image -> views: each a pure function of (seed, image_id, view), whatever the order, worker or batch.

View 0 is the clean image. An augmented view applies the operations of the policy in their order, each with its
probability `p`, to the square that the backbone's preprocessing made of the decoded image.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from ffdi.errors import ParamsError
from ffdi.intake.decoding.images import open_header

RENDERING = "pillow-views-1"  # part of every fingerprint: change it when an operation here changes
Operation = dict[str, Any]
Draw = Generator

PRESETS: dict[str, tuple[Operation, ...]] = {
    "none": (),
    # The augmentation of the seed notebooks (torchvision's defaults: probability .5, rotation uniform in +-20 degrees).
    "seeds": (
        {"name": "hflip"},
        {"name": "vflip"},
        {"name": "autocontrast"},
        {"name": "rotate", "degrees": 20.0, "p": 1.0},
        {"name": "equalize"},
    ),
    "light": ({"name": "hflip"}, {"name": "rotate", "degrees": 5.0, "p": 1.0}),
}


def _rotate(image: Image.Image, rng: Draw, degrees: float = 20.0) -> Image.Image:
    return image.rotate(rng.uniform(-degrees, degrees), Image.Resampling.NEAREST)


def _jitter(
    image: Image.Image,
    rng: Draw,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Image.Image:
    """Factors drawn from 1 +- each option, in this order; hue in turns of the colour circle, added."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, width in zip(enhancers, (brightness, contrast, saturation), strict=True):
        if width:
            image = enhancer(image).enhance(max(0.0, 1 + rng.uniform(-width, width)))
    if hue:
        turned = np.asarray(image.convert("HSV")).copy()
        turned[..., 0] += np.uint8(round(256 * rng.uniform(-hue, hue)) % 256)  # uint8 wraps around, like the circle
        image = Image.fromarray(turned, "HSV").convert("RGB")
    return image


def _brightness(image: Image.Image, rng: Draw, low: float = 0.8, high: float = 1.2) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(rng.uniform(low, high))


def _crop(image: Image.Image, rng: Draw, scale: float = 0.8, high: float = 1.0) -> Image.Image:
    """A random square of `scale` to `high` of the area, resized back."""
    side = image.width * float(np.sqrt(rng.uniform(scale, high)))
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _jpeg(image: Image.Image, rng: Draw, low: int = 50, high: int = 95) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(low, high + 1)))
    return open_header(buffer.getvalue()).convert("RGB")


def _blur(image: Image.Image, rng: Draw, sigma: float = 1.5, low: float = 0.1) -> Image.Image:
    """A Gaussian of `low` to `sigma` pixels."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(low, sigma)))


def _downscale(image: Image.Image, rng: Draw, low: float = 0.5, high: float = 1.0) -> Image.Image:
    side = max(1, round(image.width * rng.uniform(low, high)))
    return image.resize((side, side), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)


def _noise(image: Image.Image, rng: Draw, sigma: float = 5.0, low: float = 0.0) -> Image.Image:
    """Gaussian noise of `low` to `sigma` grey levels."""
    clean = np.asarray(image, np.float32)
    noisy = clean + rng.uniform(low, sigma) * rng.standard_normal(clean.shape, np.float32)
    return Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))


OPERATIONS: dict[str, Callable[..., Image.Image]] = {
    "hflip": lambda image, rng: ImageOps.mirror(image),
    "vflip": lambda image, rng: ImageOps.flip(image),
    "autocontrast": lambda image, rng: ImageOps.autocontrast(image),
    "equalize": lambda image, rng: ImageOps.equalize(image),
    "rotate": _rotate,
    "jitter": _jitter,
    "brightness": _brightness,
    "crop": _crop,
    "jpeg": _jpeg,
    "blur": _blur,
    "downscale": _downscale,
    "noise": _noise,
}


def resolve_policy(policy: str | Sequence[str | Operation]) -> tuple[Operation, ...]:
    """A preset's name or a list of operations (`hflip`, or `{rotate: {degrees: 10, p: .5}}`) -> full operations.

    Raises ParamsError for an unknown preset, operation or option.
    """
    if isinstance(policy, str):
        if policy not in PRESETS:
            raise ParamsError(f"view policy {policy!r} is not one of {', '.join(PRESETS)}, nor a list of operations")
        operations = PRESETS[policy]
    else:
        known = {name: ("p", *_options(function)) for name, function in OPERATIONS.items()}
        parsed = (parse_operation("view operation", entry, known) for entry in policy)
        operations = tuple({"name": name} | options for name, options in parsed)
    return tuple({"p": 0.5} | operation for operation in operations)


def as_written(operations: Sequence[Operation]) -> tuple[dict[str, Any], ...]:
    """Full operations as a list in params.yaml names them: `{rotate: {degrees: 10, p: .5}}`; undoes resolve_policy."""
    return tuple({o["name"]: {key: value for key, value in o.items() if key != "name"}} for o in operations)


# kind -> (operation, the options that its strength sets, smallest strength, largest)
LEVELS: dict[str, tuple[str, tuple[str, str], float, float]] = {
    "jpeg": ("jpeg", ("low", "high"), 1, 100),  # quality
    "resize": ("downscale", ("low", "high"), 0.01, 1),  # share of the side; resized back
    "blur": ("blur", ("low", "sigma"), 0, 100),  # sigma in pixels
    "noise": ("noise", ("low", "sigma"), 0, 255),  # sigma in grey levels
    "brightness": ("brightness", ("low", "high"), 0, 10),  # factor
    "crop": ("crop", ("scale", "high"), 0.01, 1),  # share of the area
}


def parse_level(level: str) -> tuple[str, float, tuple[Operation, ...]]:
    """`jpeg-30` -> (kind, strength, the view policy of that one perturbation); ParamsError when `level` is not a level."""
    kind, _, written = level.partition("-")
    if kind not in LEVELS or not re.fullmatch(r"\d+(\.\d+)?", written):
        raise ParamsError(f"level {level!r} is no KIND-STRENGTH such as jpeg-30; kinds: {', '.join(LEVELS)}")
    name, options, least, most = LEVELS[kind]
    strength = float(written) if "." in written or kind != "jpeg" else int(written)
    if not least <= strength <= most or (kind == "jpeg" and not isinstance(strength, int)):
        what = "a whole number " if kind == "jpeg" else ""
        raise ParamsError(f"level {level!r}: the strength of {kind} is {what}{least:g} to {most:g}")
    return kind, strength, ({"name": name, "p": 1.0} | dict.fromkeys(options, strength),)


def _options(function: Callable[..., Image.Image]) -> tuple[str, ...]:
    return function.__code__.co_varnames[2 : function.__code__.co_argcount]


def parse_operation(
    what: str, entry: str | Operation, known: Mapping[str, Collection[str]]
) -> tuple[str, dict[str, Any]]:
    """(name, options) of `hflip` or `{rotate: {degrees: 10, p: .5}}`; `known` maps each name to its options.

    Raises ParamsError, which begins with `what`, for an unknown operation or option, or a `p` outside 0..1.
    """
    name, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()), ("", {}))
    if name not in known or not isinstance(options, dict) or (not isinstance(entry, str) and len(entry) != 1):
        raise ParamsError(f"{what} {entry!r} is not one of {', '.join(known)}")
    if unknown := set(options) - set(known[name]):
        allowed = ", ".join(sorted(known[name]))
        raise ParamsError(f"{what} {name}: option {min(unknown)!r} is not one of {allowed}")
    p = options.get("p", 1)
    if not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ParamsError(f"{what} {name}: p is a probability, 0 to 1 (is {p!r})")
    return name, options


def render(image: Image.Image, *, image_id: str, view: int, policy: tuple[Operation, ...], seed: int) -> Image.Image:
    """The view of a square RGB image, of the same size; `policy` is resolved."""
    if view == 0:
        return image
    digest = hashlib.sha256(f"{seed}\0{image_id}\0{view}".encode()).digest()
    rng = default_rng(list(digest))
    for operation in policy:
        options = {k: v for k, v in operation.items() if k not in ("name", "p")}
        if rng.random() < operation["p"]:
            image = OPERATIONS[operation["name"]](image, rng, **options)
    return image
