"""The table of docs/params.md, from the declarations of the settings: `python -m ffdi.params.document` writes it."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from ffdi.bounds import entry_of, section_of
from ffdi.params.schema import Params

DOCUMENT = Path("docs/params.md")
HEADER = "| key | default | values | meaning |\n| --- | --- | --- | --- |\n"
_NOUNS: dict[Any, str] = {
    **{int: "integer", float: "number", str: "text", dict: "mapping", bool: "`true` or `false`"},
    Any: "value",
}


def table() -> str:
    """The table in Markdown: a row for each section and each key."""
    rows = ([f"`{key}`", default, values, meaning] for key, default, values, meaning in _rows())
    return HEADER + "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in rows)


def document(text: str) -> str:
    """A text of docs/params.md with the table of today's declarations in place of its own, which ends it."""
    return text.partition(HEADER.partition(" |")[0])[0] + table()


def meanings(section: type) -> dict[str, str]:
    """The string below each field of a class of settings, on one line; those of its bases, too."""
    found: dict[str, str] = {}
    for cls in reversed(section.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for declared, below in zip(body.body, body.body[1:], strict=False):
            match declared, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _rows(section: type = Params, place: str = "", keys: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str, str]]:
    """(key, default, values, meaning) of each setting; `keys` are left out."""
    hints, texts = get_type_hints(section, include_extras=True), meanings(section)
    for field in fields(section):
        if field.name in keys:
            continue
        key, hint = f"{place}{field.name}", hints[field.name]
        inner = _plain(hint)
        entry = get_args(inner)[1] if get_origin(inner) is dict else None
        below = section_of(inner)
        if below is not None:
            optional = below is not inner
            yield key, "`null`" if optional else "", "section or `null`" if optional else "section", texts[field.name]
            yield from _rows(below, f"{key}.")
        elif isinstance(entry, type) and is_dataclass(entry):
            yield f"{key}.NAME", _default(field), "section", texts[field.name]
            yield from _rows(entry, f"{key}.NAME.", ("name", *_inherited(entry)))
        else:
            yield key, _default(field), values(hint), texts[field.name]
            if (listed := entry_of(inner)) is not None:
                yield from _rows(listed, f"{key}.NUMBER.", _inherited(listed))


def _inherited(section: type) -> tuple[str, ...]:
    """The fields that a section has from another one, which has rows of its own, and has as they are there."""
    with_rows = [section_of(hint) for hint in get_type_hints(Params).values()]
    bases = (base for base in section.__bases__ if base in with_rows and is_dataclass(base))
    defaults = {field.name: field.default for field in fields(section)}
    return tuple(field.name for base in bases for field in fields(base) if field.default == defaults[field.name])


def _default(field: Field[Any]) -> str:
    """A default as params.yaml writes it."""
    if field.default_factory is not MISSING:
        return f"`{json.dumps(field.default_factory())}`"
    if field.default is MISSING:
        return "required"
    return (
        f"`{field.default}`" if isinstance(field.default, str) and field.default else f"`{json.dumps(field.default)}`"
    )


def values(hint: Any, plural: bool = False) -> str:
    """The values that a type allows, in words; of several such values where `plural`."""
    plain, bounds = _plain(hint), _bounds(hint)
    kind, parts = get_origin(plain), get_args(plain)
    if kind in (Union, UnionType):
        return " or ".join(values(part, plural) for part in parts)
    if is_dataclass(plain):
        return f"section{'s' if plural else ''}"
    if kind is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if kind is tuple:
        count = "list of" if parts[-1] is Ellipsis else str(len(parts))
        return f"{count} {values(parts[0], plural=True)}"
    if kind is dict and parts[1] is not Any and not plural:
        return f"mapping of names to {values(parts[1], plural=True)}"
    if plain is NoneType:
        return "`null`"
    return f"{_NOUNS[kind or plain]}{'s' if plural else ''} {bounds}".strip()


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _bounds(hint: Any) -> str:
    """The bounds of a number."""
    marks = {type(mark): mark for mark in getattr(hint, "__metadata__", ())}
    if Ge in marks and Le in marks:
        return f"{marks[Ge].ge:g} to {marks[Le].le:g}"
    signs = ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))
    return " and ".join(f"{sign} {getattr(marks[kind], name):g}" for kind, name, sign in signs if kind in marks)


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
