"""The figures of an audit, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ffdi.intake.auditing.findings import CHECKS, SOURCE_OVERLAP, Finding, leaks_among
from ffdi.intake.auditing.shortcuts import PROBES, shortcuts
from ffdi.metrics import Metrics, explain_nulls


def summarise(findings: list[Finding], rows: pd.DataFrame, probes: Metrics, dropped: int = 0) -> Metrics:
    """The figures of the audit: `leaks`, a count per check, source overlap, sizes, the probes, and the worst of them.

    `leaks` counts each pair of images once, a check all pairs that it found. `images_with_group` have a group that the
    data set names; `groups_of_one` are final groups of one image, where the audit can find only copies.
    `images_dropped` are those that split dropped. `source_overlap` counts pairs of a real photo and its forgery on two
    sides, `source_overlap_test_share` is the share of test images in such a pair. `warnings` counts the shortcuts, plus
    one for a source overlap, plus one where no image has a group of its own. `worst_probe` has the highest AUC.
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
    headline: Metrics = {"warnings": len(shortcuts(probes)) + bool(overlap) + (sizes["images_with_group"] == 0)}
    headline |= {"worst_probe": worst, "worst_probe_auc": measured[worst] if worst else None}
    headline = explain_nulls(headline, "no probe has a figure")
    return {"leaks": len(leaks_among(findings))} | headline | counts | sizes | probes


def coverage(summary: Mapping[str, Any]) -> str:
    """How much "0 leaks" is worth: of images without a group the audit can find only copies."""
    if not summary["images_with_group"]:
        return "but no image has a group of its own: copies could be found, people, videos and sources could not"
    return (
        f"{summary['images_with_group']} images have a group of their own, {summary['groups_of_one']} groups have one "
        "image"
    )
