"""What the scores at all levels of perturbation say together: the mean, the worst, and what was unseen in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ffdi.bootstrap import Array, Bootstrap, auc_of, interval_around, resample
from ffdi.features.levels import parse_level
from ffdi.features.views import Operation
from ffdi.metrics import Metrics, auc
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.recipe import Head

AUC_COLUMNS = ["auc", "auc_low", "auc_high", "accuracy"]
LEVEL_COLUMNS = ["level", "kind", "strength", "at", "seen"]
ALL_SEEN = "the recipe has seen a part of every level in training"


def operations_in_training(records: Iterable[Mapping[str, Any]]) -> tuple[Operation, ...]:
    """The operations of the views and of `augment` that recipes were trained with, of the bundle.json of each.

    An ensemble has seen what any of its members has.
    """
    return tuple(operation for record in records for operation in _of_recipe(record))


def _of_recipe(record: Mapping[str, Any]) -> tuple[Operation, ...]:
    backbone, recipe = record["backbone"], record["recipe"]
    clean_alone = Head.from_dict(record["head"]).is_fitted and recipe["views"] == "sample"
    views = backbone["view_policy"] if backbone["view_count"] and not clean_alone else ()
    return (*views, *resolve_augment(recipe["augment"]))


def robustness_metrics(sweep: pd.DataFrame) -> Metrics:
    """The figures of each row of robustness.csv, as metrics/details has them."""
    out: Metrics = {}
    for row in sweep.to_dict("records"):
        key = f"robustness_{parse_level(row['level']).key}"
        out |= {f"{key}_{column}": row[column] for column in AUC_COLUMNS} | {f"{key}_seen": bool(row["seen"])}
        if np.isfinite(row.get("unlike_share", np.nan)):
            out[f"{key}_unlike_share"] = row["unlike_share"]
    return out


def robust_aucs(
    test: pd.DataFrame, by_level: Mapping[str, Array], sweep: pd.DataFrame, bootstrap: Bootstrap
) -> Metrics:
    """`robust_auc`, the mean AUC of the levels, `worst_auc`, the lowest, and `robust_unseen_auc`, the mean of those that the
    recipe has seen nothing of in training; each with its interval. Nothing without levels; NaN where undefined.

    All levels get the same draws of groups. The interval of the worst is that of the lowest AUC in each draw: another
    level may be the worst one there.
    """
    if not by_level:
        return {}
    labels, levels = test["label"].to_numpy(), list(by_level)
    aucs = np.array([auc(labels, by_level[level]) for level in levels])
    statistics = {level: auc_of(labels, scores) for level, scores in by_level.items()}
    drawn = np.array(list(resample(test["group"].to_numpy(str), statistics, bootstrap=bootstrap).values()))
    unseen = [at for at, seen in enumerate(sweep["seen"]) if not seen]
    out = _figure("robust_auc", aucs.mean(), drawn.mean(axis=0))
    out |= _figure("worst_auc", aucs.min(), drawn.min(axis=0))
    out["worst_level"] = levels[int(aucs.argmin())] if np.isfinite(aucs).all() else None
    out |= {"robust_levels": len(levels), "robust_unseen_levels": len(unseen)}
    if unseen:
        return out | _figure("robust_unseen_auc", aucs[unseen].mean(), drawn[unseen].mean(axis=0))
    keys = ("robust_unseen_auc", "robust_unseen_auc_low", "robust_unseen_auc_high")
    return out | dict.fromkeys(keys) | {f"{key}_reason": ALL_SEEN for key in keys}


def _figure(key: str, estimate: float, drawn: Array) -> Metrics:
    low, high = interval_around(float(estimate), drawn)
    return {key: float(estimate), f"{key}_low": low, f"{key}_high": high}
