"""Image files -> P(fake), with a bundle or an ensemble alone: neither DVC nor shards are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, tee
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
from ffdi.features.perturbed import ImageBytes
from ffdi.features.quantised import as_stored
from ffdi.features.runtimes import Runtime
from ffdi.features.shards import refuse_nonfinite
from ffdi.intake.decoding.images import RGB, ImageSource, UnreadableImage, read_bytes
from ffdi.parallel import bounded_map
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import BATCH, Bundle
from ffdi.tails.model import Model, ModelScores
from ffdi.tails.unlike import farthest

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageScore:
    """The calibrated P(fake) of one image: the model's, and by the tails of each fold alone.

    `distance` is how far its features lie from the nearest image of the training, in units of the limit beyond which an
    image is `unlike` those of the training; both are None of a model without an index of its training.
    """

    mean: float
    by_fold: dict[int, float]
    unlike: bool | None = None
    distance: float | None = None


def predict_files(
    model: Model, files: Sequence[Path], *, max_pixels: int, device: torch.device, console: Console = Console()
) -> Iterator[tuple[Path, float | str]]:
    """Yield (file, P(fake)) in order, or (file, the reason why it cannot be read)."""
    say_devices(model, console)
    images = [(str(file), partial(read_bytes, file.parent, file.name)) for file in files]
    scores = score_images(model, images, max_pixels=max_pixels, device=device, console=console)
    for file, score in zip(files, scores, strict=True):
        yield file, score if isinstance(score, str) else score.mean


def score_files(
    model: Model, images: pd.DataFrame, source: ImageSource, *, device: torch.device, console: Console = Console()
) -> ModelScores:
    """(N,) calibrated P(fake) of the images of images.csv.

    Raises InputError when a file is no longer the one that was ingested.
    """
    say_devices(model, console)
    paths = list(images["path"])
    reads = [partial(read_ingested, source, *file) for file in zip(paths, images["image_id"], strict=True)]
    named = list(zip(paths, reads, strict=True))
    scores = score_images(model, named, max_pixels=source.max_pixels, accepted=True, device=device, console=console)
    found: list[ImageScore] = []
    for path, score in zip(paths, console.progress(scores, len(paths)), strict=True):
        if isinstance(score, str):
            raise InputError(f"{source.root / path}: {score}")
        found.append(score)
    folds = found[0].by_fold if found else {}
    by_fold = {fold: np.array([score.by_fold[fold] for score in found]) for fold in folds}
    distances = [score.distance for score in found if score.distance is not None]
    distance = np.array(distances) if len(distances) == len(found) > 0 else None
    return ModelScores(np.array([score.mean for score in found]), by_fold, distance)


def say_devices(model: Model, console: Console) -> None:
    """Say what computes a model."""
    for line in device_lines(model):
        console.say(line)


def device_lines(model: Model) -> list[str]:
    """What computes each prefix, each line once; without a prefix, what computes the tails."""
    lines = (part.extractor().device_line if part.backbone.has_prefix else device_line() for part in model.parts)
    return list(dict.fromkeys(lines))


def score_images(
    model: Model,
    images: Iterable[tuple[str, Read]],
    *,
    max_pixels: int,
    accepted: bool = False,
    device: torch.device,
    console: Console = Console(),
) -> Iterator[ImageScore | str]:
    """The score of each (name, function that reads its bytes), in order, or the reason why it cannot be read; as
    score_by_models of one model."""
    found = score_by_models([model], images, max_pixels=max_pixels, accepted=accepted, device=device, console=console)
    for scores in found:
        yield scores if isinstance(scores, str) else scores[0]


def score_by_models(
    models: Sequence[Model],
    images: Iterable[tuple[str, Read]],
    *,
    max_pixels: int,
    accepted: bool = False,
    device: torch.device,
    console: Console = Console(),
) -> Iterator[tuple[ImageScore, ...] | str]:
    """The score by each model of each (name, function that reads its bytes), in order, or the reason why it cannot be read.

    `images` may be a generator without end: a bounded number of them is read ahead. `accepted`: they were read once
    before, see Decoder. Parts of the models that read the same features share them: their prefix runs once. The console
    gets warnings of images that nvJPEG left to Pillow. FfdiError when a feature or a score is not finite.
    """
    readers = {same_features(part): part for model in models for part in model.parts}
    decoders = {key: Decoder(part.backbone, max_pixels=max_pixels, accepted=accepted) for key, part in readers.items()}
    copies = zip(readers.items(), tee(images, len(readers)), strict=True)
    streams = [_features_of(part, copy, decoders[key], console) for (key, part), copy in copies]
    of_image = (_by_reader(dict(zip(readers, found, strict=True))) for found in zip(*streams, strict=True))
    while batch := list(islice(of_image, BATCH)):
        yield from _of_readable(partial(_score_features, models, device), batch)
    for decoder in decoders.values():
        if line := decoder.fallbacks():
            console.warn(line)


def same_features(part: Bundle, spec: FeatureSpec | None = None) -> str:
    """Two bundles with the same text read the same features of an image, at the same views.

    `spec` is that of the features that were cached, by default what this machine computes.
    """
    return " ".join([without_views(spec or part.extractor().spec), *part.tta])


def without_views(spec: FeatureSpec) -> str:
    """The fingerprint of the features of clean images, whatever views were cached beside them."""
    policy = {key: value for key, value in spec.policy.items() if key not in ("views", "view_seed")}
    return replace(spec, policy=policy).fingerprint


def _features_of(
    part: Bundle, images: Iterator[tuple[str, Read]], decoder: Decoder, console: Console
) -> Iterator[Features | str]:
    """The features of each image, in order, or the reason why it cannot be read.

    Threads read, decode and run the prefix ahead, a bounded number of blocks; the tails run in the caller's thread.
    """
    extractor = part.extractor()
    runtime, spec = extractor.open(console), extractor.spec

    def features(block: Sequence[tuple[str, Read]]) -> list[Features | str]:
        files = [ImageBytes(name, read) for name, read in block]
        decoded = list(decoder((file.name, file) for file in files))
        names = [file.name for file, image in zip(files, decoded) if not isinstance(image, UnreadableImage)]
        pixels = [
            str(image) if isinstance(image, UnreadableImage) else file.views(image, decoder, part.tta)
            for image, file in zip(decoded, files)
        ]
        return _of_readable(lambda arrays: _features(runtime, spec, names, np.stack(arrays)), pixels)

    views = 1 + len(part.tta)
    size = max(1, max(runtime.batch, 8) // views)
    blocks = iter(lambda: list(islice(images, size)), [])
    block_bytes = size * views * (spec.row_bytes + 3 * spec.image_size**2)
    return chain.from_iterable(bounded_map(features, blocks, workers=None, item_bytes=block_bytes))


def _features(runtime: Runtime, spec: FeatureSpec, names: Sequence[str], pixels: RGB) -> Features:
    """(N, V, S, S, 3) -> (N, V, C, H, W) as shards would give them back. ShardError names images of infinite features."""
    count, views = pixels.shape[:2]
    features = kept_features(runtime.run(pixels.reshape(-1, *pixels.shape[2:])), spec)
    refuse_nonfinite(features, [(name, view) for name in names for view in range(views)])
    stored = as_stored(features, spec.dtype)
    return stored.reshape(count, views, *stored.shape[1:])


def _by_reader(found: Mapping[str, Features | str]) -> Mapping[str, Features] | str:
    """One image's features by what reads them, or the reason why it cannot be read."""
    reason = next((item for item in found.values() if isinstance(item, str)), None)
    return reason or {key: item for key, item in found.items() if not isinstance(item, str)}


