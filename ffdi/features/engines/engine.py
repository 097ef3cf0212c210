"""What an engine is: it performs the tasks of an extraction, on this machine or on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ffdi.console import Console
from ffdi.errors import ParamsError
from ffdi.features.extractor import Extractor
from ffdi.features.image_views import ImageFiles
from ffdi.features.settings import ExtractSettings
from ffdi.features.shard_index import Maker, ShardEntry
from ffdi.features.shard_task import ShardTask


@dataclass(frozen=True)
class EngineResult:
    """The entries of the shards in the order of their tasks, what computed rows, and the seconds of each part.

    The part `wait` is the time that the writer waited for computed rows.
    """

    entries: tuple[ShardEntry, ...]
    made_by: tuple[Maker, ...]
    seconds: Mapping[str, float]


class Engine(Protocol):
    """Computes the missing rows of the tasks, and writes and seals their shards.

    All arguments but the console are plain data for another process: an extractor loads its weights from their file.
    """

    def __call__(
        self,
        tasks: Sequence[ShardTask],
        extractor: Extractor,
        images: ImageFiles,
        settings: ExtractSettings,
        console: Console,
    ) -> EngineResult: ...


def choose_engine(name: str) -> Engine:
    """The engine that `extract.engine` of params names."""
    match name:
        case "local":
            from ffdi.features.engines.local import run_locally

            return run_locally
        case "ray":
            from ffdi.features.engines.on_ray import run_on_ray

            return run_on_ray
    raise ParamsError(f"extract.engine {name!r} is not one of local, ray")
