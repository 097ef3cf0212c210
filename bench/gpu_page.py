"""The page of bench/gpu.py: its rows, what a section measures, and the Markdown that is printed as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab import Lab
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Row:
    """A line of the table. `holds` is an invariant's verdict; `aim` is what a figure should be."""

    what: str
    figure: str
    aim: str = ""
    holds: bool | None = None

    def __str__(self) -> str:
        verdict = {None: self.aim, True: "holds", False: "**BROKEN**"}[self.holds]
        return f"| {self.what} | {self.figure} | {verdict} |"


Rows = Iterator[Row]


@dataclass(frozen=True)
class Bench:
    """What a section works with: the lab (see lab.py), sizes, and the names of its networks."""

    lab: Lab
    few: Lab  # the same with fewer images, for what is done several times
    quick: bool
    networks: tuple[str, str, str] = field(default=("mobilenet_v2", "wide_resnet50_2", "vit_tiny"))

    @property
    def seconds(self) -> float:
        """How long a rate is measured."""
        return 0.05 if self.quick else 2.0

    @property
    def batch(self) -> int:
        return 4 if self.quick else 64

    @property
    def on_gpu(self) -> bool:
        return str(self.lab.device) == "cuda"


@dataclass(frozen=True)
class Page:
    """The Markdown of what is known so far; printed as it grows, written to `out` where one is named."""

    out: Path | None
    lines: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)
        print("\n".join(lines), flush=True)

    def write(self) -> None:
        if self.out:
            self.out.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
