"""The files that the stages before the report write, for recipes that were never trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conftest import Tiny, Trained

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation.compare import compare, read_scores
from ffdi.evaluation.cost import cost
from ffdi.evaluation.evaluate import Evaluation, evaluate_model_scores
from ffdi.evaluation.ladder import RUNGS
from ffdi.evaluation.report import render_page
from ffdi.evaluation.results import Results, read_results
from ffdi.evaluation.robust_figures import AUC_COLUMNS, LEVEL_COLUMNS
from ffdi.features.levels import parse_level
from ffdi.features.store import FeatureStore
from ffdi.files import write_json
from ffdi.intake.auditing.findings import CHECKS
from ffdi.intake.auditing.shortcuts import PROBES
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import write_table
from ffdi.tails.bundle import load_bundle
from ffdi.tails.model import ModelScores


def write_results(
    folder: Path,
    tiny: Tiny,
    trained: Trained,
    recipes: dict[str, bool],
    *,
    leaks: int = 0,
    levels: tuple[str, ...] = (),
) -> Path:
    """metrics/ and data/ as the stages write them for recipes (name -> pretrained); scores are drawn from a seed."""
    metrics = folder / "metrics"
    test = tiny.rows[tiny.rows["role"] == "test"]
    labels, bundle = test["label"].to_numpy(), load_bundle(trained.model)
    spec, sweep = (
        FeatureStore(trained.features).spec,
        [[(p := parse_level(level)).name, p.kind, p.strength, p.at, "", 0.6, 0.5, 0.7, 0.6] for level in levels],
    )
    for number, (name, pretrained) in enumerate(recipes.items()):
        rng = np.random.default_rng(number)
        by_fold = {f: np.clip(0.4 + 0.2 * labels + rng.normal(0, 0.2, len(labels)), 0, 1) for f in (0, 1)}
        facts = dict(bundle.record)
        facts["provenance"] = facts["provenance"] | {"pretrained": pretrained, "weights": "file:w.safetensors"}
        judged = evaluate_model_scores(
            replace(bundle, record=facts), test, ModelScores.of_folds(by_fold), bootstrap=Bootstrap(200)
        )
        columns = [*LEVEL_COLUMNS, *AUC_COLUMNS]
        plots = {**judged.plots, "robustness": pd.DataFrame(sweep if number == 0 else [], columns=columns)}
        Evaluation(judged.metrics, plots).write_plots(metrics / "plots" / name / "test")
        write_json(metrics / "details" / f"{name}.json", judged.metrics | cost(bundle, spec))
        history = pd.DataFrame({"fold": [0, 0, 1, 1], "epoch": [0, 1, 0, 1], "val_auc": [0.6, 0.7, 0.55, 0.65]})
        write_table(metrics / "plots" / name / "train" / "history.csv", history)
    pairs = compare(*read_scores(metrics / "plots", list(recipes), tiny.folds), bootstrap=Bootstrap(200))
    write_table(folder / "data" / "comparisons.csv", pairs)
    audit: dict[str, Any] = {"leaks": leaks, "images": 48, "fakes": 24, "groups": 12} | dict.fromkeys(CHECKS, 0)
    audit[CHECKS[0]] = leaks
    audit |= {"source_overlap": 0, "source_overlap_test_share": 0.0}
    audit |= {"images_with_group": 48, "groups_of_one": 0, "images_dropped": 0}
    for probe in PROBES:
        audit |= {f"probe_{probe}_auc{end}": 0.5 for end in ("", "_low", "_high")}
    write_json(metrics / "details" / "audit.json", audit)
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
    ladder |= {"folds": 2, "seeds": 1, "n_test": len(test)}
    ladder |= {f"rung_{n}_name": rung.name for n, rung in enumerate(RUNGS)}
    write_json(metrics / "details" / "ladder.json", ladder)
    return metrics


def results_of(metrics: Path, recipes: Iterable[str]) -> Results:
    return read_results(metrics, dict.fromkeys(recipes, "tiny"), metrics.parent / "data")


def page_of(metrics: Path, tiny: Tiny, recipes: Iterable[str], findings: Path | None = None, **more: Any) -> str:
    return render_page(results_of(metrics, recipes), tiny.rows, ImageSource(tiny.root), findings=findings, **more)
