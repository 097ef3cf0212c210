"""The settings of training that all recipes share. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ffdi.bounds import PositiveFloat


@dataclass(frozen=True)
class TrainSettings:
    """The section `train` of params.yaml."""

    memory_gb: PositiveFloat = 8.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = True

    def repeats(self, device_type: str) -> bool:
        """Whether a training gives the same bytes again: on a CPU it always does."""
        return self.deterministic or device_type == "cpu"
