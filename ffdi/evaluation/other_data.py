"""A bundle on images of another data set, straight from their files: what it is worth away from home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.evaluation import below_chance
from ffdi.evaluation.evaluate import evaluate_scores_by_fold
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.near_duplicates.clusters import components, join_groups
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.metrics import Metrics, explain_nulls
from ffdi.tails.bundle import Bundle
from ffdi.tails.predict import score_files


@dataclass(frozen=True)
class OtherDataEvaluation:
    """A bundle on another data set: its figures, a row of scores for each image, and the rows that were left out."""

    metrics: Metrics
    scores: pd.DataFrame
    seen: pd.DataFrame


def evaluate_on_other_data(
    bundle: Bundle,
    images: pd.DataFrame,
    source: ImageSource,
    *,
    tested_on: str,
    phash_bits: int,
    bootstrap: Bootstrap,
    device: torch.device,
    console: Console = Console(),
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
    by_fold = score_files(bundle, own, source, device=device, console=console)
    judged = evaluate_scores_by_fold(bundle, own, by_fold, bootstrap=bootstrap)
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
