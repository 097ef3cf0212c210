"""What the page's tables of other than the plain test set show: rows in the order of the page, as plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ffdi.evaluation.attributes import MOST_VALUES
from ffdi.evaluation.results import Results
from ffdi.evaluation.units import UNIT, aggregated, numbered
from ffdi.metrics import Metrics

Row = dict[str, Any]
MOST_UNITS = 24
_DARKEST = 24  # % of red behind an AUC of .5 or less: text on it can still be read


def records(table: pd.DataFrame) -> list[Row]:
    """Rows as mappings; missing values are None."""
    objects: Any = table.astype(object)
    return [dict(row) for row in objects.where(table.notna(), None).to_dict("records")]


def attribute_tables(results: Results, recipe: str) -> list[Row]:
    """One table of all attributes with few values, then one (`long`) of each other attribute, its lowest AUC first."""
    table = results.table(recipe, "attributes")
    counts = table["attribute"].map(table["attribute"].value_counts())
    short = table[counts <= MOST_VALUES]
    tables: list[Row] = [{"name": "", "long": False, "rows": records(short)}] if len(short) else []
    for name, rows in table[counts > MOST_VALUES].groupby("attribute", sort=False):
        tables.append({"name": name, "long": True, "rows": records(rows.sort_values("auc", kind="stable"))})
    return tables


def held_out(results: Results) -> dict[str, Row]:
    """Of each recipe whose folds hold out a value each: `values`, judged out of fold, and the matrix of the test set.

    The lowest out-of-fold AUC comes first. The matrix has a row for each tail and a column for each value of the test set,
    in the order of the rows.
    """
    found = {}
    for name, _ in results.ranked:
        table = results.table_if_there(name, "held_out")
        if table.empty:
            continue
        values = table[table["side"] == "validation"].sort_values("auc", kind="stable")
        tested = table[table["side"] == "test"]
        order = [*dict.fromkeys([*values["without"], *tested["without"]])]
        own = {without: _parts(without, set(tested["tested_on"])) for without in order}
        columns = [*dict.fromkeys([c for without in order for c in own[without]] + sorted(set(tested["tested_on"])))]
        cells = {(row["without"], row["tested_on"]): row for row in records(tested)}
        matrix = [
            {"without": w, "cells": [_cell(cells.get((w, c)), own=c in own[w]) for c in columns]}
            for w in order
            if any((w, c) in cells for c in columns)
        ]
        found[name] = {"values": records(values), "columns": columns, "matrix": matrix}
    return found


def _parts(without: str, tested: set[str]) -> list[str]:
    """The values that a tail did not see: of several that were pooled, each."""
    return [without] if without in tested else [part for part in without.split("+") if part in tested]


def _cell(row: Row | None, own: bool) -> Row:
    auc = row["auc"] if row else None
    red = 0 if auc is None else round(_DARKEST * min(1.0, max(0.0, (1 - auc) / 0.5)))
    return {"auc": auc, "low": None, "high": None, "fakes": 0, **(row or {}), "own": own, "red": red}


def protocols(results: Results) -> list[Row]:
    """The recipes that were trained on random folds, too, in the order of the leaderboard."""
    return [{"recipe": name, **results.protocol[name]} for name, _ in results.ranked if name in results.protocol]


def robustness_rows(results: Results) -> list[Row]:
    """The recipes with a mean over levels, in the order of the leaderboard."""
    return [{"recipe": name, **m} for name, m in results.ranked if m.get("robust_auc") is not None]


def policies(results: Results) -> list[Row]:
    """The recipes whose metrics say how the threshold was set, in the order of the leaderboard."""
    return [{"recipe": name, **m} for name, m in results.ranked if "threshold_rule" in m]


def refits(results: Results) -> list[Row]:
    """The models in which a refit tail scores in the place of the folds', in the order of the leaderboard."""
    return [{"recipe": name, **m} for name, m in results.ranked if m.get("refit")]


def units(results: Results) -> list[Row]:
    """The recipes whose images are judged together as well, in the order of the leaderboard."""
    return [{"recipe": name, **m} for name, m in results.ranked if "unit_count" in m]


def most_wrong_units(results: Results, names: Mapping[str, str]) -> list[Row]:
    """The units that the best recipe gets most wrong, with the spread of their images' scores; right ones only where fewer
    are wrong than MOST_UNITS, those nearest to the threshold. An image on its own has its name in `names`, by image_id."""
    table = results.table(results.best_name, "scores")
    if UNIT not in table or "unit_score" not in results.best:
        return []
    of_image, known = numbered(table[UNIT].fillna(""), table["image_id"])
    scores = aggregated(of_image, table["score"].to_numpy(np.float64), str(results.best["unit_score"]))
    by_unit = table.groupby(of_image)
    found = pd.DataFrame(
        {
            "unit": [names.get(unit, unit) for unit in known],
            "score": scores,
            "label": by_unit["label"].max(),
            "images": by_unit.size(),
        }
    )
    found["low"], found["high"] = by_unit["score"].min(), by_unit["score"].max()
    threshold: Any = results.best["threshold"]
    found["called"] = (found["score"] >= threshold).astype(int)
    found["right"] = found["called"] == found["label"]
    error = (found["score"] - threshold) * (1 - 2 * found["label"])
    ordered = found.assign(error=error).sort_values(["error", "unit"], ascending=[False, True], kind="stable")
    return records(ordered.head(MOST_UNITS))


def ensembles(results: Results) -> list[Row]:
    """Each ensemble with how its members are joined, and a weight for each of them."""
    return [
        {"name": name, "stacking": m.get("stacking"), "members": [(r, m.get(f"weight_{r}")) for r in members_of(m)]}
        for name, m in results.ranked
        if members_of(m)
    ]


def members_of(metrics: Metrics) -> list[str]:
    """The recipes that an ensemble joins; empty for a recipe."""
    written = metrics.get("members")
    return written.split(", ") if isinstance(written, str) else []


def heaviest_member(metrics: Metrics) -> str:
    """The member of an ensemble that weighs most, the first of equals; empty for a recipe."""

    def weight(name: str) -> float:
        value = metrics.get(f"weight_{name}")
        return value if isinstance(value, float) else 0.0

    return max(members_of(metrics), key=weight, default="")


def by_unit(best: Metrics) -> str:
    """What a recipe is worth on units of images, where they are judged."""
    if best.get("unit_auc") is None:
        return ""
    ends = "" if best["unit_auc_low"] is None else f", {best['unit_auc_low']:.3f} to {best['unit_auc_high']:.3f}"
    return f", and by {best['unit']} at {best['unit_auc']:.3f} ({best['unit_count']} of them{ends})"
