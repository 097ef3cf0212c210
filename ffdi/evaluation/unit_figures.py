"""What a model is worth on units of images, such as videos: the figures `unit_*`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.evaluation.attributes import attribute_metrics, by_attribute
from ffdi.evaluation.policy_metrics import policy_metrics
from ffdi.evaluation.settings import JudgedBy, UnitRule
from ffdi.evaluation.units import Units, on_two_sides, said
from ffdi.metrics import Metrics, auc, evaluate_scores, explain_nulls
from ffdi.tails.checkpoint import Scores
from ffdi.tails.model import Model

PREFIX = "unit_"  # of the keys of metrics/details
_OF_IMAGES = ("threshold", "threshold_rule", "n_test")  # the same for units, or told by another key


@dataclass(frozen=True)
class UnitFigures:
    """`metrics` are the keys `unit*`; `cells` (N,) the unit of each image, "" for one of its own; `warnings` are lines."""

    metrics: Metrics = field(default_factory=dict)
    cells: Sequence[str] = ()
    warnings: Sequence[str] = ()


def unit_figures(
    model: Model,
    images: pd.DataFrame,
    scores: Scores,
    by: JudgedBy,
    *,
    bootstrap: Bootstrap,
) -> UnitFigures:
    """The figures of the units of `images`, whose scores (N,) they join; none where no unit is declared.

    They are those of images, at the model's threshold, whose policy knows no units. A unit is fake where one of its
    images is; how many have both labels is counted in `unit_mixed`. Raises InputError where the images have no such
    attribute.
    """
    rule, names = by.unit, by.attributes
    if rule is None:
        return UnitFigures()
    units = Units.of(images, rule)
    table, joined = units.table, units.scores(scores)
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    figures = evaluate_scores(labels, joined, groups, threshold=model.threshold, bootstrap=bootstrap)
    figures |= policy_metrics(model.policy, labels, joined, groups, bootstrap=bootstrap)
    kept = names and [name for name in names if name.removeprefix("attr_") != rule.attribute]
    split = by_attribute(table, joined, threshold=model.threshold, bootstrap=bootstrap, names=kept)
    figures |= attribute_metrics(table, split, kept)
    fakes, mixed = int(labels.sum()), list(table["unit"][table["mixed"]])
    counts: Metrics = {"count": len(table), "reals": len(table) - fakes, "fakes": fakes, "mixed": len(mixed)}
    size = table["images"]
    counts |= {"images_min": int(size.min()), "images_median": float(size.median()), "images_max": int(size.max())}
    unsaid = {*_OF_IMAGES, *model.policy.facts}
    figures = explain_nulls({k: v for k, v in figures.items() if k not in unsaid}, "one class, or one group, of units")
    metrics: Metrics = {"unit": rule.attribute, "unit_score": rule.score}
    metrics |= {PREFIX + key: value for key, value in (counts | figures).items()}
    told = f"{len(mixed)} of {len(table)} units ({rule.attribute}) have real and fake images, and count as fake: "
    return UnitFigures(metrics, list(images[rule.column]), [told + said(mixed)] if mixed else [])


def unit_validation(
    oof: pd.DataFrame | None, images: pd.DataFrame, rule: UnitRule | None, *, bootstrap: Bootstrap
) -> UnitFigures:
    """`unit_fold_K_val_auc` of the out-of-fold scores, with its interval over groups; their mean and spread.

    By these figures recipes are ranked, for the test set must choose nothing. `images` is images.csv joined with
    folds.csv; a unit with images on two sides of the split is judged by each side's own, and is told.
    """
    if rule is None or oof is None:
        return UnitFigures()
    known, metrics = oof.merge(images.drop(columns=["label", "fold"]), on="image_id"), Metrics()
    found = []
    for fold, rows in known.groupby("fold"):
        units = Units.of(rows.reset_index(drop=True), rule)
        labels, scores = units.table["label"].to_numpy(), units.scores(rows["score"].to_numpy(np.float64))
        low, high = auc_interval(labels, scores, units.table["group"].to_numpy(), bootstrap=bootstrap)
        found.append(auc(labels, scores))
        key = f"{PREFIX}fold_{fold}_val_auc"
        metrics |= {key: found[-1], f"{key}_low": low, f"{key}_high": high}
    spread: Metrics = {"val_auc_std": float(np.std(found, ddof=1)) if len(found) > 1 else None}
    if len(found) < 2:
        spread["val_auc_std_reason"] = "one fold has no spread"
    split = on_two_sides(images, rule)
    metrics |= {f"{PREFIX}val_auc_mean": float(np.mean(found))} | {PREFIX + k: v for k, v in spread.items()}
    metrics[f"{PREFIX}on_two_sides"] = len(split)
    told = (
        f"{len(split)} units ({rule.attribute}) have images on two sides of the split, which no group holds together: "
    )
    metrics = explain_nulls(metrics, "one class, or one group, of units in a fold")
    return UnitFigures(metrics, warnings=[told + said(split)] if split else [])


def unit_line(metrics: Metrics) -> list[str]:
    """A line on the units of an evaluation; none where it has none."""
    if "unit_count" not in metrics:
        return []
    m = metrics
    ends = "" if m["unit_auc_low"] is None else f" [{m['unit_auc_low']:.3f}, {m['unit_auc_high']:.3f}]"
    figure = f"no AUC ({m['unit_auc_reason']})" if m["unit_auc"] is None else f"AUC {m['unit_auc']:.3f}{ends}"
    least, most = m["unit_images_min"], m["unit_images_max"]
    sizes = f"{most} images each" if least == most else f"{least} to {most} images, median {m['unit_images_median']:g}"
    by = f"by {m['unit']}, {m['unit_score']} of its images"
    return [f"{by}: {figure}, accuracy {m['unit_accuracy']:.3f}, {m['unit_count']} units of {sizes}"]
