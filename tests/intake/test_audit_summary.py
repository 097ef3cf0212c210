"""The summary of an audit, its advice and its worth."""

import pandas as pd
import pytest
from audit_cases import clean_rows, leaks

from ffdi.evaluation.headline import of_audit
from ffdi.intake.auditing.advice import advise, settings_that_join
from ffdi.intake.auditing.findings import CHECKS, FINDING_COLUMNS, Finding, findings_table
from ffdi.intake.auditing.summary import coverage, summarise
from ffdi.intake.settings import AuditSettings, SplitSettings


@pytest.fixture
def clean() -> pd.DataFrame:
    return clean_rows()


def test_advice_names_only_what_would_change_something(clean: pd.DataFrame) -> None:
    rows = clean.assign(given_split=["test"] * 4 + ["train"] * 8)
    audit = AuditSettings(phash_bits=6)
    joins = settings_that_join(SplitSettings(phash_bits=6), audit)
    assert joins == {CHECKS[3]: "split.find_copies: true", CHECKS[4]: "split.use_embedding: true"}
    everything = SplitSettings(phash_bits=4, find_copies=True, use_embedding=True)
    assert settings_that_join(everything, audit) == {CHECKS[2]: "split.phash_bits: 6"}
    found = [
        Finding(CHECKS[3], f"{a}.jpg", f"{b}.jpg", "", (CHECKS[3],), (CHECKS[3],)) for a, b in ((0, 4), (1, 5), (6, 9))
    ]
    own = "the data's own split parts 2 of them: leave out one image of each, or split.use_given: false draws another"
    assert advise(found, rows, joins, use_given=True) == f"split.find_copies: true would join 1 of them; {own}"
    assert advise(found, rows, joins, use_given=False) == "split.find_copies: true would join 3 of them"
    assert advise(found, rows, {}, use_given=True) == own
    assert advise(found, rows, {}, use_given=False) == ""  # it is all on already


def test_no_leak_says_coverage(clean: pd.DataFrame) -> None:
    out = summarise([], clean, {})
    assert (out["images_with_group"], out["warnings"]) == (0, 1)
    assert coverage(out).startswith("but no image has a group of its own")
    named = clean.assign(intake_group=["anna", *[""] * 11], group=["anna", "alone", *clean["group"][2:]])
    out = summarise([], named, {})
    assert (out["images_with_group"], out["groups_of_one"], out["warnings"]) == (1, 2, 0)
    assert coverage(out) == "1 images have a group of their own, 2 groups have one image"


def test_summary_and_table(clean: pd.DataFrame) -> None:
    clean.loc[11, "group"] = "g0"
    clean["intake_group"] = ["g0", *clean["group"][1:11], ""]
    found = leaks(clean, "group_across_border")
    out = summarise(found, clean, {"probe": 0.5}, dropped=3)
    assert out == {"leaks": 1} | dict.fromkeys(CHECKS, 0) | {"group_across_border": 1, "probe": 0.5} | {
        "images": 12,
        "fakes": 6,
        "groups": 6,
        "groups_of_one": 1,
        "images_with_group": 11,
        "images_dropped": 3,
        "test_images": 4,
        "source_overlap": 0,
        "source_overlap_test_share": 0.0,
        "warnings": 0,
        "worst_probe": None,
        "worst_probe_reason": "undefined: no probe has a figure",
        "worst_probe_auc": None,
        "worst_probe_auc_reason": "undefined: no probe has a figure",
    }
    assert findings_table(found).values.tolist() == [["group_across_border", "0.jpg", "11.jpg", "test | fold 1: g0"]]
    assert list(findings_table([]).columns) == list(FINDING_COLUMNS)


def test_shortcuts_are_counted_and_the_worst_named(clean: pd.DataFrame) -> None:
    """One interval lies above .55, another probe has the higher AUC, and one was not run."""
    probes = {"probe_thumbnail_auc": 0.7, "probe_thumbnail_auc_low": 0.6, "probe_thumbnail_auc_high": 0.8}
    probes |= {"probe_size_auc": 0.72, "probe_size_auc_low": 0.5, "probe_size_auc_high": 0.9}
    clean["intake_group"] = clean["group"]
    out = summarise([], clean, probes | {"probe_nearest_neighbour_auc": None, "probe_nearest_neighbour_auc_low": None})
    assert of_audit(out) == {"leaks": 0, "warnings": 1, "worst_probe": "size", "worst_probe_auc": 0.72}
