"""How much harder the folds of a protocol are than random ones, for the same recipe on the same images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from ffdi.bootstrap import Array, Bootstrap, Statistic, auc_of, interval_around, of_rows, resample
from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.intake.splitting.draw import draw_folds
from ffdi.intake.tables import HELD_OUT_COLUMNS
from ffdi.metrics import Metrics, explain_nulls
from ffdi.tails.policy_settings import ThresholdRule
from ffdi.tails.recipe import Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs


def with_random_folds(images: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same rows with as many folds, drawn as `split.method: stratified` draws them from `seed` (split.seed)."""
    train, folds = (images["role"] == "train").to_numpy(), images["fold"].to_numpy(np.int64, copy=True)
    label, group = images["label"].to_numpy(str)[train], images["group"].to_numpy(str)[train]
    folds[train] = draw_folds(label, group, count=len(np.unique(folds[train])), seed=seed)
    return images.drop(columns=list(HELD_OUT_COLUMNS), errors="ignore").assign(fold=folds)


def scored_on_random_folds(
    recipe: Recipe,
    inputs: TrainingInputs,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    console: Console = Console(),
) -> pd.DataFrame:
    """The out-of-fold scores (see oof.csv) of a recipe that is trained on all random folds, in memory.

    Logits alone are compared, so nothing is calibrated beyond the default.
    """
    whole = replace(recipe, folds="all", threshold=ThresholdRule(), abstain=None, calibration="folds", refit=False)
    drawn = replace(inputs, images=with_random_folds(inputs.images, seed))
    return train_recipe(whole, drawn, settings, device=device, console=console).out_of_fold.scores


def compare_with_random_folds(
    oof: pd.DataFrame, random: pd.DataFrame, images: pd.DataFrame, *, bootstrap: Bootstrap
) -> Metrics:
    """How much harder the folds of `oof` are than random ones: `folds_auc`, `random_auc`, `harder_by`, with intervals.

    `oof` and `random` are out-of-fold logits of one recipe, compared on the images of `oof`. Both AUCs are the mean over
    the folds of `oof` of the AUC of that fold's images, so that they rank the same pairs. In `random`, images of a fold
    have scores of several tails, which ranks them slightly worse, and the epochs of the fold's tail were chosen by them: both
    make `harder_by` too low. Where values are held out, tails train on fewer images: that is part of it. Its interval is
    95 %, a paired bootstrap over the groups of `images` (images.csv joined with folds.csv). Raises InputError where `random` lacks
    an image.
    """
    known = oof.merge(random[["image_id", "logit"]], on="image_id", suffixes=("", "_random"))
    known = known.merge(images[["image_id", "group"]], on="image_id")
    if len(known) != len(oof):
        raise InputError(f"oof.csv has {len(oof) - len(known)} images that random folds do not score: train again")
    labels, folds = known["label"].to_numpy(), known["fold"].to_numpy()
    statistics = {
        name: _mean_over_folds(labels, known[column].to_numpy(), folds)
        for name, column in (("folds", "logit"), ("random", "logit_random"))
    }
    drawn = resample(known["group"].to_numpy(str), statistics, bootstrap=bootstrap)
    once = np.ones((1, len(known)))
    found = {name: float(statistic(once)[0]) for name, statistic in statistics.items()}
    out: Metrics = {"folds": len(set(folds.tolist())), "images": len(known)}
    for name in found:
        low, high = interval_around(found[name], drawn[name])
        out |= {f"{name}_auc": found[name], f"{name}_auc_low": low, f"{name}_auc_high": high}
    harder = found["random"] - found["folds"]
    low, high = interval_around(harder, drawn["random"] - drawn["folds"], within=(-1.0, 1.0))
    out |= {"harder_by": harder, "harder_by_low": low, "harder_by_high": high}
    return explain_nulls(out, "one class, or one group, in a fold")


def _mean_over_folds(labels: Array, scores: Array, folds: Array) -> Statistic:
    parts = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    of_fold = [of_rows(auc_of(labels[rows], scores[rows]), rows) for rows in parts]
    return lambda weights: np.asarray(np.mean([statistic(weights) for statistic in of_fold], axis=0))


def protocol_line(metrics: Metrics) -> str:
    """The two AUCs and their difference on one line."""
    m = metrics
    if m["harder_by"] is None:
        return f"no figure ({m['harder_by_reason']})"
    interval = "" if m["harder_by_low"] is None else f" [{m['harder_by_low']:+.3f}, {m['harder_by_high']:+.3f}]"
    return (
        f"AUC within folds {m['folds_auc']:.3f} ({m['method']}), {m['random_auc']:.3f} on random folds: harder by "
        f"{m['harder_by']:+.3f}{interval}"
    )
