"""The settings of the machine that trains tails: section `train` of params.yaml."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from ffdi.bounds import LATER, Positive, PositiveFloat
from ffdi.errors import ParamsError
from ffdi.features.settings import EngineName, RaySettings


@dataclass(frozen=True)
class TrainSettings:
    """Where and how exactly tails are trained, the same for every recipe."""

    memory_gb: PositiveFloat = 8.0
    """Features up to this size are held in memory; larger ones are streamed from the shards: see
    [training.md](training.md)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The device that trains; `auto` is CUDA where there is a GPU."""

    deterministic: bool = True
    """Whether the same training gives the same bytes; `false` allows faster CUDA kernels that do not: see
    [training.md](training.md)."""

    processes: Annotated[Positive, LATER] = 1
    """How many processes of this machine train an end-to-end recipe (`cut: input`) together, on CUDA with a GPU each; other
    recipes gain nothing by it and have one: see [training.md](training.md)."""

    engine: Annotated[EngineName, LATER] = "local"
    """What trains the tails of a recipe: this machine, or a Ray cluster, a task for each fold: see
    [scale.md](scale.md#recipes-and-folds-as-ray-tasks)."""

    ray: Annotated[RaySettings, LATER] = RaySettings()
    """The Ray cluster of `engine: ray`."""

    def check_written(self, written: Collection[str]) -> None:
        """Raise ParamsError for a key that has no effect beside the others."""
        if self.engine == "ray" and self.processes > 1:
            raise ParamsError(
                "processes: has no effect with `engine: ray`, whose tasks train a tail each: leave one out"
            )

    def repeats(self, device_type: str) -> bool:
        """Whether a training gives the same bytes again: on a CPU it always does."""
        return self.deterministic or device_type == "cpu"
