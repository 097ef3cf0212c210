"""Rows -> features: threads read images, render their views and run the prefix."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.console import Console
from ffdi.errors import network_code
from ffdi.features.backbone import Backbone
from ffdi.features.batching import FloatFeatures
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.feature_spec import Features, FeatureSpec, Row
from ffdi.features.image_views import ImageFiles, ViewReader, locate_images
from ffdi.features.keep import channels_of, keep_features
from ffdi.features.quantised import as_stored
from ffdi.features.shards import refuse_nonfinite
from ffdi.intake.decoding.images import ImageSource
from ffdi.parallel import bounded_map
from ffdi.timing import PartTimer

_SPARE_BYTES = 1 << 26  # of features computed ahead while a shard is synced and hashed


class FeatureComputer:
    """The opened runtime of an extractor and a reader of its views. Several threads work for one caller.

    `timer` gets the seconds of `start` (opening the runtime) and, summed over the threads, of `decode`, `views` and
    `prefix`. The console gets what the runtime and the decoder warn of.
    """

    def __init__(
        self, extractor: Extractor, images: ImageFiles, timer: PartTimer | None = None, console: Console = Console()
    ) -> None:
        self._spec, self._backbone, self._place = extractor.spec, extractor.backbone, extractor.backbone.place
        self._console, self._timer = console, timer or PartTimer()
        with self._timer.timed("start"):
            self.runtime = extractor.open(console)
            self._reader = ViewReader(images, extractor.backbone, timer=self._timer)

    def reading(self, images: ImageFiles) -> FeatureComputer:
        """The same runtime and decoder for other images."""
        other = copy.copy(self)
        other._reader = ViewReader(images, self._backbone, decoder=self._reader.decoder, timer=self._timer)
        return other

    def blocks(self, rows: Sequence[Row], workers: int | None = None) -> Generator[Features, None, None]:
        """Features of `rows` in their order, in blocks; each image is decoded once for all its views in a block.

        How far the workers are ahead of the caller is bounded in bytes. ShardError names the image of a feature that is
        not finite.
        """
        size = max(self.runtime.batch, 8)
        block_bytes = size * (self._spec.row_bytes + 3 * self._spec.image_size**2)
        spare = _SPARE_BYTES // (size * self._spec.row_bytes)
        blocks = self._reader.ahead(in_blocks(rows, size))
        yield from bounded_map(self._compute, blocks, workers=workers, item_bytes=block_bytes, spare=spare)

    @property
    def fallbacks(self) -> str:
        """Which images Pillow decoded where nvJPEG was asked for, on one line; empty when there are none."""
        return self._reader.decoder.fallbacks() or ""

    def warn_of_fallbacks(self) -> None:
        """Say which images those are."""
        if line := self.fallbacks:
            self._console.warn(line)

    def _compute(self, rows: Sequence[Row]) -> Features:
        images = self._reader(rows)
        with self._timer.timed("prefix"), network_code(self._place):
            features = kept_features(self.runtime.run(images), self._spec)
        refuse_nonfinite(features, rows)
        return features


def kept_features(features: FloatFeatures, spec: FeatureSpec) -> Features:
    """What shards of `spec` hold of features (N, ...) of its prefix, in its dtype `reads_as`, not yet as int8 rounds it."""
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes infinite: refuse_nonfinite
        read = features.astype(spec.reads_as, copy=False)
        if spec.keep == "all" or spec.several_cuts:
            return read
        return keep_features(as_stored(read, spec.dtype), spec.keep, spec.cut_grid)


def compute_rows(
    rows: Sequence[Row],
    extractor: Extractor,
    images: ImageFiles,
    *,
    workers: int | None = None,
    console: Console = Console(),
) -> Iterator[Features]:
    """Features of `rows` in their order, in blocks; see FeatureComputer."""
    computer = FeatureComputer(extractor, images, console=console)
    yield from computer.blocks(rows, workers)
    computer.warn_of_fallbacks()


def embed(
    images: pd.DataFrame, extractor: Extractor, source: ImageSource, console: Console = Console()
) -> npt.NDArray[np.float32]:
    """(N, C) features of view 0 in the order of `images`, averaged over the map (C, H, W) or the tokens (L, C)."""
    console.say(extractor.device_line)
    rows = [(image_id, 0) for image_id in images["image_id"]]
    blocks = compute_rows(rows, extractor, locate_images(images, source), console=console)
    axes = {3: (2, 3), 2: (1,)}.get(len(extractor.spec.shape), ())
    embedded, start = np.empty((len(rows), channels_of(extractor.spec.shape)), np.float32), 0
    for block in console.progress(blocks, len(rows)):
        embedded[start : start + len(block)] = block.astype(np.float32).mean(axis=axes)
        start += len(block)
    return embedded


@dataclass(frozen=True)
class Embedder:
    """Embeds images by a backbone with a file of weights, which is read when images come."""

    backbone: Backbone
    weights: Path
    source: ImageSource
    console: Console = Console()

    def __call__(self, images: pd.DataFrame) -> npt.NDArray[np.float32]:
        """As embed."""
        return embed(images, load_extractor(self.backbone, self.weights), self.source, self.console)


def in_blocks(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Runs of at most `size` rows that keep an image's views together; longer ones when one image has more views."""
    block: list[Row] = []
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        views = list(group)
        if block and len(block) + len(views) > size:
            yield block
            block = []
        block += views
    if block:
        yield block
