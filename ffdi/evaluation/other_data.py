"""A bundle on images of another data set, straight from their files: what it is worth away from home."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.evaluation import below_chance
from ffdi.evaluation.evaluate import judge
from ffdi.features.compute import compute_rows
from ffdi.features.feature_spec import Features
from ffdi.features.image_views import locate_images
from ffdi.features.quantised import as_stored
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.near_duplicates.clusters import components, join_groups
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.metrics import Metrics, explain_nulls
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import BATCH, Bundle, prefix_of
from ffdi.tails.checkpoint import Scores


@dataclass(frozen=True)
class OtherDataEvaluation:
    """A bundle on another data set: its figures, a row of scores for each image, and the rows that were left out."""

    metrics: Metrics
    scores: pd.DataFrame
    seen: pd.DataFrame


def evaluate_on_other_data(
    bundle: Bundle,
    images: pd.DataFrame,
    *,
    root: Path,
    tested_on: str,
    phash_bits: int,
    bootstrap: Bootstrap,
    max_pixels: int,
    device: torch.device,
    progress: Callable[[Iterator[Features], int], Iterable[Features]] = lambda blocks, total: blocks,
    say: Callable[[str], None] = lambda line: None,
) -> OtherDataEvaluation:
    """Judge `bundle` on `images` (images.csv, or joined with folds.csv) with its frozen threshold and temperature.

    The metrics are those of the home test set, with `recipe`, `tested_on` and `n_seen`. Left out are images that the
    bundle was trained or validated on, and what near-duplicates (perceptual hashes within `phash_bits`) link to those.
    An image without a group stands in that of its near-duplicates; groups that share an image are one. Raises InputError
    when none is left.
    """
    seen, cluster = seen_before(bundle, images, phash_bits)
    own = images.assign(group=whole_groups(list(images["group"]), cluster))[~seen]
    if own.empty:
        raise InputError(f"{tested_on}: all {len(images)} images are known from the training: nothing to evaluate")
    by_fold = score_files(bundle, own, root=root, max_pixels=max_pixels, device=device, progress=progress, say=say)
    judged = judge(bundle, own, by_fold, bootstrap=bootstrap)
    recipe = str(bundle.facts["recipe"]["name"])
    about: Metrics = {"recipe": recipe, "tested_on": tested_on, "n_seen": int(seen.sum())}
    about["model_sha256"] = str(bundle.facts["facts_sha256"])
    return OtherDataEvaluation(below_chance.mark(about | judged.metrics), judged.plots["scores"], images[seen])


def other_data_metrics(found: Sequence[Metrics]) -> Metrics:
    """metrics/details/cross.json: of each of evaluate_on_other_data's `RECIPE_on_DATA_*`, what says what it is worth there."""
    out: Metrics = {"evaluations": len(found)}
    out["below_chance"] = sum("auc" in below_chance.keys_below(m) for m in found)
    for m in found:
        for figure in ("auc", "auc_low", "auc_high", "accuracy", "accuracy_low", "accuracy_high", "n_test", "n_seen"):
            key = f"{m['recipe']}_on_{m['tested_on']}_{figure}"
            out |= explain_nulls({key: m[figure]}, "one class, or one group")
    return out


def whole_groups(cells: Sequence[str], cluster: npt.NDArray[np.int64]) -> list[str]:
    """(N,) what each image is resampled with: its groups with all that they share images with, else near-duplicates."""
    joined = join_groups(cells, [str(row) for row in range(len(cells))])
    return [name or f"near-duplicates {c}" for name, c in zip(joined, cluster, strict=True)]


def seen_before(
    bundle: Bundle, images: pd.DataFrame, phash_bits: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """(N,) whether each image is one of the training or linked to one by near-duplicates; (N,) its cluster of those."""
    known = len(bundle.seen)
    hashes = [*bundle.seen["phash"], *images["phash"]]
    cluster = components(perceptual_pairs(hashes, phash_bits), len(hashes))
    alike = np.isin(cluster[known:], cluster[:known]) | images["image_id"].isin(bundle.seen["image_id"]).to_numpy()
    return alike, cluster[known:]


def score_files(
    bundle: Bundle,
    images: pd.DataFrame,
    *,
    root: Path,
    max_pixels: int,
    device: torch.device,
    progress: Callable[[Iterator[Features], int], Iterable[Features]] = lambda blocks, total: blocks,
    say: Callable[[str], None] = lambda line: None,
) -> dict[int, Scores]:
    """Calibrated P(fake) of view 0 of every image by each fold's tail; only a batch of features is ever in memory."""
    rows = [(image_id, 0) for image_id in images["image_id"]]
    prefix = prefix_of(bundle)
    say(prefix.device_line)
    files = locate_images(images, ImageSource(root, max_pixels))
    blocks = compute_rows(rows, prefix, files, console=Console(say))
    parts: dict[int, list[Scores]] = {fold: [] for fold in bundle.tails}
    for batch in _batches(progress(blocks, len(rows))):
        table = FeatureTable.of_features(as_stored(batch, bundle.backbone.feature_dtype))
        for fold, scores in bundle.fold_scores(table, device).items():
            parts[fold].append(scores)
    return {fold: np.concatenate(own) for fold, own in parts.items()}


def _batches(blocks: Iterable[Features]) -> Iterator[Features]:
    held: list[Features] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= BATCH:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
