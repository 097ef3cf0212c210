"""The extractor of a backbone as what runs the tasks will compute it: `runtime: auto` is decided where the GPUs are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffdi.console import Console
from ffdi.features.backbone import Backbone
from ffdi.features.devices import has_cuda
from ffdi.features.engines.same_machine import SharedWeights, go_to
from ffdi.features.extractor import Extractor, PrefixFile, load_extractor
from ffdi.features.settings import ExtractSettings
from ffdi.files import sha256_file


def load_for_engine(
    backbone: Backbone, weights: Path, out: Path, settings: ExtractSettings, console: Console
) -> Extractor:
    """load_extractor on this machine, or on a worker of the cluster when workers have GPUs and this machine has none.

    `out` is the folder of the features, which may be known there.
    """
    if settings.engine != "ray" or has_cuda():
        return load_extractor(backbone, weights, known=out)
    from ffdi.features.engines.ray import Cluster

    with Cluster(settings.ray, console) as cluster:
        if not cluster.share["num_gpus"]:
            return load_extractor(backbone, weights, known=out)
        url = f"{settings.store.rstrip('/')}/{backbone.name}" if settings.store else None
        shared = SharedWeights(weights, sha256_file(weights), url)
        shared.share()
        load = LoadOnWorker(backbone, shared, out, Path.cwd())
        [(_, extractor)] = cluster.map(load, [backbone.name], named=lambda name: f"the weights of {name}")
    return replace(extractor, load=PrefixFile(extractor.backbone, weights))


@dataclass(frozen=True)
class LoadOnWorker:
    """Makes what a worker does to load an extractor."""

    backbone: Backbone
    weights: SharedWeights
    out: Path
    folder: Path

    def __call__(self) -> Callable[[Any, Any], Extractor]:
        """The work; its items are not looked at."""
        return self.load

    def load(self, item: Any, tell: Any) -> Extractor:
        """The extractor, with the path of the weights here."""
        go_to(self.folder)
        return load_extractor(self.backbone, self.weights.here(), known=self.out)
