"""Results -> one self-contained HTML page.

The page loads nothing from any host, opens from disk, and escapes every text that comes from data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.evaluation import charts
from ffdi.evaluation.compare import NO_DIFFERENCE
from ffdi.evaluation.headline import rung_count
from ffdi.evaluation.page_data import (
    attribute_tables,
    ensembles,
    heaviest_member,
    held_out,
    most_wrong_units,
    policies,
    protocols,
    records,
    refits,
    robustness_rows,
    units,
)
from ffdi.evaluation.results import Results, read_results, results_table, times_table
from ffdi.evaluation.templates import page_template
from ffdi.evaluation.verdict import caveats, verdict
from ffdi.evaluation.wrong_images import HeatMaps, heat_maps, most_wrong_images, shown_names, thumbnails
from ffdi.files import human_bytes, replacing_folder, write_text
from ffdi.intake.auditing.findings import CHECKS
from ffdi.intake.auditing.shortcuts import FACTS, PROBES, WARN_ABOVE
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import sides

MADE_WITH = ("ffdi", "torch", "torchvision", "timm", "onnxruntime", "numpy", "scikit-learn", "pillow")
MOST_FINDINGS = 100


@dataclass(frozen=True)
class PipelineFolders:
    """Where the earlier stages wrote. `data` has audit_findings.csv, comparisons.csv, cross/ and timings/."""

    metrics: Path
    data: Path
    models: Path
    features: Path


def write_report(
    out: Path,
    folders: PipelineFolders,
    recipes: Mapping[str, str],
    rows: pd.DataFrame,
    source: ImageSource,
    *,
    params_text: str = "",
    unchecked: Mapping[str, str] | None = None,
) -> Results:
    """Write index.html, results.md and verdict.txt to `out`, and times.md to the folder of timings.

    `recipes` maps each recipe to its backbone, and each ensemble to nothing; `rows` is images.csv joined with folds.csv.
    The rest as render_page. The heat maps are those of the best recipe, or of the heaviest member of the best ensemble.
    """
    results = read_results(folders.metrics, recipes, folders.data, folders.models)
    seen_by = heaviest_member(results.best) or results.best_name
    heat = heat_maps(folders.models / seen_by, folders.features / recipes[seen_by], most_wrong_images(results, rows))
    findings = folders.data / "audit_findings.csv"
    page = render_page(
        results, rows, source, findings=findings, heat=heat, params_text=params_text, unchecked=unchecked
    )
    with replacing_folder(out) as folder:
        write_text(folder / "index.html", page)
        write_text(folder / "results.md", results_table(results))
        write_text(folder / "verdict.txt", verdict(results) + "\n")
    write_text(folders.data / "timings" / "times.md", times_table(results))
    return results


def unused_folders(place: Path, known: Collection[str]) -> list[Path]:
    """The folders of `place` that no name of `known` has, sorted."""
    return [place / name for name in sorted(p.name for p in place.glob("*") if p.is_dir() and p.name not in known)]


def render_page(
    results: Results,
    rows: pd.DataFrame,
    source: ImageSource,
    *,
    findings: Path | None,
    heat: HeatMaps | None = None,
    params_text: str = "",
    unchecked: Mapping[str, str] | None = None,
) -> str:
    """The page. `rows` is images.csv joined with folds.csv, `findings` is the audit's list, shown if the file exists.

    `heat` has the heat maps of most_wrong_images, `unchecked` maps each check that the audit did not run to the reason.
    """
    filters: dict[str, Callable[..., str]] = {
        "figure": _figure,
        "share": _share,
        "signed": _signed,
        "count": _count,
        "bytes": human_bytes,
    }
    counts = _counts(rows)
    return page_template(Path(__file__).with_name("report.html"), filters).render(
        **_of_recipes(results),
        **_of_audit(results, findings, unchecked or {}),
        ladder=charts.ladder(results.ladder),
        rungs=range(rung_count(results.ladder)),
        counts=counts,
        balance=charts.balance(counts),
        wrong_units=most_wrong_units(results, dict(zip(rows["image_id"], shown_names(rows), strict=True))),
        wrong=thumbnails(most_wrong_images(results, rows), source, heat or HeatMaps()),
        no_heat=heat.missing_reason if heat else "",
        params_text=params_text,
        versions={name: version(name) for name in MADE_WITH},
    )


def _of_recipes(results: Results) -> dict[str, Any]:
    """The page's variables that come from the recipes' metrics and tables."""
    swept = [name for name, _ in results.ranked if not results.table(name, "robustness").empty]
    colours = charts.recipe_colours(results)
    return {
        "verdict": verdict(results),
        "caveats": caveats(results),
        "results": results,
        "best": results.best_name,
        "palette": charts.PALETTE,
        "colours": {name: charts.variable(colour) for name, colour in colours.items()},
        "pairs": {name: records(rows) for name, rows in results.pairs.groupby("figure", sort=False)},
        "ensembles": ensembles(results),
        "refits": refits(results),
        "no_difference": NO_DIFFERENCE,
        "confusions": {name: results.confusion(name) for name in results.recipes},
        "attributes": {name: attribute_tables(results, name) for name in results.recipes},
        "held_out": held_out(results),
        "protocols": protocols(results),
        "policies": policies(results),
        "units": units(results),
        "robust": robustness_rows(results),
        "robustness": {
            name: (charts.robustness(results, name), records(results.table(name, "robustness"))) for name in swept
        },
        "cross": _cross(results),
        "roc": charts.roc(results),
        "pr": charts.precision_recall(results),
        "reliability": charts.reliability(results),
        "training": charts.training(results),
        "folds_alone": charts.folds_alone(results),
        "pareto": charts.pareto(results),
    }


def _of_audit(results: Results, findings: Path | None, unchecked: Mapping[str, str]) -> dict[str, Any]:
    """The page's variables that come from the audit."""
    return {
        "checks": CHECKS,
        "facts": FACTS,
        "unchecked": unchecked,
        "probes": [p for p in PROBES if results.audit[f"probe_{p}_auc"] is not None],
        "unprobed": [p for p in PROBES if results.audit[f"probe_{p}_auc"] is None],
        "warn_above": WARN_ABOVE,
        "findings": _findings(findings),
    }


def _counts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for name, part in rows.groupby(sides(rows)):
        fakes = int(part["label"].sum())
        out.append({"place": name, "real": len(part) - fakes, "fake": fakes, "groups": part["group"].nunique()})
    return out


def _findings(file: Path | None) -> list[dict[str, Any]]:
    if file is None or not file.exists():
        return []
    return records(pd.read_csv(file, dtype=str, keep_default_na=False).head(MOST_FINDINGS))


def _cross(results: Results) -> dict[str, Any]:
    """The matrix of AUCs on other data: a row for each (data trained on, recipe), a column for each data set tested on."""
    home = [
        dict(m) | {"recipe": name, "tested_on": m["trained_on"]}
        for name, m in results.ranked
        if any(other["recipe"] == name and other["trained_on"] == m["trained_on"] for other in results.cross)
    ]
    cells = {(m["trained_on"], m["recipe"], m["tested_on"]): m for m in [*results.cross, *home]}
    return {
        "rows": sorted({key[:2] for key in cells}, key=str),
        "columns": sorted({key[2] for key in cells}, key=str),
        "cells": cells,
    }


def _figure(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.1f} %"


def _signed(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.3f}".replace("-", "−")


def _count(value: float | None) -> str:
    """12345678 -> 12.3 M."""
    if value is None:
        return "–"
    for power, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= power:
            return f"{value / power:.3g}{unit}"
    return f"{value:g}"
