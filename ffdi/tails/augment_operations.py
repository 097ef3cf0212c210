"""The operations of `augment` in params.yaml, by name and option. Loads no torch; augment.py performs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffdi.features.degradations import DEGRADATIONS, check_options, defaults_of
from ffdi.features.views import parse_operation

_WHAT = "augment operation"
# The options of torchvision's v2 transforms of the same purpose, with the project's defaults; `p` is each sample's chance.
_ON_BATCH: dict[str, dict[str, Any]] = {
    "hflip": {"p": 0.5},
    "vflip": {"p": 0.5},
    "jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "p": 1.0},
    "crop": {"scale": (0.8, 1.0), "ratio": (0.75, 4 / 3), "p": 1.0},
    "jpeg": {"quality": (50, 95), "p": 0.5},
    "blur": {"kernel_size": 7, "sigma": (0.1, 2.0), "p": 0.5},
    "noise": {"sigma": 0.02, "p": 0.5},
}
# Those of views that are no such transforms: one image after the other, by Pillow on the CPU.
ONE_BY_ONE: dict[str, dict[str, Any]] = {
    name: defaults_of(function) | {"p": 0.5} for name, function in DEGRADATIONS.items() if name not in _ON_BATCH
}
OPTIONS = _ON_BATCH | ONE_BY_ONE


def resolve_augment(entries: Sequence[str | dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """`hflip` or `{jpeg: {quality: [40, 90], p: .3}}` -> full operations with `name` and every option.

    Raises ParamsError for an unknown operation or option, a `p` that is not a probability, or a strength out of bounds.
    """
    parsed = [parse_operation(_WHAT, entry, OPTIONS) for entry in entries]
    for name, options in parsed:
        if name in ONE_BY_ONE:
            check_options(_WHAT, name, options)
    return tuple({"name": name} | OPTIONS[name] | options for name, options in parsed)
