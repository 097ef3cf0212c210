"""What is found of one thing, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing that a run needs or may use.

    `missing` is what a run stops at, `note` is worth a look, and both have a `remedy`: a command, or what to change.
    `facts` are the same as numbers and lists, for programs.
    """

    section: str
    name: str
    state: State
    found: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def one_of(state: State, section: str, name: str, found: str, remedy: str) -> Diagnosis:
    """A diagnosis whose remedy counts only where it is not ok."""
    return Diagnosis(section, name, state, found, "" if state == "ok" else remedy)
