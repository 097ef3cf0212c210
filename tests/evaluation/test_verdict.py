"""The verdict and its caveats: each is there when it holds, and only then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Tiny, Trained
from results_on_disk import page_of, results_of, write_results

from ffdi.errors import InputError
from ffdi.evaluation.report import render_page
from ffdi.evaluation.verdict import caveats, verdict
from ffdi.intake.decoding.images import ImageSource


@pytest.fixture
def metrics(tmp_path: Path, tiny: Tiny, trained: Trained) -> Path:
    return write_results(tmp_path, tiny, trained, {"plain": False, "good": True})


def test_a_leak_is_the_verdict(tmp_path: Path, tiny: Tiny, trained: Trained) -> None:
    metrics = write_results(tmp_path, tiny, trained, {"good": True}, leaks=3)
    assert "3 leaks: no figure here can be trusted" in verdict(results_of(metrics, ["good"]))
    assert "audit failed: 3 leaks" in page_of(metrics, tiny, ["good"])


def test_the_catch_is_said(tmp_path: Path, tiny: Tiny, trained: Trained) -> None:
    """Each caveat where it holds, and gone where it does not; how many are wrong is always said."""
    metrics = write_results(tmp_path, tiny, trained, {"good": True, "same": True}, levels=("jpeg-30", "blur-2"))
    results = results_of(metrics, ["good", "same"])
    best = dict(results.recipes["good"]) | {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "val_auc_mean": 0.7}
    best |= {"accuracy": 0.9, "ece": 0.2, "ece_if_calibrated": 0.1, "val_auc_std": 0.03}
    found = " ".join(caveats(replace(results, recipes={"good": best, "same": dict(best) | {"auc": 0.8}})))
    for said in (
        f"{best['n_groups']} groups",
        "On the folds its AUC is lower, 0.700 ± 0.030",
        "No difference is shown between good and same",
        "off by 0.200 on average (ECE; good ones are below 0.100)",
        "false-alarm rate of 1 % and 0.1 %",
        "AUC 0.600 at blur-2",
        "accuracy falls from 0.900 to 0.600 at blur-2",
        "not judged on any other data set",
    ):
        assert said in found
    for key in ("tpr_at_fpr_1e_2", "tpr_at_fpr_1e_3"):
        best[key] = 0.5
    sure = dict(best) | {"n_groups": 500, "ece": 0.01, "ece_if_calibrated": 0.02, "accuracy": 0.62}
    sure |= {"auc": 0.62, "auc_low": 0.6, "auc_high": 0.64, "val_auc_mean": 0.61}
    away = dict(sure) | {"recipe": "good", "tested_on": "wild", "auc": 0.55, "auc_low": 0.5}
    calm = replace(results, recipes={"good": sure}, pairs=results.pairs.assign(verdict="good is better"), cross=[away])
    wrong = pd.read_csv(metrics / "plots" / "good" / "test" / "confusion.csv").value_counts(["actual", "predicted"])
    assert caveats(calm) == [
        f"At its threshold it calls {wrong.get(('real', 'fake'), 0)} of 6 real test images fake, and "
        f"{wrong.get(('fake', 'real'), 0)} of 6 fakes real.",
        "On other data its AUC is 0.550 (0.500 to 0.640) on wild.",
    ]
    refit = caveats(replace(calm, recipes={"good": sure | {"refit": True}}))
    assert len(refit) == len(caveats(calm)) + 1 and refit[0].startswith("One tail of all training images scores")
    at_home = replace(calm, cross=[away | {"tested_on": away["trained_on"]}])
    assert caveats(at_home)[-1] == "It was not judged on any other data set."
    audit = dict(results.audit) | {"probe_thumbnail_auc_low": 0.7, "source_overlap": 4}
    warned = caveats(replace(calm, audit=audit))
    assert ["thumbnail alone" in warned[1], warned[2].startswith("4 forgeries")] == [True, True]
    blind = replace(calm, audit=dict(results.audit) | {"images_with_group": 0, "images_dropped": 3})
    assert caveats(blind)[0].startswith("No image has a group of its own") and "3 images" in caveats(blind)[1]
    assert verdict(blind).endswith("the audit found no leak of copies, and without groups it could find no other.")
    few = dict(sure) | {"ece": 0.1, "ece_if_calibrated": 0.15, "val_auc_mean": 0.7}
    said = " ".join(caveats(replace(calm, recipes={"good": few})))
    assert "too few to judge its calibration: ECE 0.100, good ones reach 0.150" in said
    assert "On the folds its AUC is higher, 0.700" in said


def test_labels_that_are_most_likely_turned_round_come_first(metrics: Path, tiny: Tiny) -> None:
    results = results_of(metrics, ["plain", "good"])
    low: dict[str, Any] = {"auc": 0.2, "auc_low": 0.1, "auc_high": 0.3}
    turned = replace(results, recipes=dict(results.recipes) | {"good": dict(results.recipes["good"]) | low})
    assert "the whole interval lies below .5: labels are most likely turned round" in verdict(turned)
    assert caveats(turned)[0].startswith("good: AUC 0.200 [0.100, 0.300] on the test set: the whole interval")
    away = {"recipe": "good", "trained_on": "here", "tested_on": "wild", **low, "accuracy": 0.3, "n_test": 9}
    there = replace(results, cross=[away | {"n_groups": 3}])
    assert caveats(there)[0].startswith("good: AUC 0.200 [0.100, 0.300] on wild: the whole interval")
    page = render_page(there, tiny.rows, ImageSource(tiny.root), findings=None)
    assert "on wild: the whole interval lies below .5" in page


def test_missing_metrics_name_the_stage(metrics: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: missing: run the stage"):
        results_of(metrics, ["absent"])
