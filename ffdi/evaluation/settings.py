"""The settings of the ladder. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from ffdi.bounds import Positive


@dataclass(frozen=True)
class LadderSettings:
    """The section `ladder` of params.yaml."""

    recipe: str = "efficientnet_lite0"
    """The recipe that is trained on every rung."""

    backbone: str = "efficientnet_lite0"
    """The recipe's backbone, which dvc.yaml cannot look up."""

    folds: Annotated[int, Ge(2)] = 2
    """The number of folds of each rung."""

    epochs: Positive | None = None
    """The number of epochs of each rung; by default the recipe's."""

    seeds: Positive = 1
    """How many times each rung is trained, with a seed of its own each time."""
