"""The page: self-contained, escaped, the same bytes twice, and clear about random prefixes and leaks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Tiny, make_tiny

from ffdi.errors import InputError
from ffdi.evaluation.ladder import RUNGS
from ffdi.evaluation.report import read_results, render_page, results_table, verdict
from ffdi.intake.audit import CHECKS
from ffdi.intake.probes import PROBES
from ffdi.metrics import evaluate_scores, reliability, roc_points

EVIL = "<script>alert(1)</script>"


def write_results(folder: Path, tiny: Tiny, recipes: dict[str, bool], *, leaks: int = 0) -> Path:
    """metrics/ with a file per recipe (name -> pretrained) as the stages write them, scores drawn from a seed."""
    metrics = folder / "metrics"
    test = tiny.rows[tiny.rows["role"] == "test"]
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    for number, (name, pretrained) in enumerate(recipes.items()):
        scores = np.clip(0.5 + 0.2 * (labels - 0.5) + np.random.default_rng(number).normal(0, 0.2, len(labels)), 0, 1)
        facts: dict[str, Any] = evaluate_scores(labels, scores, groups, threshold=0.5, resamples=200, seed=0)
        facts |= {"val_auc_mean": 0.7, "val_auc_std": 0.01, "pretrained": pretrained, "weights": "file:w.safetensors"}
        facts |= {"network": "timm:resnet18", "cut": "layer4"}
        plots = metrics / "plots" / name
        (plots / "test").mkdir(parents=True)
        (plots / "train").mkdir()
        (metrics / f"{name}.json").write_text(json.dumps(facts))
        fpr, tpr, at = roc_points(labels, scores)
        pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": at}).to_csv(plots / "test" / "roc.csv", index=False)
        table = pd.DataFrame(reliability(labels, scores), columns=["score", "fakes", "images"])
        table.to_csv(plots / "test" / "calibration.csv", index=False)
        table = pd.DataFrame({"image_id": test["image_id"], "label": labels, "score": scores})
        table.to_csv(plots / "test" / "scores.csv", index=False)
        history = pd.DataFrame({"fold": [0, 0, 1, 1], "epoch": [0, 1, 0, 1], "val_auc": [0.6, 0.7, 0.55, 0.65]})
        history.to_csv(plots / "train" / "history.csv", index=False)
    audit: dict[str, Any] = {"leaks": leaks, "images": 48, "fakes": 24, "groups": 12} | dict.fromkeys(CHECKS, 0)
    audit[CHECKS[0]] = leaks
    audit |= {"source_overlap": 0, "source_overlap_test_share": 0.0}
    for probe in PROBES:
        audit |= {f"probe_{probe}_auc{end}": 0.5 for end in ("", "_low", "_high")}
    (metrics / "audit.json").write_text(json.dumps(audit))
    figures = (
        "reported_auc",
        "true_auc",
        "true_auc_low",
        "true_auc_high",
        "gap_auc",
        "gap_auc_low",
        "gap_auc_high",
        "reported_accuracy",
        "true_accuracy",
    )
    ladder = {f"rung_{n}_{key}": 0.5 for n in range(len(RUNGS)) for key in figures}
    ladder |= {f"rung_{n}_name": name for n, name in enumerate(RUNGS)}
    (metrics / "ladder.json").write_text(json.dumps(ladder))
    return metrics


@pytest.fixture
def metrics(tmp_path: Path, tiny: Tiny) -> Path:
    return write_results(tmp_path, tiny, {"plain": False, "good": True})


def page_of(metrics: Path, tiny: Tiny, recipes: list[str], findings: Path | None = None) -> str:
    return render_page(read_results(metrics, recipes), tiny.rows, tiny.root, findings=findings, max_pixels=10**6)


def test_page_asks_no_host_and_repeats(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, ["plain", "good"])
    bare = re.sub(r'xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', "", page, flags=re.S)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", bare.replace("xlink:href", "href"))
    assert page == page_of(metrics, tiny, ["plain", "good"])


def test_random_prefixes_are_marked_and_ranked_last(metrics: Path, tiny: Tiny) -> None:
    results = read_results(metrics, ["plain", "good"])
    assert [name for name, _ in results.ranked] == ["good", "plain"]
    assert verdict(results).startswith("good, on an ImageNet-pretrained prefix")
    assert re.search(r'<tr class="random">\s*<td>.*?plain</td>', page_of(metrics, tiny, ["plain", "good"]))
    assert "*random prefix" in results_table(results).splitlines()[3]


def test_a_leak_is_the_verdict(tmp_path: Path, tiny: Tiny) -> None:
    metrics = write_results(tmp_path, tiny, {"good": True}, leaks=3)
    assert "3 leaks: no figure here can be trusted" in verdict(read_results(metrics, ["good"]))
    assert "audit failed: 3 leaks" in page_of(metrics, tiny, ["good"])


def test_text_from_data_is_escaped(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / "data")
    metrics = write_results(tmp_path, tiny, {"good": True}, leaks=1)
    findings = tmp_path / "findings.csv"
    findings.write_text(f"check,path_a,path_b,detail\n{CHECKS[0]},{EVIL},b.jpg,x\n")
    path = tiny.rows["path"].iloc[0]
    (tiny.root / path).rename(tiny.root / "a<b>&.jpg")
    tiny.rows["path"] = tiny.rows["path"].replace(path, "a<b>&.jpg")
    page = page_of(metrics, tiny, ["good"], findings)
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "a<b>" not in page


def test_removed_recipes_are_named_not_shown(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, ["good"])
    assert "Left out, for no recipe of params.yaml has these names any more: plain." in page
    assert "random weights" not in page


def test_missing_metrics_name_the_stage(metrics: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: missing: run the stage"):
        read_results(metrics, ["absent"])
