"""Features of images that were compressed, shrunk, mirrored, ...: the same views and caches as of any extraction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ffdi.console import Console, Say
from ffdi.features.backbone import Views
from ffdi.features.decoders import Decoded, Decoder, Read
from ffdi.features.extract import extract_features
from ffdi.features.extractor import Extractor
from ffdi.features.image_views import degraded
from ffdi.features.levels import parse_level
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.features.views import Operation, acts_on_file, as_written, render
from ffdi.intake.decoding.images import RGB, ImageSource, UnreadableImage, to_array

VIEW = 1  # the number of the perturbed view: view 0 is the clean one in every shard
SEED = 0  # of what is random in it


@dataclass(frozen=True)
class PerturbationSweep:
    """How images are perturbed, one level after the other, and the folder where the features are cached.

    A level may be a chain, such as `jpeg-30+hflip`: the first is applied first.
    """

    levels: Sequence[str]
    folder: Path
    source: ImageSource
    settings: ExtractSettings = ExtractSettings()


def extract_perturbed(
    extractor: Extractor, images: pd.DataFrame, sweep: PerturbationSweep, console: Console = Console()
) -> Mapping[str, FeatureStore]:
    """The features of every image of `images` at each level, in a folder of that name; rows that are there are reused.

    `extractor` computes the clean features. The spec of a level differs in its views alone, so the runtime that the spec
    names computes it, even if this machine has another one. Levels in the folder that are not in the sweep are kept.
    Raises as extract_features does, and ShardError when the runtime that the spec names cannot run here.
    """
    settings = replace(sweep.settings, compression="none", store=None)
    if sweep.settings.store:  # then workers may share nothing but the store, and a level is small: it stays here
        settings = replace(settings, engine=ExtractSettings().engine)
    once = Console(alert=_once(console.warn))
    for level in console.progress(sweep.levels, len(sweep.levels), unit="levels"):
        extract_features(
            images.assign(role="perturbed"),
            perturbed_extractor(extractor, level),
            sweep.folder / level,
            source=sweep.source,
            settings=settings,
            console=once,
        )
    return {level: FeatureStore(sweep.folder / level) for level in sweep.levels}


def perturbed_extractor(extractor: Extractor, level: str) -> Extractor:
    """The same extractor on views that have the perturbations of a level; their random part depends on the image alone."""
    operations = level_operations(level)
    views = {"views": [dict(operation) for operation in operations], "view_seed": SEED}
    return replace(
        extractor,
        backbone=replace(extractor.backbone, views=Views(VIEW, as_written(operations), SEED)),
        spec=replace(extractor.spec, policy=dict(extractor.spec.policy) | views),
    )


@dataclass
class ImageBytes:
    """Reads an image once, and keeps its bytes: what is random in a view of it depends on them alone."""

    name: str
    read: Read
    data: bytes | None = None

    def __call__(self) -> bytes:
        if self.data is None:
            data = self.read()
            assert isinstance(data, bytes)
            self.data = data
        return self.data

    def views(self, clean: Image.Image, decoder: Decoder, levels: Sequence[str]) -> RGB:
        """(V, S, S, 3): the `clean` view, decoded by `decoder`, then those that the extractors of `levels` see."""
        return np.stack([to_array(clean), *(self._view(clean, decoder, level_operations(level)) for level in levels)])

    def _view(self, clean: Image.Image, decoder: Decoder, policy: tuple[Operation, ...]) -> RGB:
        draw: dict[str, Any] = {
            "image_id": hashlib.sha256(self()).hexdigest(),
            "view": VIEW,
            "policy": policy,
            "seed": SEED,
        }
        square: Decoded = clean
        if acts_on_file(policy):
            reads = partial(degraded, self, max_pixels=decoder.max_pixels, **draw)
            (square,) = decoder([(self.name, reads)])
        if isinstance(square, UnreadableImage):
            raise square
        return to_array(render(square, **draw))


def views_of(level: str, tta: Sequence[str]) -> list[str]:
    """The chains at which a model with `tta` sees an image beside `level`; the clean image for an empty one."""
    return [f"{level}+{view}" if level else view for view in tta]


def level_operations(level: str) -> tuple[Operation, ...]:
    """The operations of a level or of a chain of levels, in their order."""
    return tuple(operation for part in level.split("+") for operation in parse_level(part).operations)


def _once(say: Say) -> Say:
    """Say each line once, though every level of a sweep gives the same warnings."""
    lines = set[str]()

    def say_new(line: str) -> None:
        if line not in lines:
            lines.add(line)
            say(line)

    return say_new
