"""Images that must stay together and stand on two sides of a split. What is found here must not be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.console import Console
from ffdi.intake.auditing.findings import (
    COPY,
    EMBEDDING,
    EXACT,
    FOLD_WITHOUT_CLASS,
    GROUP,
    INVERTED_LABELS,
    LABEL_CONFLICT,
    ORDER,
    PERCEPTUAL,
    SOURCE_OVERLAP,
    Finding,
)
from ffdi.intake.auditing.held_out import trained_on_held_out
from ffdi.intake.groups import coded, memberships
from ffdi.intake.near_duplicates.clusters import Pairs, components
from ffdi.intake.near_duplicates.copies import find_copies
from ffdi.intake.near_duplicates.embeddings import embedding_pairs
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.intake.near_duplicates.one_photo import one_photo_pairs, same_picture
from ffdi.intake.near_duplicates.variants import Sketches
from ffdi.intake.settings import AuditSettings
from ffdi.intake.table_files.columns import repeated
from ffdi.intake.tables import second_folds, sides

Embeddings = npt.NDArray[Any]  # (N, D)
Sides = npt.NDArray[np.str_]  # (N,)


@dataclass(frozen=True)
class _Hit:
    """What one check has found: rows `a` and `b`, and what they share; `found_by` names the search."""

    check: str
    a: int
    b: int
    shared: str
    found_by: str
    names_sides: bool = True  # in the finding's detail


@dataclass(frozen=True)
class _AuditedRows:
    """N images as the searches need them; `sketches` (N, 64, 64) where they have been read."""

    rows: pd.DataFrame
    side: Sides
    label: npt.NDArray[np.int64]
    sketches: Sketches | None

    def by_labels(self, pairs: Pairs) -> tuple[Pairs, Pairs]:
        """(pairs of one label, pairs of two labels)."""
        two = self.label[pairs[:, 0]] != self.label[pairs[:, 1]]
        return pairs[~two], pairs[two]

    def across(self, pairs: Pairs, check: str) -> list[_Hit]:
        """The pairs that stand on two sides."""
        crossing = pairs[self.side[pairs[:, 0]] != self.side[pairs[:, 1]]]
        return [_Hit(check, a, b, "", check) for a, b in crossing.tolist()]


def find_leaks(
    rows: pd.DataFrame,
    settings: AuditSettings,
    *,
    sketches: Sketches | None = None,
    embeddings: Embeddings | None = None,
    inverted: Sequence[str] = (),
    console: Console = Console(),
) -> list[Finding]:
    """Images that must stay together and do not, in the order of CHECKS; `rows` is images.csv joined with folds.csv.

    A finding is a pair of images on two sides, each pair once; in a large cluster each image is named, not each pair.
    `sketches` (N, 64, 64) confirm pairs of similar hashes and are searched for copies, `embeddings` (N, D) for mutual
    nearest neighbours; `inverted` are reasons why labels look inverted; the column `held_value` of `rows`, where there is one, is what
    folds hold out. Two labels on one picture are a conflict. Other
    near-duplicates with two labels are a photo and its forgery: the warning `source_overlap`.
    """
    rows = rows.reset_index(drop=True)
    audited = _AuditedRows(rows, sides(rows), rows["label"].to_numpy(), sketches)
    hits: list[_Hit] = []
    twice = ["image_id"] if repeated(rows["image_id"]).any() else []
    for column, check in (("group", GROUP), ("intake_group", GROUP), *((name, EXACT) for name in twice)):
        hits += _parted_names(rows[column], audited.side, check)
    alike = perceptual_pairs(rows["phash"], settings.phash_bits)
    if sketches is not None:
        alike = one_photo_pairs(alike, audited.label, audited.side, sketches)
    same, forged = audited.by_labels(alike)
    hits += audited.across(same, PERCEPTUAL) + _others_of_clusters(same, audited.side, PERCEPTUAL)
    of_two_labels = [(forged, PERCEPTUAL)]
    if sketches is not None and settings.find_copies:
        same, forged = audited.by_labels(_unknown_copies(sketches, alike, audited.side, console))
        hits += audited.across(same, COPY)
        of_two_labels.append((forged, COPY))
    if embeddings is not None:
        same, forged = _near_by_embedding(audited, embeddings, settings.min_cosine)
        hits += audited.across(same, EMBEDDING)
        of_two_labels.append((forged, EMBEDDING))
    hits += _same_bytes_two_labels(rows) if twice else []
    hits += [hit for pairs, search in of_two_labels for hit in _conflicts_and_overlaps(audited, pairs, search)]
    findings = _merged(hits, rows["path"], audited.side) + _folds_without_class(audited)
    findings += [Finding(INVERTED_LABELS, "", "", reason) for reason in inverted]
    findings += trained_on_held_out(rows)
    return sorted(findings, key=lambda finding: ORDER.index(finding.check))


def _parted_names(cells: pd.Series[str], side: Sides, check: str) -> list[_Hit]:
    """For each name in the cells that stands on several sides: its first row, and the first on every other side."""
    of = memberships(cells)
    place = coded(pd.Series(side, dtype="str"))[0][of.row]
    least, most = np.full(len(of.names), len(side)), np.full(len(of.names), -1)
    np.minimum.at(least, of.name, place)
    np.maximum.at(most, of.name, place)
    parted = np.flatnonzero((least != most)[of.name])
    places = pd.DataFrame({"row": of.row[parted], "name": of.name[parted], "side": place[parted]})
    firsts = places.drop_duplicates(["name", "side"]).groupby("name")["row"].agg(list)
    return [
        _Hit(check, rows[0], other, name, check)
        for name, rows in zip(of.names.iloc[firsts.index], firsts, strict=True)
        for other in rows[1:]
    ]


def _others_of_clusters(pairs: Pairs, side: Sides, check: str) -> list[_Hit]:
    """Each member of a split cluster that no crossing pair names, with a member on another side."""
    row = np.unique(pairs)  # the others are clusters of one
    cluster = components(pairs, len(side))[row]
    members = pd.DataFrame({"side": side[row], "cluster": cluster}, index=row)
    firsts = (
        members.drop_duplicates().rename_axis("index").reset_index().groupby("cluster")["index"].agg(["first", "last"])
    )
    split = (firsts["first"] != firsts["last"]).reindex(cluster).to_numpy(copy=True)
    crossing = pairs[side[pairs[:, 0]] != side[pairs[:, 1]]]
    split[np.isin(row, crossing)] = False
    rest = row[split]
    one, other = firsts.loc[cluster[split]].to_numpy().T  # on two sides
    partner = np.where(side[one] != side[rest], one, other)
    return [_Hit(check, a, b, "one cluster", check) for a, b in zip(partner.tolist(), rest.tolist(), strict=True)]


def _unknown_copies(sketches: Sketches, alike: Pairs, side: Sides, console: Console) -> Pairs:
    """Copies on two sides that similar hashes do not link already."""
    place, known = np.unique(side, return_inverse=True)[1], components(alike, len(side))
    return find_copies(sketches, lambda a, b: (place[a] != place[b]) & (known[a] != known[b]), console).pairs


def _near_by_embedding(audited: _AuditedRows, embeddings: Embeddings, min_cosine: float) -> tuple[Pairs, Pairs]:
    """Mutual nearest neighbours on two sides: (pairs of one label, pairs of two labels).

    Those of one label are searched among the images of that label: a forgery must not hide the nearest of them.
    """
    side = audited.side
    of_label = [np.flatnonzero(audited.label == label) for label in (0, 1)]
    same = [rows[embedding_pairs(embeddings[rows], min_cosine, side[rows])] for rows in of_label]
    _, forged = audited.by_labels(embedding_pairs(embeddings, min_cosine, side))
    return np.concatenate(same), forged


def _same_bytes_two_labels(rows: pd.DataFrame) -> list[_Hit]:
    twice = rows[rows.duplicated("image_id", keep=False)].drop_duplicates(["image_id", "label"])
    conflicts = twice[twice.duplicated("image_id", keep=False)].groupby("image_id")
    pairs = [(image_id, *members.index[:2].tolist()) for image_id, members in conflicts]
    return [_Hit(LABEL_CONFLICT, a, b, f"sha256 {image_id}", LABEL_CONFLICT, False) for image_id, a, b in pairs]


def _conflicts_and_overlaps(audited: _AuditedRows, pairs: Pairs, search: str) -> list[_Hit]:
    """Pairs with two labels: a conflict if both are the same picture, otherwise an overlap if they are on two sides."""
    hits = []
    label, side, sketches = audited.label, audited.side, audited.sketches
    for a, b in pairs.tolist():
        if sketches is not None and same_picture(sketches[a], sketches[b]):
            hits.append(_Hit(LABEL_CONFLICT, a, b, f"one picture, labels {label[a]} and {label[b]}", search))
        elif side[a] != side[b]:
            hits.append(_Hit(SOURCE_OVERLAP, a, b, "", search))
    return hits


def _merged(hits: list[_Hit], paths: pd.Series[str], side: Sides) -> list[Finding]:
    """One finding for each pair of rows."""
    by_pair: dict[tuple[int, int], list[_Hit]] = {}
    for hit in sorted(hits, key=lambda hit: ORDER.index(hit.check)):
        by_pair.setdefault((min(hit.a, hit.b), max(hit.a, hit.b)), []).append(hit)
    findings = []
    for of_pair in by_pair.values():
        first, checks = of_pair[0], tuple(dict.fromkeys(hit.check for hit in of_pair))
        shared = ", ".join(dict.fromkeys(hit.shared for hit in of_pair if hit.check == first.check and hit.shared))
        places = f"{side[first.a]} | {side[first.b]}" if first.names_sides else ""
        detail = ": ".join(part for part in (places, shared) if part)
        detail += f"; also {', '.join(checks[1:])}" if checks[1:] else ""
        found_by = tuple(dict.fromkeys(hit.found_by for hit in of_pair))
        findings.append(Finding(first.check, paths.iloc[first.a], paths.iloc[first.b], detail, checks, found_by))
    return findings


def _folds_without_class(audited: _AuditedRows) -> list[Finding]:
    """Folds of one class. A test set of one class leaks nothing; its AUC is null."""
    findings = []
    for name in sorted(set(pd.unique(audited.side)) - {"test"}):
        validates = (audited.side == name) & (second_folds(audited.rows) < 0)
        counts = [int((validates & (audited.label == label)).sum()) for label in (0, 1)]
        if 0 in counts:
            detail = f"{name} has {counts[0]} real and {counts[1]} fake images"
            findings.append(Finding(FOLD_WITHOUT_CLASS, "", "", detail))
    return findings
