"""Where to cut: a linear probe at every named cut of a backbone, in one pass over the training images.

The AUC of a cut is out of fold, and the test images are never read. Memory holds pooled vectors alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ffdi.bootstrap import Array, Bootstrap, Statistic, auc_of, interval_around, of_rows, resample
from ffdi.console import Console
from ffdi.errors import FfdiError, InputError, ParamsError
from ffdi.features.backbone import Backbone, Views
from ffdi.features.compute import Embedder
from ffdi.features.cuts import Cut, list_cuts
from ffdi.features.keep import channels_of
from ffdi.features.networks import headless_network
from ffdi.features.stated_preprocessing import resolve_preprocessing
from ffdi.files import human_bytes
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import second_folds
from ffdi.memory import memory_limit
from ffdi.tails.probe import ProbeSettings, Roles, probe_out_of_fold

MOST_CUTS = 12  # that are probed when none is named
COLUMNS = ["cut", "keep", "width", "flops_before", "auc", "auc_low", "auc_high"]
PROBE = ProbeSettings(norm="standardise")  # cuts have channels of very different scales


@dataclass(frozen=True)
class Part:
    """What a probe sees of a cut: `keep` of its features, which are the columns `at` of the vectors of all cuts."""

    cut: Cut
    keep: str
    at: slice


def probe_cuts(
    rows: pd.DataFrame,
    backbone: Backbone,
    weights: Path,
    source: ImageSource,
    *,
    at: Sequence[str] = (),
    bootstrap: Bootstrap,
    console: Console = Console(),
) -> pd.DataFrame:
    """A row for each probe, in the order of depth, with COLUMNS; `rows` is images.csv joined with folds.csv.

    `auc` is the mean over the folds of the AUC of the images that their probe was not trained on, with its 95 % interval
    over groups. `at` names the cuts, by default a spread over the depth of the network. Raises ParamsError for a name that
    is no cut, InputError when there are not two folds, FfdiError when the vectors do not fit into memory.
    """
    train = rows[rows["role"] == "train"]
    if train["fold"].nunique() < 2:
        raise InputError(
            "folds.csv has less than two folds of training images: nothing can be scored out of fold: raise split.folds"
        )
    backbone = resolve_preprocessing(backbone, weights)
    listed = list_cuts(headless_network(backbone.network, backbone.network_args), backbone.pixels.size)
    cuts = named_cuts(listed, at) if at else spread_cuts(listed)
    parts = list(parts_of(cuts))
    size = len(train) * parts[-1].at.stop * 4
    if size > memory_limit() / 2:
        what = f"{len(train)} images x {parts[-1].at.stop} pooled features"
        raise FfdiError(f"{what} take {human_bytes(size)}, more than half of the memory: name fewer cuts")
    b = replace(backbone, cut=tuple(cut.name for cut in cuts), keep=_keep(cuts), dtype="float32", views=Views())
    vectors = Embedder(b, weights, source, console)(train)
    labels, folds = train["label"].to_numpy(np.int64), train["fold"].to_numpy(np.int64)
    groups, barred = train["group"].to_numpy(str), second_folds(train)
    scored = barred < 0
    found = []
    for part in console.progress(parts, len(parts), unit="probes"):
        logits = probe_out_of_fold(vectors[:, part.at], labels, folds, groups, PROBE, roles=Roles(barred=barred)).logits
        width = part.at.stop - part.at.start
        aucs = fold_auc_interval(labels[scored], logits[scored], folds[scored], groups[scored], bootstrap=bootstrap)
        found.append([part.cut.name, part.keep, width, part.cut.flops_before, *aucs])
    return pd.DataFrame(found, columns=COLUMNS)


def named_cuts(listed: Sequence[Cut], names: Sequence[str]) -> list[Cut]:
    """The cuts of these names, in the order of depth; ParamsError with the nearest ones for a name that is no cut."""
    known = [cut.name for cut in listed]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=5) or known[:5]
            raise ParamsError(f"cut {name!r} is not one that can be probed; close ones: {', '.join(near)}")
    if len(set(names)) < 2:
        raise ParamsError("two cuts or more are compared: name others, or none for a spread over the depth")
    return [cut for cut in listed if cut.name in names]


def spread_cuts(listed: Sequence[Cut], count: int = MOST_CUTS) -> list[Cut]:
    """Up to `count` cuts whose shares of the network's work are spread evenly: of those near a place, the outermost module.

    ParamsError when there are not two whose features can be pooled.
    """
    able = [cut for cut in listed if len(cut.shape) != 2 or cut.tokens]
    chosen: list[Cut] = []
    for place in range(1, count + 1):
        near = [cut for cut in able if abs(cut.flops_before * count - place) <= 0.5]
        if near:
            chosen.append(min(near, key=lambda c: (c.name.count("."), abs(c.flops_before * count - place))))
    if len(chosen) < 2:
        raise ParamsError("this network has not two cuts whose features can be pooled: nothing to compare")
    return chosen


def parts_of(cuts: Sequence[Cut]) -> Iterator[Part]:
    """What is probed of each cut: the vectors of pooled cuts hold them one after the other."""
    both, start = _keep(cuts) == "cls+mean", 0
    for cut in cuts:
        width = channels_of(cut.shape)
        kinds = ("all",) if len(cut.shape) == 1 else ("cls", "mean") if both else ("mean",)
        for kind in kinds:
            yield Part(cut, kind, slice(start, start + width))
            start += width


def _keep(cuts: Sequence[Cut]) -> str:
    """Class tokens and means where every cut before the pooling has both, otherwise means."""
    before = [cut for cut in cuts if len(cut.shape) > 1]
    has_both = all(cut.tokens and cut.tokens.prefix_tokens and cut.tokens.class_token for cut in before)
    return "cls+mean" if before and has_both else "mean"


def fold_auc_interval(
    labels: Array, scores: Array, folds: Array, groups: Array, *, bootstrap: Bootstrap
) -> tuple[float, float, float]:
    """(AUC, low, high): the mean over the folds of each fold's AUC, and its 95 % interval over groups.

    Scores of two folds are not compared: they come from two probes. A fold without both classes does not count.
    """
    statistics: dict[str, Statistic] = {}
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        statistics[str(fold)] = of_rows(auc_of(labels[rows], scores[rows]), rows)
    every_row_once = np.ones((1, len(labels)))

    def mean(values: Sequence[Any]) -> Array:
        with np.errstate(invalid="ignore"):
            stacked = np.stack(values)
            return np.asarray(np.nansum(stacked, axis=0) / np.isfinite(stacked).sum(axis=0))

    estimate = float(mean([statistic(every_row_once) for statistic in statistics.values()])[0])
    drawn = resample(groups, statistics, bootstrap=bootstrap)
    return estimate, *interval_around(estimate, mean(list(drawn.values())))
