"""Image files -> P(fake), with a bundle or an ensemble alone: neither DVC nor shards are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.features.decoders import Decoded, Decoder, Read
from ffdi.features.devices import device_line
from ffdi.features.feature_spec import Features
from ffdi.features.perturbed import ImageBytes
from ffdi.intake.decoding.images import ImageSource, UnreadableImage, read_bytes
from ffdi.intake.decoding.read_ahead import ReadAhead
from ffdi.tails.model import Model, ModelScores
from ffdi.tails.scoring import BundleReader, ImageScore, readers_of, score_features, scored_in_blocks

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    files, ahead = list(zip(images["path"], images["image_id"], strict=True)), ReadAhead(source)
    named = ((file[0], partial(ahead.read, *file)) for file in ahead.over(files, lambda file: [file]))
    scores = score_images(model, named, max_pixels=source.max_pixels, accepted=True, device=device, console=console)
    found: list[ImageScore] = []
    for (path, _), score in zip(files, console.progress(scores, len(files)), strict=True):
        if isinstance(score, str):
            raise InputError(f"{source.place(path)}: {score}")
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
    parts = readers_of(models)
    readers = {key: BundleReader(part, console) for key, part in parts.items()}
    kinds = {key: (part.backbone.pixels, part.backbone.decoder) for key, part in parts.items()}
    decoders = {
        kinds[key]: Decoder(part.backbone, max_pixels=max_pixels, accepted=accepted) for key, part in parts.items()
    }

    def features(block: Sequence[tuple[str, Read]]) -> list[Mapping[str, Features] | str]:
        files = [ImageBytes(name, read) for name, read in block]
        decoded = {kind: list(decoder((file.name, file) for file in files)) for kind, decoder in decoders.items()}
        found = {
            key: _features(readers[key], files, decoded[kinds[key]], decoders[kinds[key]], part.tta)
            for key, part in parts.items()
        }
        return [_by_reader(dict(zip(found, of_image, strict=True))) for of_image in zip(*found.values(), strict=True)]

    score = partial(_of_readable, partial(score_features, models, device))
    yield from scored_in_blocks(images, features, score, readers=readers.values(), device=device)
    for decoder in decoders.values():
        if line := decoder.fallbacks():
            console.warn(line)


def _features(
    reader: BundleReader,
    files: Sequence[ImageBytes],
    decoded: Sequence[Decoded],
    decoder: Decoder,
    tta: Sequence[str],
) -> list[Features | str]:
    """The features of each file, which the decoder has decoded, or the reason why it cannot be read."""
    names = [file.name for file, image in zip(files, decoded, strict=True) if not isinstance(image, UnreadableImage)]
    pixels = [
        str(image) if isinstance(image, UnreadableImage) else file.views(image, decoder, tta)
        for image, file in zip(decoded, files, strict=True)
    ]
    return _of_readable(lambda arrays: reader(np.stack(arrays), names), pixels)


def _by_reader(found: Mapping[str, Features | str]) -> Mapping[str, Features] | str:
    """One image's features by what reads them, or the reason why it cannot be read."""
    reason = next((item for item in found.values() if isinstance(item, str)), None)
    return reason or {key: item for key, item in found.items() if not isinstance(item, str)}


def _of_readable(
    compute: Callable[[Sequence[Item]], Iterable[Result]], items: Sequence[Item | str]
) -> list[Result | str]:
    """`compute` of the items that are no reasons; a reason stays in its place."""
    readable = [item for item in items if not isinstance(item, str)]
    results = iter(compute(readable) if readable else ())
    return [item if isinstance(item, str) else next(results) for item in items]
