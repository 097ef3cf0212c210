"""Who must stay together: the groups that a path names."""

from __future__ import annotations

import re
from collections.abc import Iterable

SEPARATOR = "|"  # between the names in a cell of the column `group`


def split_names(cell: str) -> list[str]:
    """The distinct names in a cell of the column `group`, in their order; [] for no group."""
    return [name for name in dict.fromkeys(part.strip() for part in cell.split(SEPARATOR)) if name]


def join_names(names: Iterable[str]) -> str:
    """The cell that holds these names, sorted and each once; a name "" is none."""
    return SEPARATOR.join(sorted(set(names) - {""}))


def group_of(pattern: str, path: str) -> str:
    """What (?P<group>...) matches in the path, "" where it does not."""
    found = re.search(pattern, path)
    return (found["group"] or "") if found else ""
