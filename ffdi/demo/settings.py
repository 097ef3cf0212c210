"""The settings of the synthetic data set: section `demo` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from ffdi.bounds import NonNegative


@dataclass(frozen=True)
class DemoSettings:
    """How many people are drawn, and which."""

    identities: Annotated[int, Ge(6)] = 90
    """The number of people."""

    seed: NonNegative = 0
    """The seed of everything that is drawn."""
