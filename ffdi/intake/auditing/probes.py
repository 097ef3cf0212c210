"""What the data gives away without a face: AUCs of file facts, thumbnails and neighbours.

A probe warns and never fails. Its AUC is cross-validated by group: it says what a detector could learn from the
shortcut about people that it has not seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.intake.auditing.classifier import cross_validated_scores
from ffdi.intake.auditing.probe_inputs import ProbeSample
from ffdi.intake.auditing.shortcuts import PROBES
from ffdi.metrics import Metrics, auc, explain_nulls


def probe_shortcuts(sample: ProbeSample, bootstrap: Bootstrap) -> Metrics:
    """AUC, cross-validated by group, of what needs no face.

    Keys `probe_<name>_auc`, `_low`, `_high` for each of PROBES: `file_facts` is all FACTS together, from size in bytes
    to the pattern of the name; `thumbnail` 8x8 pixels; `nearest_neighbour` the share of fakes among the five images of
    other groups that are nearest by cosine.
    """
    label, group, embeddings = sample.label, sample.group, sample.embeddings
    out: Metrics = {}
    for name in PROBES:
        if name != "nearest_neighbour":
            scores = cross_validated_scores(sample.features[name], label, group)
        else:
            scores = None if embeddings is None else _neighbour_scores(embeddings, label, group)
        key = f"probe_{name}_auc"
        figures: Metrics = {key: None, f"{key}_low": None, f"{key}_high": None}
        if scores is not None:
            low, high = auc_interval(label, scores, group, bootstrap=bootstrap)
            figures = {key: auc(label, scores), f"{key}_low": low, f"{key}_high": high}
        off = name == "nearest_neighbour" and embeddings is None
        out |= explain_nulls(figures, "audit.use_embedding is off" if off else "too few groups or one class")
    return out


def _neighbour_scores(
    embeddings: npt.NDArray[Any], label: npt.NDArray[np.int64], group: npt.NDArray[np.str_], neighbours: int = 5
) -> npt.NDArray[np.float64]:
    """Share of fakes among the nearest images (cosine) of other groups."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    place = np.unique(group, return_inverse=True)[1]
    scores = np.empty(len(unit))
    for start in range(0, len(unit), 512):
        block = slice(start, start + 512)
        similarity = unit[block] @ unit.T
        similarity[place[block, None] == place[None]] = -np.inf
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        others = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))
        scores[block] = (label[nearest] * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    return scores
