"""What a model with a refit tail is worth beside the tails of its folds, on the same test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ffdi.bootstrap import Bootstrap, auc_of, interval_around, resample
from ffdi.metrics import Metrics, auc, expected_calibration_error
from ffdi.tails.bundle import Bundle
from ffdi.tails.checkpoint import Scores
from ffdi.tails.model import Model
from ffdi.tails.recipe import REFIT


def refit_facts(parts: Sequence[Bundle]) -> Metrics:
    """`refit`: that a tail of all training images scores, of a bundle or of a member of an ensemble; and its `refit_epochs`
    in a bundle, where its head has epochs. Nothing for a model without one."""
    epochs = [part.record["refit"].get("epochs") for part in parts if part.is_refit]
    if not epochs:
        return {}
    return {"refit": True} | ({"refit_epochs": int(epochs[0])} if len(parts) == 1 and epochs[0] else {})


def refit_figures(
    model: Model, test: pd.DataFrame, by_part: Sequence[Mapping[int, Scores]], *, bootstrap: Bootstrap
) -> Metrics:
    """The figures of the mean over the folds' tails beside those of the refit tail, which are the model's own.

    `by_part` has what the tails of each part of the model gave `test`. `folds_auc` and `refit_minus_folds_auc` have 95 %
    intervals: a paired bootstrap over groups. `folds_ece`, and `folds_fpr` at the model's threshold, tell what one tail
    does to a calibration on scores of one tail each. Nothing for a model without a refit tail; NaN where undefined.
    """
    if not any(REFIT in of_part for of_part in by_part):
        return {}
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    parts = [{fold: scores for fold, scores in of_part.items() if fold != REFIT} for of_part in by_part]
    scores = {"refit": model.joined(by_part).mean, "folds": model.joined(parts).mean}
    statistics = {name: auc_of(labels, of_tails) for name, of_tails in scores.items()}
    drawn = resample(groups, statistics, bootstrap=bootstrap)
    found = {name: auc(labels, of_tails) for name, of_tails in scores.items()}
    difference = found["refit"] - found["folds"]
    low, high = interval_around(found["folds"], drawn["folds"])
    out: Metrics = {"folds_auc": found["folds"], "folds_auc_low": low, "folds_auc_high": high}
    low, high = interval_around(difference, drawn["refit"] - drawn["folds"], within=(-1.0, 1.0))
    out |= {"refit_minus_folds_auc": difference}
    out |= {"refit_minus_folds_auc_low": low, "refit_minus_folds_auc_high": high}
    real = scores["folds"][labels == 0]
    out["folds_ece"] = expected_calibration_error(labels, scores["folds"])
    out["folds_fpr"] = float(np.mean(real >= model.threshold)) if len(real) else float("nan")
    return out


def refit_line(metrics: Metrics) -> list[str]:
    """A line on the refit tail beside those of the folds; none for a model without one."""
    if not isinstance(difference := metrics.get("refit_minus_folds_auc"), float):
        return []
    low, high = (metrics[f"refit_minus_folds_auc_{end}"] for end in ("low", "high"))
    ends = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
    return [f"one refit tail in the place of the folds': AUC {difference:+.3f}{ends} against their mean"]
