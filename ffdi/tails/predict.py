"""Image files -> P(fake), with a bundle alone: neither DVC nor shards are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from ffdi.console import Console
from ffdi.errors import FfdiError, InputError
from ffdi.features.compute import kept_features
from ffdi.features.decoders import Decoder, Read
from ffdi.features.devices import device_line
from ffdi.features.feature_spec import Features, FeatureSpec
from ffdi.features.image_views import read_ingested
from ffdi.features.quantised import as_stored
from ffdi.features.runtimes import Runtime
from ffdi.features.shards import refuse_nonfinite
from ffdi.intake.decoding.images import RGB, ImageSource, UnreadableImage, read_bytes, to_array
from ffdi.parallel import bounded_map
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import BATCH, Bundle, mean_score
from ffdi.tails.checkpoint import Scores

Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageScore:
    """The calibrated P(fake) of one image: the mean over the folds, and by each fold's tail."""

    mean: float
    by_fold: dict[int, float]


def predict_files(
    bundle: Bundle, files: Sequence[Path], *, max_pixels: int, device: torch.device, console: Console = Console()
) -> Iterator[tuple[Path, float | str]]:
    """Yield (file, P(fake)) in order, or (file, the reason why it cannot be read)."""
    console.say(bundle.extractor().device_line if bundle.prefix else device_line())
    decoder = Decoder(bundle.backbone, max_pixels=max_pixels)
    images = [(str(file), partial(read_bytes, file.parent, file.name)) for file in files]
    scores = score_images(bundle, images, decoder, device=device, console=console)
    for file, score in zip(files, scores, strict=True):
        yield file, score if isinstance(score, str) else score.mean


def score_files(
    bundle: Bundle, images: pd.DataFrame, source: ImageSource, *, device: torch.device, console: Console = Console()
) -> dict[int, Scores]:
    """(N,) calibrated P(fake) of the images of images.csv, by each fold's tail.

    Raises InputError when a file is no longer the one that was ingested.
    """
    console.say(bundle.extractor().device_line)
    decoder = Decoder(bundle.backbone, max_pixels=source.max_pixels, accepted=True)
    paths = list(images["path"])
    reads = [partial(read_ingested, source, *file) for file in zip(paths, images["image_id"], strict=True)]
    scores = score_images(bundle, list(zip(paths, reads, strict=True)), decoder, device=device, console=console)
    by_fold: dict[int, list[float]] = {fold: [] for fold in bundle.tails}
    for path, score in zip(paths, console.progress(scores, len(paths)), strict=True):
        if isinstance(score, str):
            raise InputError(f"{source.root / path}: {score}")
        for fold, value in score.by_fold.items():
            by_fold[fold].append(value)
    return {fold: np.array(values) for fold, values in by_fold.items()}


def score_images(
    bundle: Bundle,
    images: Sequence[tuple[str, Read]],
    decoder: Decoder,
    *,
    device: torch.device,
    console: Console = Console(),
) -> Iterator[ImageScore | str]:
    """The score of each (name, function that reads its bytes), in order, or the reason why it cannot be read.

    Threads read, decode and run the prefix ahead, a bounded number of blocks; the tails run in the caller's thread.
    The console gets warnings of images that nvJPEG left to Pillow. FfdiError when a feature or a score is not finite.
    """
    extractor = bundle.extractor()
    runtime, spec = extractor.open(console), extractor.spec

    def features(block: Sequence[tuple[str, Read]]) -> list[Features | str]:
        decoded = list(decoder(block))
        names = [name for (name, _), image in zip(block, decoded) if not isinstance(image, UnreadableImage)]
        pixels = [str(image) if isinstance(image, UnreadableImage) else to_array(image) for image in decoded]
        return _of_readable(partial(_features, runtime, spec, names), pixels)

    size = max(runtime.batch, 8)
    blocks = (images[start : start + size] for start in range(0, len(images), size))
    block_bytes = size * (spec.row_bytes + 3 * spec.image_size**2)
    ahead = chain.from_iterable(bounded_map(features, blocks, workers=None, item_bytes=block_bytes))
    while batch := list(islice(ahead, BATCH)):
        yield from _of_readable(partial(_score_features, bundle, device), batch)
    if line := decoder.fallbacks():
        console.warn(line)


def _features(runtime: Runtime, spec: FeatureSpec, names: Sequence[str], pixels: RGB) -> Features:
    """(N, S, S, 3) -> (N, C, H, W) as shards would give them back. ShardError names the images of infinite features."""
    features = kept_features(runtime.run(pixels), spec)
    refuse_nonfinite(features, [(name, 0) for name in names])
    return as_stored(features, spec.dtype)


def _score_features(bundle: Bundle, device: torch.device, features: Features) -> list[ImageScore]:
    by_fold = bundle.fold_scores(FeatureTable.of_features(features), device)
    means = mean_score(by_fold)
    if not np.isfinite(means).all():
        raise FfdiError(f"{int((~np.isfinite(means)).sum())} of {len(means)} scores are not finite")
    of_image = zip(*(scores.tolist() for scores in by_fold.values()), strict=True)
    return [ImageScore(mean, dict(zip(by_fold, values))) for mean, values in zip(means.tolist(), of_image, strict=True)]


def _of_readable(
    compute: Callable[[Features], Iterable[Result]], items: Sequence[Features | str]
) -> list[Result | str]:
    """`compute` of the arrays among `items`, stacked; a reason stays in its place."""
    arrays = [item for item in items if not isinstance(item, str)]
    results = iter(compute(np.stack(arrays)) if arrays else ())
    return [item if isinstance(item, str) else next(results) for item in items]
