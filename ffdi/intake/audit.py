"""Proofs that nothing leaks across the borders that split drew. What is found here must not be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.console import Console
from ffdi.intake.groups import memberships
from ffdi.intake.near_duplicates.clusters import Pairs, components
from ffdi.intake.near_duplicates.copies import find_copies
from ffdi.intake.near_duplicates.embeddings import embedding_pairs
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.intake.near_duplicates.one_photo import one_photo_pairs, same_picture
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
_ORDER = (*CHECKS, SOURCE_OVERLAP)


@dataclass(frozen=True)
class Finding:
    """One leak or warning: the check that found it, the two images (or "") and what they share.

    `check` is the first in the order of CHECKS, `checks` are all that found the pair; `found_by` names the search that
    each rests on: that of a source overlap is a check for copies of one label.
    """

    check: str
    path_a: str
    path_b: str
    detail: str
    checks: tuple[str, ...] = field(default=(), compare=False)
    found_by: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class _Hit:
    """What one check has found: two rows, and what they share."""

    check: str
    a: int
    b: int
    shared: str
    found_by: str
    places: bool = True  # whether the detail says on which sides they stand


def find_leaks(
    rows: pd.DataFrame,
    *,
    phash_bits: int,
    sketches: Array | None = None,
    search_copies: bool = True,
    embeddings: Array | None = None,
    min_cosine: float = 1.0,
    inverted: Sequence[str] = (),
    console: Console = Console(),
) -> list[Finding]:
    """Images that must not be parted and are, in the order of CHECKS; `rows` is images.csv joined with folds.csv.

    A finding is a pair of images on two sides, each pair once. Of a cluster of many alike each is named, not each pair.
    Where given, `sketches` (N, 64, 64) confirm what looks alike by its hash and are searched for copies, and
    `embeddings` (N, D) for mutual nearest neighbours across a border; `inverted` are reasons why labels look turned
    round. Two labels on one picture are a conflict; what is alike under two labels else is a photo and its forgery, the
    warning `source_overlap`, whichever search found it.
    """
    rows = rows.reset_index(drop=True)
    side, label = sides(rows), rows["label"].to_numpy()
    hits: list[_Hit] = []
    for column, check in (("group", CHECKS[0]), ("intake_group", CHECKS[0]), ("image_id", CHECKS[1])):
        hits += _parted(list(rows[column]), side, check)
    alike = perceptual_pairs(list(rows["phash"]), phash_bits)
    if sketches is not None:
        alike = one_photo_pairs(alike, label, side, sketches)
    other = label[alike[:, 0]] != label[alike[:, 1]]
    same = alike[~other]
    hits += _across(same, side, CHECKS[2]) + _others_of_clusters(same, side, CHECKS[2])
    two_labels = [(alike[other], CHECKS[2])]
    if sketches is not None and search_copies:
        place, known = np.unique(side, return_inverse=True)[1], components(alike, len(rows))
        copies = find_copies(sketches, lambda a, b: (place[a] != place[b]) & (known[a] != known[b]), console).pairs
        forged = label[copies[:, 0]] != label[copies[:, 1]]
        hits += _across(copies[~forged], side, CHECKS[3])
        two_labels.append((copies[forged], CHECKS[3]))
    if embeddings is not None:
        for own in (np.flatnonzero(label == c) for c in (0, 1)):  # a forgery must not hide a nearest of one label
            hits += _across(own[embedding_pairs(embeddings[own], min_cosine, side[own])], side, CHECKS[4])
        near = embedding_pairs(embeddings, min_cosine, side)
        two_labels.append((near[label[near[:, 0]] != label[near[:, 1]]], CHECKS[4]))
    twice = rows[rows.duplicated("image_id", keep=False)].drop_duplicates(["image_id", "label"])
    for image_id, members in twice[twice.duplicated("image_id", keep=False)].groupby("image_id"):
        a, b = members.index[:2].tolist()
        hits.append(_Hit(CHECKS[5], a, b, f"sha256 {image_id}", CHECKS[5], places=False))
    for pairs, search in two_labels:
        for a, b in pairs.tolist():
            if sketches is not None and same_picture(sketches[a], sketches[b]):
                hits.append(_Hit(CHECKS[5], a, b, f"one picture, labels {label[a]} and {label[b]}", search))
            elif side[a] != side[b]:
                hits.append(_Hit(SOURCE_OVERLAP, a, b, "", search))
    found = _merged(hits, rows, side)
    for name in sorted(set(side) - {"test"}):  # a test set of one class leaks nothing; its AUC is null
        counts = [int(((side == name) & (label == c)).sum()) for c in (0, 1)]
        if 0 in counts:
            found.append(Finding(CHECKS[6], "", "", f"{name} has {counts[0]} real and {counts[1]} fake images"))
    found += [Finding(CHECKS[7], "", "", reason) for reason in inverted]
    return sorted(found, key=lambda finding: _ORDER.index(finding.check))


def _parted(cells: list[str], side: Array, check: str) -> list[_Hit]:
    """For each name in the cells that stands on several sides: its first row, and the first on every other side."""
    row, names = memberships(cells)
    places = pd.DataFrame({"row": row, "name": names, "side": side[row]}).drop_duplicates(["name", "side"])
    places = places[places.duplicated("name", keep=False)]
    return [
        _Hit(check, int(members["row"].iloc[0]), other, str(name), check)
        for name, members in places.groupby("name")
        for other in members["row"].iloc[1:].tolist()
    ]


def _across(pairs: Pairs, side: Array, check: str) -> list[_Hit]:
    return [_Hit(check, a, b, "", check) for a, b in pairs[side[pairs[:, 0]] != side[pairs[:, 1]]].tolist()]


def _others_of_clusters(pairs: Pairs, side: Array, check: str) -> list[_Hit]:
    """Who is in a parted cluster and in none of `pairs` across a border, beside one of it on another side."""
    cluster = components(pairs, len(side))
    members = pd.DataFrame({"side": side, "cluster": cluster})
    firsts = members.drop_duplicates().reset_index().groupby("cluster")["index"].agg(["first", "last"])
    parted = (firsts["first"] != firsts["last"]).reindex(cluster).to_numpy(copy=True)
    parted[pairs[side[pairs[:, 0]] != side[pairs[:, 1]]].ravel()] = False
    rest = np.flatnonzero(parted)
    one, other = firsts.loc[cluster[rest]].to_numpy().T  # on two sides
    beside = np.where(side[one] != side[rest], one, other)
    return [_Hit(check, a, b, "one cluster", check) for a, b in zip(beside.tolist(), rest.tolist(), strict=True)]


def _merged(hits: list[_Hit], rows: pd.DataFrame, side: Array) -> list[Finding]:
    """One finding for each pair of rows."""
    paths = list(rows["path"])
    by_pair: dict[tuple[int, int], list[_Hit]] = {}
    for hit in sorted(hits, key=lambda hit: _ORDER.index(hit.check)):
        by_pair.setdefault((min(hit.a, hit.b), max(hit.a, hit.b)), []).append(hit)
    found = []
    for own in by_pair.values():
        first, checks = own[0], tuple(dict.fromkeys(hit.check for hit in own))
        shared = ", ".join(dict.fromkeys(hit.shared for hit in own if hit.check == first.check and hit.shared))
        places = f"{side[first.a]} | {side[first.b]}" if first.places else ""
        detail = ": ".join(part for part in (places, shared) if part)
        detail += f"; also {', '.join(checks[1:])}" if checks[1:] else ""
        found_by = tuple(dict.fromkeys(hit.found_by for hit in own))
        found.append(Finding(first.check, paths[first.a], paths[first.b], detail, checks, found_by))
    return found


def settings_that_join(split: Mapping[str, Any], audit: Mapping[str, Any]) -> dict[str, str]:
    """Check -> the setting that would have split join what it finds, of those alone that are not so already."""
    out = {}
    if audit["phash_bits"] > split["phash_bits"]:
        out[CHECKS[2]] = f"split.phash_bits: {audit['phash_bits']}"
    if not split["find_copies"]:
        out[CHECKS[3]] = "split.find_copies: true"
    if not split["use_embedding"]:
        out[CHECKS[4]] = "split.use_embedding: true"
    return out


def advise(findings: list[Finding], rows: pd.DataFrame, *, joins: Mapping[str, str], use_given: bool) -> str:
    """What would keep the pairs of these findings together, "" where no setting would.

    `joins` maps a check to the setting of `split` that would join what it finds; `rows` are those of find_leaks, and
    where `use_given`, no setting joins what the data's own split parts.
    """
    given = dict(zip(rows["path"], rows["given_split"], strict=True))
    own, by_setting = 0, Counter[str]()
    for finding in findings:
        ends = {given.get(finding.path_a, ""), given.get(finding.path_b, "")} - {""}
        if use_given and len(ends) > 1:
            own += 1
        elif setting := next((joins[search] for search in finding.found_by if search in joins), ""):
            by_setting[setting] += 1
    said = [f"{setting} would join {count} of them" for setting, count in by_setting.items()]
    if own:
        said.append(
            f"the data's own split parts {own} of them: leave out one image of each, or split.use_given: false draws "
            "another"
        )
    return "; ".join(said)


def leaks_among(findings: list[Finding]) -> list[Finding]:
    """Those that stop the pipeline: all but warnings."""
    return [finding for finding in findings if finding.check in CHECKS]


def findings_table(findings: list[Finding]) -> pd.DataFrame:
    """data/audit_findings.csv."""
    table: pd.DataFrame = pd.DataFrame([vars(f) for f in findings], columns=list(FINDING_COLUMNS))
    return table


def summarise(findings: list[Finding], rows: pd.DataFrame, probes: Metrics, dropped: int = 0) -> Metrics:
    """What the audit has found: `leaks`, a count per check, source overlap, sizes, the probes, and what stands out of them.

    `leaks` counts each pair of images once, a check all that it found. `images_with_group` have one that the data set
    names, `groups_of_one` are final groups of one image: there the audit can know of copies alone. `images_dropped`
    are those that split dropped. `source_overlap` counts pairs of a real photo and its forgery across any border, `source_overlap_test_share` the
    test images in such a pair. `warnings` counts the shortcuts, the overlap where there is one, and that no image has a
    group of its own; `worst_probe` is the one with the highest AUC.
    """
    counts: Metrics = {check: sum(check in {f.check, *f.checks} for f in findings) for check in CHECKS}
    overlap = [f for f in findings if SOURCE_OVERLAP in {f.check, *f.checks}]
    test = set(rows["path"][rows["role"] == "test"])
    in_test = {path for f in overlap for path in (f.path_a, f.path_b)} & test
    sizes: Metrics = {
        "source_overlap": len(overlap),
        "source_overlap_test_share": len(in_test) / len(test) if test else 0.0,
        "images": len(rows),
        "fakes": int(rows["label"].sum()),
        "groups": int(rows["group"].nunique()),
        "groups_of_one": int((rows["group"].value_counts() == 1).sum()),
        "images_with_group": int((rows["intake_group"] != "").sum()),
        "images_dropped": dropped,
        "test_images": len(test),
    }
    measured = {name: auc for name in PROBES if isinstance(auc := probes.get(f"probe_{name}_auc"), float)}
    worst = max(measured, key=measured.__getitem__, default=None)
    found: Metrics = {"warnings": len(shortcuts(probes)) + bool(overlap) + (sizes["images_with_group"] == 0)}
    found |= {"worst_probe": worst, "worst_probe_auc": measured[worst] if worst else None}
    found = explain_nulls(found, "no probe has a figure")
    return {"leaks": len(leaks_among(findings))} | found | counts | sizes | probes


def what_it_could_know(summary: Mapping[str, Any]) -> str:
    """How far "0 leaks" goes: of images of no group the audit can know copies alone."""
    if not summary["images_with_group"]:
        return "but no image has a group of its own: copies could be found, people, videos and sources could not"
    return (
        f"{summary['images_with_group']} images have a group of their own, {summary['groups_of_one']} groups have one "
        "image"
    )
