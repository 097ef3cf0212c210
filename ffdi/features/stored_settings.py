"""How files store settings, bundle.json above all: a setting that was added later is left out at its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from ffdi.bounds import LATER


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
