"""Which recipe is better? Every two of them are compared on the same test images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ffdi.bootstrap import Array, Bootstrap, interval_around, mean_auc_of, resample
from ffdi.errors import InputError
from ffdi.evaluation.settings import UnitRule
from ffdi.evaluation.units import UNIT, Units
from ffdi.intake.table_files.names import found_table
from ffdi.intake.tables import read_table
from ffdi.metrics import Metrics, explain_nulls

NO_DIFFERENCE = "no difference shown"
COLUMNS = ["a", "b", "figure", "difference", "low", "high", "p", "p_corrected", "verdict"]
AUC, UNIT_AUC, ROBUST_AUC = "auc", "unit_auc", "robust_auc"  # the figures that recipes are compared by
Scores = Mapping[str, Array]  # by recipe: (N,), or (L, N) at the levels of a sweep
_SAID = {AUC: "AUC", UNIT_AUC: "AUC of units", ROBUST_AUC: "mean AUC over the levels"}


@dataclass(frozen=True)
class ScoredUnits:
    """The units of the test images, with labels and groups (U,), and the recipes' scores (U,) of them."""

    labels: Array
    groups: Array
    scores: Scores


def read_scores(plots: Path, recipes: Sequence[str], folds: pd.DataFrame) -> tuple[Array, Array, dict[str, Array]]:
    """(labels, groups, scores by recipe) of the test images, in the order of folds.csv.

    Raises InputError when a recipe was not evaluated on exactly these images.
    """
    scores: dict[str, Array] = {}
    labels: Array = np.empty(0)
    for name in recipes:
        rows = _test_scores(plots, name, folds)
        scores[name], labels = rows["score"].to_numpy(np.float64), rows["label"].to_numpy(np.int64)
    groups: Array = folds.loc[folds["role"] == "test", "group"].to_numpy(str)
    return labels, groups, scores


def read_units(plots: Path, scores: Scores, folds: pd.DataFrame, rule: UnitRule | None) -> ScoredUnits | None:
    """The units of the test images, whose `scores` are of read_scores; None where none is declared. Raises as read_scores,
    and where a recipe was evaluated without these units."""
    if rule is None or not scores:
        return None
    test, cells = folds[folds["role"] == "test"].reset_index(drop=True), {}
    for name in scores:
        rows = _test_scores(plots, name, folds, (UNIT,))
        cells[name] = rows[UNIT].to_numpy(str)
        if not np.array_equal(cells[name], next(iter(cells.values()))):
            raise InputError(f"{plots / name}: has other units than the recipes before it: run evaluate@{name} again")
    labels = rows["label"].to_numpy(np.int64)
    units = Units.of(test.assign(label=labels, **{rule.column: cells[name]}), rule)
    joined = {name: units.scores(of_images) for name, of_images in scores.items()}
    return ScoredUnits(units.table["label"].to_numpy(), units.table["group"].to_numpy(), joined)


def read_sweeps(plots: Path, recipes: Sequence[str], folds: pd.DataFrame) -> list[dict[str, Array]]:
    """The scores (L, N) at the levels of robustness.csv: those of recipes with the same levels together, in any order of
    the levels. Recipes without a sweep are left out. Raises as read_scores."""
    together: dict[tuple[str, ...], dict[str, Array]] = {}
    for name in recipes:
        file = plots / name / "test" / "robustness.csv"
        levels = tuple(sorted(pd.read_csv(file, dtype=str)["level"])) if file.exists() else ()  # it may have no rows
        if levels:
            rows = _test_scores(plots, name, folds, levels)
            together.setdefault(levels, {})[name] = rows[list(levels)].to_numpy(np.float64).T
    return list(together.values())


