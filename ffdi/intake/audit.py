"""Proofs that nothing leaks across the borders that split drew. What is found here must not be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.intake.copies import Progress, find_copies, same_picture
from ffdi.intake.duplicates import Pairs, components, embedding_pairs, perceptual_pairs
from ffdi.intake.probes import PROBES, shortcuts
from ffdi.intake.tables import sides
from ffdi.metrics import Metrics, explain_nulls

Array = npt.NDArray[Any]
FINDING_COLUMNS = ("check", "path_a", "path_b", "detail")
CHECKS = (
    "group_across_border",
    "exact_duplicate_across_border",
    "perceptual_duplicate_across_border",
    "augmented_copy_across_border",
    "embedding_duplicate_across_border",
    "label_conflict",
    "fold_without_class",
    "inverted_labels",
)
SOURCE_OVERLAP = "source_overlap"  # a warning: a real photo and a forgery made from it, on two sides


@dataclass(frozen=True)
class Finding:
    """One leak or warning: the check that found it, the two images (or "") and what they share."""

    check: str
    path_a: str
    path_b: str
    detail: str


def find_leaks(
    rows: pd.DataFrame,
    *,
    phash_bits: int,
    sketches: Array | None = None,
    embeddings: Array | None = None,
    min_cosine: float = 1.0,
    inverted: str = "",
    progress: Progress = lambda blocks: blocks,
) -> list[Finding]:
    """Images that must not be parted and are, in the order of CHECKS; `rows` is images.csv joined with folds.csv.

    A finding is a pair of images on two sides. Of a cluster of many alike each is named, not each pair. Where given,
    `sketches` (N, 64, 64) are searched for copies, and `embeddings` (N, D) for mutual nearest neighbours across a
    border; `inverted` is the reason why given labels look turned round. Two labels on one picture are a conflict; a
    copy under another label is a photo and its forgery, the warning `source_overlap`.
    """
    rows = rows.reset_index(drop=True)
    side, label = sides(rows), rows["label"].to_numpy()
    found: list[Finding] = []
    for column, check in (("group", CHECKS[0]), ("intake_group", CHECKS[0]), ("image_id", CHECKS[1])):
        found += _parted(rows, side, column, check)
    alike = perceptual_pairs(list(rows["phash"]), phash_bits)
    cluster = components(alike, len(rows))
    found += _pairs_across(rows, side, CHECKS[2], alike) + _others_of_clusters(rows, side, CHECKS[2], alike, cluster)
    overlap: list[Finding] = []
    conflicts: list[Finding] = []
    if sketches is not None:
        place = np.unique(side, return_inverse=True)[1]
        copies = find_copies(
            sketches, lambda a, b: (place[a] != place[b]) & (cluster[a] != cluster[b]), progress=progress
        ).pairs
        forged = label[copies[:, 0]] != label[copies[:, 1]]
        found += _pairs_across(rows, side, CHECKS[3], copies[~forged])
        overlap = _pairs_across(rows, side, SOURCE_OVERLAP, copies[forged])
        conflicts = [
            _finding(rows, side, CHECKS[5], a, b, f"one picture, labels {label[a]} and {label[b]}")
            for a, b in alike[label[alike[:, 0]] != label[alike[:, 1]]]
            if same_picture(sketches[a], sketches[b])
        ]
    if embeddings is not None:
        found += _pairs_across(rows, side, CHECKS[4], embedding_pairs(embeddings, min_cosine, side))
    twice = rows[rows.duplicated("image_id", keep=False)].drop_duplicates(["image_id", "label"])
    for image_id, members in twice[twice.duplicated("image_id", keep=False)].groupby("image_id"):
        found.append(Finding(CHECKS[5], members["path"].iloc[0], members["path"].iloc[1], f"sha256 {image_id}"))
    found += conflicts
    for name in sorted(set(side) - {"test"}):  # a test set of one class leaks nothing; its AUC is null
        counts = [int(((side == name) & (label == c)).sum()) for c in (0, 1)]
        if 0 in counts:
            found.append(Finding(CHECKS[6], "", "", f"{name} has {counts[0]} real and {counts[1]} fake images"))
    if inverted:
        found.append(Finding(CHECKS[7], "", "", inverted))
    return list(dict.fromkeys(found + overlap))


def _parted(rows: pd.DataFrame, side: Array, column: str, check: str) -> list[Finding]:
    """For each value of the column that stands on several sides: its first row, and the first on every other side."""
    places = rows.assign(side=side)[rows[column] != ""].drop_duplicates([column, "side"])
    places = places[places.duplicated(column, keep=False)]
    return [
        _finding(rows, side, check, members.index[0], other, name)
        for name, members in places.groupby(column)
        for other in members.index[1:]
    ]


def _pairs_across(rows: pd.DataFrame, side: Array, check: str, pairs: Pairs) -> list[Finding]:
    parted = pairs[side[pairs[:, 0]] != side[pairs[:, 1]]]
    return [_finding(rows, side, check, a, b, "") for a, b in parted]


def _others_of_clusters(rows: pd.DataFrame, side: Array, check: str, pairs: Pairs, cluster: Array) -> list[Finding]:
    """Who is in a parted cluster and in none of `pairs` across a border, beside one of it on another side."""
    members = pd.DataFrame({"side": side, "cluster": cluster})
    firsts = members.drop_duplicates().reset_index().groupby("cluster")["index"].agg(["first", "last"])
    parted = (firsts["first"] != firsts["last"]).reindex(cluster).to_numpy(copy=True)
    parted[pairs[side[pairs[:, 0]] != side[pairs[:, 1]]].ravel()] = False
    rest = np.flatnonzero(parted)
    one, other = firsts.loc[cluster[rest]].to_numpy().T  # on two sides
    beside = np.where(side[one] != side[rest], one, other)
    return [_finding(rows, side, check, a, b, "one cluster") for a, b in zip(beside, rest, strict=True)]


def _finding(rows: pd.DataFrame, side: Array, check: str, a: Any, b: Any, shared: object) -> Finding:
    detail = f"{side[a]} | {side[b]}" + (f": {shared}" if shared else "")
    return Finding(check, str(rows["path"][a]), str(rows["path"][b]), detail)


def leaks_among(findings: list[Finding]) -> list[Finding]:
    """Those that stop the pipeline: all but warnings."""
    return [finding for finding in findings if finding.check in CHECKS]


def findings_table(findings: list[Finding]) -> pd.DataFrame:
    """data/audit_findings.csv."""
    table: pd.DataFrame = pd.DataFrame([vars(f) for f in findings], columns=list(FINDING_COLUMNS))
    return table


def summarise(findings: list[Finding], rows: pd.DataFrame, probes: Metrics) -> Metrics:
    """What the audit has found: `leaks`, a count per check, source overlap, sizes, the probes, and what stands out of them.

    `source_overlap` counts pairs of a real photo and its forgery across any border, `source_overlap_test_share` the
    test images in such a pair. `warnings` counts the shortcuts, and the overlap where there is one; `worst_probe` is the
    one with the highest AUC.
    """
    counts: Metrics = {check: sum(f.check == check for f in findings) for check in CHECKS}
    overlap = [f for f in findings if f.check == SOURCE_OVERLAP]
    test = set(rows["path"][rows["role"] == "test"])
    in_test = {path for f in overlap for path in (f.path_a, f.path_b)} & test
    sizes: Metrics = {
        "source_overlap": len(overlap),
        "source_overlap_test_share": len(in_test) / len(test) if test else 0.0,
        "images": len(rows),
        "fakes": int(rows["label"].sum()),
        "groups": int(rows["group"].nunique()),
        "test_images": len(test),
    }
    measured = {name: auc for name in PROBES if isinstance(auc := probes.get(f"probe_{name}_auc"), float)}
    worst = max(measured, key=measured.__getitem__, default=None)
    found: Metrics = {"warnings": len(shortcuts(probes)) + bool(overlap)}
    found |= {"worst_probe": worst, "worst_probe_auc": measured[worst] if worst else None}
    found = explain_nulls(found, "no probe has a figure")
    return {"leaks": len(leaks_among(findings))} | found | counts | sizes | probes
