"""Proofs that nothing leaks, and probes of what the data gives away by itself.

A check that finds something is a leak. A probe measures how far a label can be told without looking at a face; it
warns and never fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.duplicates import Pairs, embedding_pairs, perceptual_pairs
from ffdi.intake.images import UnreadableImage, open_image, read_bytes, to_array
from ffdi.metrics import Metrics, auc, auc_interval, explain_nulls
from ffdi.parallel import cpu_count, ordered_map

Array = npt.NDArray[Any]
Progress = Callable[[Iterator[Array]], Iterable[Array]]
FINDING_COLUMNS = ("check", "path_a", "path_b", "detail")
CHECKS = (
    "group_across_border",
    "exact_duplicate_across_border",
    "perceptual_duplicate_across_border",
    "embedding_duplicate_across_border",
    "label_conflict",
    "fold_without_class",
)


@dataclass(frozen=True)
class Finding:
    """One leak: the check that found it, the two images (or "") and what they share."""

    check: str
    path_a: str
    path_b: str
    detail: str


def find_leaks(
    rows: pd.DataFrame, *, phash_bits: int, embeddings: Array | None = None, min_cosine: float = 1.0
) -> list[Finding]:
    """Every pair of images that must not be parted and is; `rows` is images.csv joined with folds.csv.

    A border runs between any two of: the test set, fold 0, ..., fold k-1. `embeddings` (N, D), where given, are
    searched for mutual nearest neighbours across a border.
    """
    rows = rows.reset_index(drop=True)
    side = np.where(rows["role"] == "test", "test", "fold " + rows["fold"].astype(str))
    found: list[Finding] = []
    for column, check in (("group", CHECKS[0]), ("intake_group", CHECKS[0]), ("image_id", CHECKS[1])):
        for name, members in rows[rows[column] != ""].groupby(column):
            places = pd.Series(side[members.index], index=members.index).drop_duplicates()
            found += [_finding(rows, side, check, places.index[0], other, name) for other in places.index[1:]]
    found += _pairs_across(rows, side, CHECKS[2], perceptual_pairs(list(rows["phash"]), phash_bits))
    if embeddings is not None:
        found += _pairs_across(rows, side, CHECKS[3], embedding_pairs(embeddings, min_cosine))
    for _, members in rows.groupby("image_id"):
        if members["label"].nunique() > 1:
            paths = list(members.drop_duplicates("label")["path"])
            found.append(Finding(CHECKS[4], paths[0], paths[1], f"sha256 {members['image_id'].iloc[0]}"))
    for place in sorted(set(side) - {"test"}):  # a test set of one class leaks nothing; its AUC is null
        counts = [int(((side == place) & (rows["label"] == c)).sum()) for c in (0, 1)]
        if 0 in counts:
            found.append(Finding(CHECKS[5], "", "", f"{place} has {counts[0]} real and {counts[1]} fake images"))
    return list(dict.fromkeys(found))


def _pairs_across(rows: pd.DataFrame, side: Array, check: str, pairs: Pairs) -> list[Finding]:
    parted = pairs[side[pairs[:, 0]] != side[pairs[:, 1]]]
    return [_finding(rows, side, check, a, b, "") for a, b in parted]


def _finding(rows: pd.DataFrame, side: Array, check: str, a: Any, b: Any, shared: object) -> Finding:
    detail = f"{side[a]} | {side[b]}" + (f": {shared}" if shared else "")
    return Finding(check, str(rows["path"][a]), str(rows["path"][b]), detail)


def findings_table(findings: list[Finding]) -> pd.DataFrame:
    """data/audit_findings.csv."""
    table: pd.DataFrame = pd.DataFrame([vars(f) for f in findings], columns=list(FINDING_COLUMNS))
    return table


def probe_shortcuts(
    rows: pd.DataFrame,
    root: Path,
    *,
    max_pixels: int,
    resamples: int,
    seed: int,
    embeddings: Array | None = None,
    progress: Progress = lambda results: results,
) -> Metrics:
    """AUC, cross-validated by group, of what needs no face: file facts, an 8x8 thumbnail, the nearest neighbour.

    Keys `probe_<name>_auc`, `_low`, `_high`. File facts are the size in bytes, dimensions and format.
    """

    def examine(path: str) -> Array:
        try:
            data = read_bytes(root, path)
            small = open_image(data, max_pixels=max_pixels).resize((8, 8))
        except UnreadableImage as error:
            raise InputError(f"{root / path}: {error}") from error
        return np.concatenate([[np.log(len(data))], to_array(small).ravel() / 255.0])

    seen = np.stack(list(progress(ordered_map(examine, rows["path"], cpu_count()))))
    label, group = rows["label"].to_numpy(), rows["group"].to_numpy(str)
    facts = np.column_stack(
        [seen[:, 0], rows["width"], rows["height"], rows["width"] / rows["height"], pd.get_dummies(rows["format"])]
    ).astype(float)
    out: Metrics = {}
    for name, scores in (
        ("file_facts", _cross_validated_scores(facts, label, group)),
        ("thumbnail", _cross_validated_scores(seen[:, 1:], label, group)),
        ("nearest_neighbour", None if embeddings is None else _neighbour_scores(embeddings, label, group)),
    ):
        key = f"probe_{name}_auc"
        found: Metrics = {key: None, f"{key}_low": None, f"{key}_high": None}
        if scores is not None:
            low, high = auc_interval(label, scores, group, resamples=resamples, seed=seed)
            found = {key: auc(label, scores), f"{key}_low": low, f"{key}_high": high}
        off = name == "nearest_neighbour" and embeddings is None
        out |= explain_nulls(found, "audit.use_embedding is off" if off else "too few groups or one class")
    return out


def _cross_validated_scores(features: Array, label: Array, group: Array) -> Array | None:
    """Out-of-fold scores of a logistic regression, by group; None when there are too few groups or one class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(5, *(len(np.unique(group[label == c])) for c in (0, 1)))
    if folds < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=0)
    return np.asarray(cross_val_predict(model, features, label, groups=group, cv=splitter, method="decision_function"))


def _neighbour_scores(embeddings: Array, label: Array, group: Array, neighbours: int = 5) -> Array:
    """Share of fakes among the nearest images (cosine) of other groups."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    scores = np.empty(len(unit))
    for at in range(len(unit)):
        similarity = unit @ unit[at]
        similarity[group == group[at]] = -np.inf
        scores[at] = label[np.argsort(-similarity, kind="stable")[:neighbours]].mean()
    return scores


def summarise(findings: list[Finding], rows: pd.DataFrame, probes: Metrics) -> Metrics:
    """metrics/audit.json: `leaks`, a count per check, sizes, and the probes."""
    counts: Metrics = {check: sum(f.check == check for f in findings) for check in CHECKS}
    sizes: Metrics = {
        "images": len(rows),
        "fakes": int(rows["label"].sum()),
        "groups": int(rows["group"].nunique()),
        "test_images": int((rows["role"] == "test").sum()),
    }
    return {"leaks": len(findings)} | counts | sizes | probes
