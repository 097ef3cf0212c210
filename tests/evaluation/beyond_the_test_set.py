"""Figures of what carries over, made by hand: held-out values, harder folds, seen levels, policies, an ensemble."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.evaluation.attributes import COLUMNS
from ffdi.files import write_json
from ffdi.intake.tables import write_table

HELD_OUT = ["without", "tested_on", "reals", "fakes", "auc", "low", "high", "side"]
EVIL = "<b>evil"


def change(metrics: Path, name: str, **figures: Any) -> None:
    """Add figures to the details of a recipe."""
    file = metrics / "details" / f"{name}.json"
    write_json(file, json.loads(file.read_text()) | figures)


def with_interval(key: str, middle: float, low: float, high: float) -> dict[str, float]:
    return {key: middle, f"{key}_low": low, f"{key}_high": high}


def add_held_out(metrics: Path, name: str, worst: float = 0.55, low: float = 0.45) -> None:
    """A tail without each of three values, the last one of two that were pooled."""
    rows: list[list[Any]] = []
    for n, without in enumerate(["gan", EVIL, "swap+blend"]):
        rows.append([without, without, 9, 8, 0.9 - n * (0.9 - worst) / 2, None, None, "validation"])
        rows += [[without, value, 6, 2, 0.8 - 0.01 * n, 0.7, 0.9, "test"] for value in ("blend", EVIL, "gan", "swap")]
    write_table(metrics / "plots" / name / "test" / "held_out.csv", pd.DataFrame(rows, columns=HELD_OUT))
    figures = with_interval("held_out_worst_auc", worst, low, 0.7) | with_interval("held_out_mean_auc", 0.725, 0.6, 0.8)
    change(metrics, name, held_out_worst="swap+blend", **figures)


def add_protocol(metrics: Path, name: str, harder_by: float = 0.06) -> None:
    figures = with_interval("harder_by", harder_by, harder_by - 0.03, harder_by + 0.03)
    folds: dict[str, Any] = {"method": "clustered", "folds": 5, "images": 384, "folds_auc": 0.78, "random_auc": 0.84}
    write_json(metrics / "protocol" / f"{name}.json", folds | figures)


def add_levels(metrics: Path, name: str, seen: str = "jpeg") -> None:
    """One kind at both places, and one that is worst."""
    rows: list[list[Any]] = [
        ["jpeg-50", "jpeg", 50, 0.8, 0.7, 0.9, 0.7, "file", seen],
        ["jpeg-50@square", "jpeg", 50, 0.75, 0.7, 0.9, 0.7, "square", seen],
        ["hflip", "hflip", None, 0.85, 0.7, 0.9, 0.7, "square", None],
        ["fog-3", "fog", 3, 0.6, 0.5, 0.7, 0.6, "file", None],
    ]
    columns = ["level", "kind", "strength", "auc", "auc_low", "auc_high", "accuracy", "at", "seen"]
    write_table(metrics / "plots" / name / "test" / "robustness.csv", pd.DataFrame(rows, columns=columns))
    figures = with_interval("robust_auc", 0.711, 0.7, 0.8) | with_interval("robust_unseen_auc", 0.612, 0.5, 0.7)
    marks = {f"robustness_{k}_seen": bool(seen) for k in ("jpeg_50", "jpeg_50_at_square")}
    marks |= {"robustness_hflip_seen": False, "robustness_fog_3_seen": False}
    worst = with_interval("worst_auc", 0.6, 0.5, 0.7)
    change(metrics, name, worst_level="fog-3", **figures, **worst, **marks)


def add_policy(metrics: Path, name: str, fpr: float = 0.14) -> None:
    figures = with_interval("fpr", fpr, fpr - 0.05, fpr + 0.06) | with_interval("expected_fpr", 0.05, 0.02, 0.08)
    decided = with_interval("decided_error", 0.091, 0.06, 0.13)
    band: dict[str, Any] = {
        "coverage": 0.71,
        "expected_coverage": 0.744,
        "expected_error": 0.049,
        "abstain_low": 0.312,
        "abstain_high": 0.664,
        "undecided": 28,
    }
    change(metrics, name, threshold_rule="fpr", threshold_at=0.05, abstain_error=0.05, **figures, **decided, **band)


def add_long_attribute(metrics: Path, name: str, values: int = 40) -> None:
    """An attribute `method` of so many values, m0 to m39, after those that are there."""
    file = metrics / "plots" / name / "test" / "attributes.csv"
    figures = {"reals": 0, "fakes": 2, "against": "all reals"} | dict.fromkeys(COLUMNS[6:], 0.5)
    rows = [
        {"attribute": "method", "value": f"m{n}", "auc": 0.5 + (n * 7 % values) / 100} | figures for n in range(values)
    ]
    write_table(file, pd.concat([pd.read_csv(file), pd.DataFrame(rows)[COLUMNS]]))


def add_ensemble(metrics: Path, name: str, members: dict[str, float], like: str) -> None:
    """An ensemble with the tables and figures of another recipe, and without a history of its training."""
    shutil.copytree(metrics / "plots" / like / "test", metrics / "plots" / name / "test")
    details = metrics / "details"
    shutil.copy(details / f"{like}.json", details / f"{name}.json")
    weights = {f"weight_{member}": weight for member, weight in members.items()}
    change(metrics, name, members=", ".join(members), stacking="fitted", val_auc_mean=0.99, **weights)


def add_everything(metrics: Path, name: str) -> None:
    """All of the above but an ensemble."""
    for add in (add_held_out, add_protocol, add_levels, add_policy, add_long_attribute):
        add(metrics, name)