def _score_features(
    models: Sequence[Model], device: torch.device, images: Sequence[Mapping[str, Features]]
) -> list[tuple[ImageScore, ...]]:
    tables = {key: _tables(np.stack([image[key] for image in images])) for key in images[0]}
    return list(zip(*(_scores_of(model, tables, device) for model in models), strict=True))


def _scores_of(model: Model, tables: Mapping[str, list[FeatureTable]], device: torch.device) -> list[ImageScore]:
    """The scores by one model; `tables` has the views of the images, by what reads them."""
    by_part, apart = [], []
    for part in model.parts:
        clean, *views = tables[same_features(part)]
        by_fold, distances = part.scores_and_distances(clean, device, *views)
        by_part.append(by_fold)
        apart.append(distances)
    scores = model.joined(by_part)
    if not np.isfinite(scores.mean).all():
        raise FfdiError(f"{int((~np.isfinite(scores.mean)).sum())} of {len(scores.mean)} scores are not finite")
    of_folds = {fold: of_fold.tolist() for fold, of_fold in scores.by_fold.items()}
    distance = farthest(apart)
    known = [None] * len(scores.mean) if distance is None else distance.tolist()
    return [
        ImageScore(
            mean, {fold: of_fold[at] for fold, of_fold in of_folds.items()}, None if far is None else far > 1, far
        )
        for at, (mean, far) in enumerate(zip(scores.mean.tolist(), known, strict=True))
    ]


def _tables(features: Features) -> list[FeatureTable]:
    """A table of each view of (N, V, ...) features."""
    return [FeatureTable.of_features(features[:, view]) for view in range(features.shape[1])]


def _of_readable(
    compute: Callable[[Sequence[Item]], Iterable[Result]], items: Sequence[Item | str]
) -> list[Result | str]:
    """`compute` of the items that are no reasons; a reason stays in its place."""
    readable = [item for item in items if not isinstance(item, str)]
    results = iter(compute(readable) if readable else ())
    return [item if isinstance(item, str) else next(results) for item in items]
