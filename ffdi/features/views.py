"""Image -> views: each a pure function of (seed, image_id, view), whatever the order, worker or batch.

View 0 is the clean image. An augmented view applies the operations of the policy in their order, each with its
probability `p`: those of `at: file` to the decoded original, then the others to the square that the backbone's
preprocessing makes of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageEnhance, ImageOps

from ffdi.errors import ParamsError
from ffdi.features.degradations import DEGRADATIONS, check_options, defaults_of

RENDERING = "pillow-views-1"  # part of every fingerprint: change it when an operation here changes
FILE, SQUARE = "file", "square"  # where an operation acts: on the decoded original, or on the square that is made of it
_WHAT = "view operation"
_SALT = {SQUARE: "", FILE: "\0file"}
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


OPERATIONS: dict[str, Callable[..., Image.Image]] = {
    "hflip": lambda image, rng: ImageOps.mirror(image),
    "vflip": lambda image, rng: ImageOps.flip(image),
    "autocontrast": lambda image, rng: ImageOps.autocontrast(image),
    "equalize": lambda image, rng: ImageOps.equalize(image),
    "rotate": _rotate,
    "jitter": _jitter,
    **DEGRADATIONS,
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
        known = {name: ("p", "at", *defaults_of(function)) for name, function in OPERATIONS.items()}
        parsed = (parse_operation(_WHAT, entry, known) for entry in policy)
        operations = tuple({"name": name} | _checked(name, options) for name, options in parsed)
    return tuple({"p": 0.5} | operation for operation in operations)


def _checked(name: str, options: Operation) -> Operation:
    """The options of an operation, without `at` where it is the square: as they were before there was a choice."""
    at = options.get("at", SQUARE)
    if at not in (FILE, SQUARE):
        raise ParamsError(f"{_WHAT} {name}: at {at!r} is not one of {FILE}, {SQUARE}")
    rest = {key: value for key, value in options.items() if key != "at"}
    if name in DEGRADATIONS:
        check_options(_WHAT, name, rest)
    return rest | ({"at": FILE} if at == FILE else {})


def as_written(operations: Sequence[Operation]) -> tuple[dict[str, Any], ...]:
    """Full operations as a list in params.yaml names them: `{rotate: {degrees: 10, p: .5}}`; undoes resolve_policy."""
    return tuple({o["name"]: {key: value for key, value in o.items() if key != "name"}} for o in operations)


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


def render(
    image: Image.Image, *, image_id: str, view: int, policy: tuple[Operation, ...], seed: int, at: str = SQUARE
) -> Image.Image:
    """The view of an RGB image, of the same size, as far as the operations `at` that place make it; `policy` is resolved.

    The draws of one place do not depend on the operations at the other.
    """
    if view == 0:
        return image
    digest = hashlib.sha256(f"{seed}\0{image_id}\0{view}{_SALT[at]}".encode()).digest()
    rng = default_rng(list(digest))
    for operation in policy:
        options = {k: v for k, v in operation.items() if k not in ("name", "p", "at")}
        if operation.get("at", SQUARE) == at and rng.random() < operation["p"]:
            image = OPERATIONS[operation["name"]](image, rng, **options)
    return image


def acts_on_file(policy: Sequence[Operation]) -> bool:
    """Whether views of a resolved policy need the decoded original."""
    return any(operation.get("at") == FILE for operation in policy)
