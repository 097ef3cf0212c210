"""What the audit finds: leaks, and the warning of a photo and its forgery on two sides; the table that lists them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

FINDING_COLUMNS = ("check", "path_a", "path_b", "detail")
GROUP = "group_across_border"
EXACT = "exact_duplicate_across_border"
PERCEPTUAL = "perceptual_duplicate_across_border"
COPY = "augmented_copy_across_border"
EMBEDDING = "embedding_duplicate_across_border"
LABEL_CONFLICT = "label_conflict"
FOLD_WITHOUT_CLASS = "fold_without_class"
INVERTED_LABELS = "inverted_labels"
HELD_OUT = "held_out_value_trained"
CHECKS = (GROUP, EXACT, PERCEPTUAL, COPY, EMBEDDING, LABEL_CONFLICT, FOLD_WITHOUT_CLASS, INVERTED_LABELS, HELD_OUT)
SOURCE_OVERLAP = "source_overlap"  # a warning: a real photo and a forgery made from it, on two sides
ORDER = (*CHECKS, SOURCE_OVERLAP)


@dataclass(frozen=True)
class Finding:
    """One leak or warning: the check that found it, the two images (or "") and what they share.

    `check` is the first in the order of CHECKS, `checks` are all that found the pair. `found_by` names the search that
    each rests on: a source overlap is found by one of the searches for near-duplicates.
    """

    check: str
    path_a: str
    path_b: str
    detail: str
    checks: tuple[str, ...] = field(default=(), compare=False)
    found_by: tuple[str, ...] = field(default=(), compare=False)


def leaks_among(findings: list[Finding]) -> list[Finding]:
    """Those that stop the pipeline: all but warnings."""
    return [finding for finding in findings if finding.check in CHECKS]


def findings_table(findings: list[Finding]) -> pd.DataFrame:
    """data/audit_findings.csv."""
    table: pd.DataFrame = pd.DataFrame([vars(f) for f in findings], columns=list(FINDING_COLUMNS))
    return table
