"""Who must stay together: the groups that a path names."""

from __future__ import annotations

import re


def group_of(pattern: str, path: str) -> str:
    """What (?P<group>...) matches in the path, "" where it does not."""
    found = re.search(pattern, path)
    return (found["group"] or "") if found else ""