def _test_scores(plots: Path, name: str, folds: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """The scores of a recipe, in the order of the test images of folds.csv."""
    file, test = found_table(plots / name / "test" / "scores"), folds[folds["role"] == "test"]
    table = read_table(file, ("image_id", "label", "score", *columns)).set_index("image_id")
    if set(table.index) != set(test["image_id"]):
        raise InputError(f"{file}: is not of the test images of folds.csv: run evaluate@{name} again")
    rows: pd.DataFrame = table.loc[test["image_id"]]
    return rows


def compare(
    labels: Array,
    groups: Array,
    scores: Scores,
    *,
    bootstrap: Bootstrap,
    units: ScoredUnits | None = None,
    sweeps: Sequence[Scores] = (),
    level: float = 0.05,
) -> pd.DataFrame:
    """A row (COLUMNS) for every two recipes of `scores`, each (N,) P(fake) of the same images in the same order, and for
    every two of each of the `sweeps`, of which it is the mean AUC over the levels that is compared; and for every two on the
    `units` of the images.

    `difference` is AUC of a minus AUC of b, `low` and `high` its 95 % interval: a paired bootstrap over groups, in which
    both get the same draws. `p` is the two-sided p-value of Student's t: the difference over its bootstrap standard
    error, with one degree of freedom less than there are groups, because few groups are little evidence even if they
    agree. `p_corrected` is corrected for the number of pairs of a figure (Holm, Scand. J. Statist. 1979), and the verdict
    names the better recipe when it is below `level`. NaN when a class is missing, or when there is one group.
    """
    rows = _differences(labels, groups, scores, AUC, bootstrap)
    if units is not None:
        rows += _differences(units.labels, units.groups, units.scores, UNIT_AUC, bootstrap)
    for sweep in sweeps:
        rows += _differences(labels, groups, sweep, ROBUST_AUC, bootstrap)
    table: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS[:7])
    table["p_corrected"] = 0.0
    for figure in _SAID:
        own = table["figure"] == figure
        table.loc[own, "p_corrected"] = holm(table.loc[own, "p"].to_numpy(np.float64))
    better = np.where(table["difference"] > 0, table["a"], table["b"])
    significant = table["p_corrected"] < level
    table["verdict"] = [
        f"{name} is better" if is_significant else NO_DIFFERENCE
        for name, is_significant in zip(better, significant, strict=True)
    ]
    return table


def _differences(labels: Array, groups: Array, scores: Scores, figure: str, bootstrap: Bootstrap) -> list[list[Any]]:
    """COLUMNS up to `p` of every two recipes."""
    statistics = {name: mean_auc_of(labels, of_recipe) for name, of_recipe in scores.items()}
    drawn = resample(groups, statistics, bootstrap=bootstrap)
    every_row_once = np.ones((1, len(labels)))
    aucs = {name: float(statistic(every_row_once)[0]) for name, statistic in statistics.items()}
    count, rows = len(np.unique(groups)), []
    for a, b in itertools.combinations(scores, 2):
        draws, difference = drawn[a] - drawn[b], aucs[a] - aucs[b]
        interval = interval_around(difference, draws, within=(-1.0, 1.0))
        rows.append([a, b, figure, difference, *interval, _p_value(difference, draws, count)])
    return rows


def _p_value(difference: float, draws: Array, groups: int) -> float:
    """The bootstrap underestimates the variance by (n - 1) / n. If the variance is 0, fall back to a sign test."""
    from scipy.stats import t

    draws = draws[np.isfinite(draws)]
    if not len(draws) or difference == 0:
        return float("nan") if not len(draws) else 1.0
    error = float(np.std(draws)) * (groups / (groups - 1)) ** 0.5
    return float(2 * t.sf(abs(difference) / error, groups - 1)) if error > 1e-12 else 2 * 0.5**groups


def holm(p: Array) -> Array:
    """Holm's correction of (N,) p-values: the k-th smallest times N - k + 1, at least the one before it, at most 1."""
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(corrected, 1.0)
    return out


def comparison_lines(table: pd.DataFrame) -> list[str]:
    """A line for each pair: the difference with its interval, and the verdict."""
    lines = []
    for pair in table.to_dict("records"):
        verdict = pair["verdict"]
        if verdict != NO_DIFFERENCE:
            verdict += f", p {pair['p_corrected']:.3f} corrected"
        interval = f"[{pair['low']:+.3f}, {pair['high']:+.3f}]"
        lines.append(
            f"{pair['a']}, {pair['b']}: {_SAID[pair['figure']]} {pair['difference']:+.3f} {interval}: {verdict}"
        )
    return lines


def comparison_metrics(table: pd.DataFrame) -> Metrics:
    """metrics/details/summary.json: for each pair `A_minus_B_auc`, `A_minus_B_unit_auc` where units are declared, and
    `A_minus_B_robust_auc` where both were swept over the same levels, with its interval, `_p_corrected` and `_verdict`."""
    out: Metrics = {"pairs": int((table["figure"] == AUC).sum())}
    for row in table.to_dict("records"):
        key = f"{row['a']}_minus_{row['b']}_{row['figure']}"
        figures = {key: row["difference"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
        out |= explain_nulls(
            figures | {f"{key}_p_corrected": row["p_corrected"]}, "one class, or one group, in the test set"
        )
        out[f"{key}_verdict"] = row["verdict"]
    return out
