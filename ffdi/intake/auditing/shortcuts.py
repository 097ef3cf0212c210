"""The probes by name, and which of their figures are a warning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FACTS = ("size", "dimensions", "encoding", "metadata", "name")
PROBES = ("file_facts", *FACTS, "thumbnail", "nearest_neighbour")
WARN_ABOVE = 0.55  # the low end of the interval


def shortcuts(probes: Mapping[str, Any]) -> list[str]:
    """The probes that tell fake from real: even the low end of their interval is above .55."""
    return [name for name in PROBES if (probes.get(f"probe_{name}_auc_low") or 0.0) > WARN_ABOVE]


def warnings(probes: Mapping[str, Any]) -> list[str]:
    """A line for each probe with a figure; it starts with WARNING where the probe is one of `shortcuts`."""
    lines, loud = [], shortcuts(probes)
    for name in PROBES:
        value, low, high = (probes.get(f"probe_{name}_auc{end}") for end in ("", "_low", "_high"))
        if value is not None and low is not None:
            warning = "WARNING: " if name in loud else ""
            claim = f"{name.replace('_', ' ')} alone tells fake from real"
            lines.append(f"{warning}{claim} at AUC {value:.3f} [{low:.3f}, {high:.3f}]")
    return lines
