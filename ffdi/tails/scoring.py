"""Squares -> features -> the scores of models: what files, explanations and pictures of a user have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TypeVar

import numpy as np
import torch

from ffdi.console import Console
from ffdi.errors import FfdiError
from ffdi.features.compute import kept_features
from ffdi.features.feature_spec import Features, FeatureSpec
from ffdi.features.quantised import as_stored
from ffdi.features.shards import refuse_nonfinite
from ffdi.intake.decoding.images import RGB
from ffdi.parallel import bounded_map
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import BATCH, Bundle
from ffdi.tails.model import Model, ModelScores
from ffdi.tails.unlike import farthest

Item = TypeVar("Item")
Found = TypeVar("Found")
Result = TypeVar("Result")

BLOCK = 16  # images that a thread computes at once: of 64, a tail's maps no longer fit a core's cache


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


class BundleReader:
    """Computes the features of a bundle, as its shards would give them back. Several threads may call it.

    `views` are the views of an image, `batch` is how many images are handed over best, `image_bytes` the memory of one.
    """

    def __init__(self, part: Bundle, console: Console = Console()) -> None:
        extractor = part.extractor()
        self._runtime, self._spec = extractor.open(console), extractor.spec
        self.views = 1 + len(part.tta)
        self.batch = max(1, max(self._runtime.batch, BLOCK) // self.views)
        self.image_bytes = self.views * (self._spec.row_bytes + 3 * self._spec.image_size**2)

    def __call__(self, pixels: RGB, names: Sequence[str]) -> Features:
        """(N, V, S, S, 3) -> (N, V, C, H, W). ShardError names images of infinite features."""
        count, views = pixels.shape[:2]
        features = kept_features(self._runtime.run(pixels.reshape(-1, *pixels.shape[2:])), self._spec)
        refuse_nonfinite(features, [(name, view) for name in names for view in range(views)])
        stored = as_stored(features, self._spec.dtype)
        return stored.reshape(count, views, *stored.shape[1:])


def readers_of(models: Sequence[Model]) -> dict[str, Bundle]:
    """A bundle for each kind of features that the models read, by same_features."""
    return {same_features(part): part for model in models for part in model.parts}


def same_features(part: Bundle, spec: FeatureSpec | None = None) -> str:
    """Two bundles with the same text read the same features of an image, at the same views.

    `spec` is that of the features that were cached, by default what this machine computes.
    """
    return " ".join([without_views(spec or part.extractor().spec), *part.tta])


def without_views(spec: FeatureSpec) -> str:
    """The fingerprint of the features of clean images, whatever views were cached beside them."""
    policy = {key: value for key, value in spec.policy.items() if key not in ("views", "view_seed")}
    return replace(spec, policy=policy).fingerprint


def scored_in_blocks(
    items: Iterable[Item],
    features: Callable[[Sequence[Item]], list[Found]],
    score: Callable[[Sequence[Found]], list[Result]],
    *,
    readers: Iterable[BundleReader],
    device: torch.device,
) -> Iterator[Result]:
    """`score` of the `features` of the items, in order; a bounded number of items is taken ahead.

    On the CPU a block of items has one thread for both, so that as many blocks as processors are computed at once and no
    thread waits for another. On a GPU, threads compute features ahead and the caller's thread scores BATCH items at once.
    """
    known = list(readers)
    size = min(reader.batch for reader in known)
    blocks = _blocks(iter(items), size)
    block_bytes = size * sum(reader.image_bytes for reader in known)
    if device.type != "cpu":
        found = chain.from_iterable(bounded_map(features, blocks, workers=None, item_bytes=block_bytes))
        yield from chain.from_iterable(map(score, _blocks(found, BATCH)))
        return

    def both(block: Sequence[Item]) -> list[Result]:
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)  # of this worker, but the next one starts with as many
        return score(features(block))

    threads = torch.get_num_threads()
    try:
        yield from chain.from_iterable(bounded_map(both, blocks, workers=None, item_bytes=block_bytes))
    finally:
        torch.set_num_threads(threads)


def score_features(
    models: Sequence[Model], device: torch.device, images: Sequence[Mapping[str, Features]]
) -> list[tuple[ImageScore, ...]]:
    """The score by each model of each image, given by its features (V, C, H, W) by what reads them."""
    return list(zip(*(_image_scores(found) for found in model_scores(models, device, images)), strict=True))


def model_scores(
    models: Sequence[Model], device: torch.device, images: Sequence[Mapping[str, Features]]
) -> list[ModelScores]:
    """The scores of the images by each model. FfdiError when one is not finite."""
    tables = {key: _tables(np.stack([image[key] for image in images])) for key in images[0]}
    return [_scores_of(model, tables, device) for model in models]


def _blocks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    return iter(lambda: list(islice(items, size)), [])


def _tables(features: Features) -> list[FeatureTable]:
    """A table of each view of (N, V, ...) features."""
    return [FeatureTable.of_features(features[:, view]) for view in range(features.shape[1])]


def _scores_of(model: Model, tables: Mapping[str, list[FeatureTable]], device: torch.device) -> ModelScores:
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
    return replace(scores, distance=farthest(apart))


def _image_scores(scores: ModelScores) -> list[ImageScore]:
    of_folds = {fold: of_fold.tolist() for fold, of_fold in scores.by_fold.items()}
    known = [None] * len(scores.mean) if scores.distance is None else scores.distance.tolist()
    return [
        ImageScore(
            mean, {fold: of_fold[at] for fold, of_fold in of_folds.items()}, None if far is None else far > 1, far
        )
        for at, (mean, far) in enumerate(zip(scores.mean.tolist(), known, strict=True))
    ]
