"""Bounds of settings, written into the types of their fields. ffdi.params checks them; the library may rely on them.

A setting is a field of a frozen dataclass: its type says which values are valid, the string below it what it means.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

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
    """Marks a setting that was added after files with its section had been written: see `stored_settings`."""


LATER = Later()


def stored_settings(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass of settings, and of those below it, as files store them.

    A field that is marked LATER is left out at its default, so that what has not changed keeps its bytes.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    stored = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if LATER not in getattr(hints[field.name], "__metadata__", ()) or value != default:
            stored[field.name] = stored_settings(value) if is_dataclass(value) else value
    return stored


def with_tuples(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored fields as their dataclass takes them: JSON has lists for its tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}


def section_of(hint: Any) -> type | None:
    """The class of a section of settings, also of one that may be `null`; None for any other type."""
    is_union = get_origin(hint) in (Union, UnionType)
    parts = [part for part in get_args(hint) if part is not NoneType] if is_union else [hint]
    return parts[0] if len(parts) == 1 and isinstance(parts[0], type) and is_dataclass(parts[0]) else None
