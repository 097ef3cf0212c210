"""Small pieces of a card: Markdown that no name can break, figures with their intervals, the YAML of its head."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ffdi.metrics import Metrics

_SIGNS = re.compile(r"[\\`*\[\]<>|#]|(?<!\w)_|_(?!\w)")


def plain(text: object) -> str:
    """A name as Markdown that shows it as it is, on one line."""
    return _SIGNS.sub(lambda found: "\\" + found[0], " ".join(str(text).split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, and an empty line."""
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def figure(metrics: Metrics, key: str) -> str:
    """`0.883 [0.835, 0.938]`, or why there is none."""
    if not isinstance(value := metrics.get(key), float):
        return f"none: {plain(metrics.get(f'{key}_reason', 'not measured'))}"
    ends = interval(metrics, key)
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else f"{value:.3f}"


def interval(metrics: Metrics, key: str) -> tuple[float, float] | None:
    """The ends of a figure's interval, where both are known."""
    low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
    return (low, high) if isinstance(low, float) and isinstance(high, float) else None


def percent(share: float) -> str:
    """`1.5 %`."""
    return f"{100 * share:.1f} %"


def yaml(value: Any, indent: int = 0) -> str:
    """Mappings, lists, strings and numbers as YAML; strings are quoted as in JSON, whose notation YAML reads."""
    space = "  " * indent
    if isinstance(value, Mapping):
        return "".join(f"{space}{key}:{_behind(item, indent)}" for key, item in value.items())
    return "".join(f"{space}-{_in_list(item, indent)}" for item in value)


def _behind(item: Any, indent: int) -> str:
    """What follows a key and its colon."""
    return "\n" + yaml(item, indent + 1) if isinstance(item, Mapping | list) else f" {_scalar(item)}\n"


def _in_list(item: Any, indent: int) -> str:
    """What follows the dash."""
    return " " + yaml(item, indent + 1).lstrip() if isinstance(item, Mapping) else f" {_scalar(item)}\n"


def _scalar(item: Any) -> str:
    return json.dumps(item, ensure_ascii=False)
