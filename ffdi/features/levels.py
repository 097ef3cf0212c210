"""Levels of perturbation, such as `jpeg-50`, `blur-2@file` or `mix-3`: a view policy of one operation. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ffdi.errors import ParamsError
from ffdi.features.degradations import MIXED, STRENGTHS, Strength
from ffdi.features.views import FILE, SQUARE, Operation

_OPERATIONS = {"resize": "downscale"}  # of the kinds of levels that have another name
_NAMES = (
    *("jpeg", "resize", "blur", "noise", "brightness", "crop", "webp", "double_jpeg", "contrast", "gamma", "tint"),
    *("sharpen", "shift", "screenshot", "mix"),
)
LEVELS = {kind: STRENGTHS[_OPERATIONS.get(kind, kind)] for kind in _NAMES}
_WITHOUT_STRENGTH = ("hflip",)
_AT_FILE = ("jpeg", "webp", "double_jpeg", "resize", "screenshot", "mix")  # by default: what happens to files
# What an operation does as a part of it, or as well: trained with the one, a model has seen the other.
_PARTS: dict[str, Collection[str]] = {
    "mix": MIXED,
    "double_jpeg": ("jpeg",),
    "screenshot": ("crop", "downscale"),
    "autocontrast": ("brightness", "contrast"),
    "equalize": ("brightness", "contrast"),
}
_JITTERED = {"brightness": "brightness", "contrast": "contrast", "saturation": "tint", "hue": "tint"}
_JITTER = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.0, "hue": 0.0}


@dataclass(frozen=True)
class Level:
    """`operations` is the view policy of the one perturbation; `strength` is None where its kind has none.

    `name` is the level as it is written, without the place where that is the default.
    """

    name: str
    kind: str
    strength: float | None
    at: str
    operations: tuple[Operation, ...]

    @property
    def key(self) -> str:
        """The name as a part of the keys of metrics."""
        return self.name.replace("@", "_at_").replace("-", "_").replace(".", "_")


def parse_level(entry: str | Mapping[str, Any]) -> Level:
    """`jpeg-30`, `jpeg-30@square` or `{level: jpeg-30, at: square}` -> the level; ParamsError when it is none."""
    level = _as_text(entry)
    named, _, place = level.partition("@")
    kind, _, written = named.partition("-")
    what = LEVELS.get(kind)
    if named not in _WITHOUT_STRENGTH and (what is None or not re.fullmatch(r"\d+(\.\d+)?", written)):
        kinds = ", ".join((*LEVELS, *_WITHOUT_STRENGTH))
        raise ParamsError(f"level {level!r} is no KIND-STRENGTH such as jpeg-30; kinds: {kinds}")
    default = FILE if kind in _AT_FILE else SQUARE
    if "@" in level and place not in (FILE, SQUARE):
        raise ParamsError(f"level {level!r}: behind @ stands {FILE} or {SQUARE}")
    at = place or default
    strength = _strength(level, kind, written, what) if what else None
    operation: Operation = {"name": _OPERATIONS.get(kind, kind), "p": 1.0}
    operation |= dict.fromkeys(what.options, strength) if what else {}
    name = named if at == default else f"{named}@{at}"
    return Level(name, kind, strength, at, (operation | ({"at": FILE} if at == FILE else {}),))


def _as_text(entry: str | Mapping[str, Any]) -> str:
    if isinstance(entry, str):
        return entry
    if set(entry) != {"level", "at"} or not all(isinstance(value, str) for value in entry.values()):
        raise ParamsError(f"level {dict(entry)!r} is neither KIND-STRENGTH nor {{level: KIND-STRENGTH, at: {FILE}}}")
    if "@" in entry["level"]:
        raise ParamsError(f"level {dict(entry)!r} names its place twice")
    return f"{entry['level']}@{entry['at']}"


def _strength(level: str, kind: str, written: str, what: Strength) -> float:
    strength = float(written) if "." in written or not what.whole else int(written)
    if not what.least <= strength <= what.most or (what.whole and not isinstance(strength, int)):
        number = "a whole number " if what.whole else ""
        raise ParamsError(f"level {level!r}: the strength of {kind} is {number}{what.least:g} to {what.most:g}")
    return strength


def seen_in_training(level: Level, trained: Iterable[Operation]) -> tuple[str, ...]:
    """The operations of a level, by name, that `trained` has too, wherever and however strongly it acts there.

    `trained` are resolved operations of views or of `augment`. What an operation has as its parts counts as well: a model
    that was trained with `mix` has seen every part of it, and one that was trained with `jpeg` a part of every mix.
    """
    known = {name for operation in trained if operation.get("p", 1) > 0 for name in _names(operation)}
    seen = known & {name for operation in level.operations for name in _names(operation)}
    return tuple(sorted(seen - {part for name in seen for part in _parts(name)}))


def _names(operation: Operation) -> set[str]:
    """The operation itself and its parts, by name."""
    name = operation["name"]
    if name == "jitter":
        options = _JITTER | operation
        return {part for option, part in _JITTERED.items() if options[option]}
    return {name} | _parts(name)


def _parts(name: str) -> set[str]:
    parts = set(_PARTS.get(name, ()))
    return parts | {inner for part in parts for inner in _parts(part)}
