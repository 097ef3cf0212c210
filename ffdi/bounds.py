"""Bounds of settings, written into the types of their fields. ffdi.params checks them; the library may rely on them.

A setting is a field of a frozen dataclass: its type says which values are valid, the string below it what it means.
"""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[int, Ge(1)]
NonNegative = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]
FractionBelow1 = Annotated[float, Ge(0.0), Lt(1.0)]
FractionAbove0 = Annotated[float, Gt(0.0), Le(1.0)]
PositiveFloat = Annotated[float, Gt(0.0)]
NonNegativeFloat = Annotated[float, Ge(0.0)]


@dataclass(frozen=True)
class Rule:
    """What a type cannot say of a value: `check` takes it and raises FfdiError with the rule that it breaks."""

    check: Callable[[Any], object]


@dataclass(frozen=True)
class OnlyIn:
    """The layouts that read a setting of a data set. A setting without this mark is read by every layout."""

    layouts: tuple[str, ...]

    def __init__(self, *layouts: str) -> None:
        object.__setattr__(self, "layouts", layouts)


@dataclass(frozen=True)
class Later:
    """Marks a setting that was added after files with its section had been written: see features/stored_settings.py."""


LATER = Later()


def entry_of(hint: Any) -> type | None:
    """The class of the sections in a list of them, also of one that may be text instead; None for any other type."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is tuple and isinstance(entry := get_args(part)[0], type) and is_dataclass(entry):
            return entry
    return None


def section_of(hint: Any) -> type | None:
    """The class of a section of settings, also of one that may be `null`; None for any other type."""
    is_union = get_origin(hint) in (Union, UnionType)
    parts = [part for part in get_args(hint) if part is not NoneType] if is_union else [hint]
    return parts[0] if len(parts) == 1 and isinstance(parts[0], type) and is_dataclass(parts[0]) else None
