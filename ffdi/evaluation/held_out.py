"""What a recipe is worth on what its folds held out (`split.method: leave_one_out`): each value, their mean, the worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ffdi.bootstrap import Array, Bootstrap, auc_interval, auc_of, interval_around, of_rows, resample
from ffdi.errors import InputError
from ffdi.intake.splitting.leave_one_out import VALUE, holds_out
from ffdi.metrics import Metrics, auc
from ffdi.tails.checkpoint import Scores

COLUMNS = ["without", "tested_on", "reals", "fakes", "auc", "low", "high", "side"]
PREFIX = "held_out"  # of the keys of metrics/details


@dataclass(frozen=True)
class HeldOutFigures:
    """`metrics` are the keys `held_out_*`, NaN where undefined; `table` is held_out.csv: trained without x tested on."""

    metrics: Metrics
    table: pd.DataFrame


def held_out_figures(
    oof: pd.DataFrame | None, images: pd.DataFrame, by_fold: Mapping[int, Scores], *, bootstrap: Bootstrap
) -> HeldOutFigures:
    """Figures of held-out values; none where folds.csv holds out nothing.

    `oof` has the out-of-fold scores, `images` is images.csv (of with_held_values) joined with folds.csv, `by_fold` the
    scores (N,) of its test images by the tail of each fold. A figure on the side `validation` is of the fold's own
    validation images: the fakes of its value against its reals, on which its tail was not trained, though its epoch was
    chosen by them. On the side `test` each fold's tail is judged on the test fakes of every value against all test
    reals. Intervals are 95 %, by group. Raises InputError when the scores are of other folds.
    """
    if oof is None or "held_out" not in images:
        return HeldOutFigures({}, pd.DataFrame(columns=COLUMNS))
    train = images[images["role"] == "train"].drop_duplicates("fold")
    names = dict(zip(train["fold"].tolist(), train["held_out"].tolist(), strict=True))
    known = oof.merge(images[["image_id", "group"]], on="image_id")
    labels, scores, folds = (known[column].to_numpy() for column in ("label", "score", "fold"))
    if unknown := set(folds.tolist()) - set(names):
        raise InputError(f"the out-of-fold scores are of fold {min(unknown)}, which folds.csv has not: run train again")
    rows_of = {names[fold]: np.flatnonzero(folds == fold) for fold in sorted(set(folds.tolist()))}
    statistics = {name: of_rows(auc_of(labels[rows], scores[rows]), rows) for name, rows in rows_of.items()}
    drawn = resample(known["group"].to_numpy(str), statistics, bootstrap=bootstrap)
    found = {name: auc(labels[rows], scores[rows]) for name, rows in rows_of.items()}
    ends = {name: interval_around(found[name], drawn[name]) for name in found}
    counts = {name: _counts(labels[rows]) for name, rows in rows_of.items()}
    own = [[name, name, *counts[name], found[name], *ends[name], "validation"] for name in found]
    table = pd.DataFrame(own + _on_test(names, images, by_fold, bootstrap), columns=COLUMNS)
    metrics: Metrics = {}
    for name, (reals, fakes) in counts.items():
        key = f"{PREFIX}={name}" if name in ("mean", "worst") else f"{PREFIX}_{name}"
        metrics |= {f"{key}_reals": reals, f"{key}_fakes": fakes} | _auc_metrics(key, found[name], ends[name])
    every, draws = np.array(list(found.values())), np.stack(list(drawn.values()))
    metrics[f"{PREFIX}_worst"] = min(found, key=lambda name: (found[name], name))
    for key, over in (("mean", np.mean), ("worst", np.min)):
        middle = float(over(every))
        metrics |= _auc_metrics(f"{PREFIX}_{key}", middle, interval_around(middle, over(draws, axis=0)))
    return HeldOutFigures(metrics, table)


def validation_aucs(oof: pd.DataFrame, images: pd.DataFrame, *, bootstrap: Bootstrap) -> Metrics:
    """`fold_K_val_auc` of oof.csv's scores, with its interval over groups; NaN where undefined.

    A fold whose labels are swapped against those of the other folds shows here and nowhere else.
    """
    known = oof.merge(images[["image_id", "group"]], on="image_id")
    out: Metrics = {}
    for fold, rows in known.groupby("fold"):
        labels, scores = rows["label"].to_numpy(), rows["score"].to_numpy()
        low, high = auc_interval(labels, scores, rows["group"].to_numpy(str), bootstrap=bootstrap)
        key = f"fold_{fold}_val_auc"
        out |= {key: auc(labels, scores), f"{key}_low": low, f"{key}_high": high}
    return out


def _counts(labels: Array) -> tuple[int, int]:
    return int((labels == 0).sum()), int((labels == 1).sum())


def _auc_metrics(key: str, middle: float, ends: tuple[float, float]) -> Metrics:
    return {f"{key}_auc": middle, f"{key}_auc_low": ends[0], f"{key}_auc_high": ends[1]}


def _on_test(
    names: Mapping[int, str], images: pd.DataFrame, by_fold: Mapping[int, Scores], bootstrap: Bootstrap
) -> list[list[object]]:
    """The rows of the side `test`: each fold's tail on the test fakes of every value; pooled values are one, as in folds."""
    if VALUE not in images:
        return []
    test = images[images["role"] == "test"]
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    values = np.array([_pooled(value, list(names.values())) for value in test[VALUE]], object)
    tested = {value: np.flatnonzero((labels == 0) | (values == value)) for value in sorted(set(values[labels == 1]))}
    places = [(fold, value) for fold in by_fold for value in tested]
    statistics = {
        f"{fold} {value}": of_rows(auc_of(labels[tested[value]], by_fold[fold][tested[value]]), tested[value])
        for fold, value in places
    }
    drawn = resample(groups, statistics, bootstrap=bootstrap)
    out: list[list[object]] = []
    for fold, value in places:
        rows = tested[value]
        middle = auc(labels[rows], by_fold[fold][rows])
        ends = interval_around(middle, drawn[f"{fold} {value}"])
        out.append([names[fold], value, *_counts(labels[rows]), middle, *ends, "test"])
    return out


def _pooled(value: str, names: list[str]) -> str:
    """What holds out a value, or the value itself where no fold does."""
    return next((name for name in names if holds_out(name, value)), value)


def held_out_line(metrics: Metrics) -> list[str]:
    """A line on the mean and the worst of the held-out values; none where nothing is held out."""
    if not isinstance(mean := metrics.get(f"{PREFIX}_mean_auc"), float):
        return []
    worst, name = metrics[f"{PREFIX}_worst_auc"], metrics[f"{PREFIX}_worst"]
    return [
        f"held-out values: mean AUC {mean:.3f}, worst {worst:.3f} ({name}), each by a tail that was not trained on it"
    ]
