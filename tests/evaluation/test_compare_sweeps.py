"""Recipes that were swept over the same perturbations are compared by their mean AUC over these, in pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError
from ffdi.evaluation.compare import NO_DIFFERENCE, compare, comparison_lines, comparison_metrics, read_sweeps
from ffdi.intake.tables import write_table
from ffdi.metrics import auc

LABELS = np.arange(160) % 2
GROUPS = (np.arange(160) // 2).astype(str)


def swept(seed: int, *signals: float) -> Any:
    """(L, N) scores: noise and so many sigma between real and fake at each level."""
    rng = np.random.default_rng(seed)
    return np.array([rng.normal(size=160) + apart * LABELS for apart in signals])


def test_a_planted_gain_at_the_levels_is_found_where_the_clean_images_show_none() -> None:
    clean = {"plain": swept(0, 1.5)[0]}
    clean["hardened"] = clean["plain"] + np.random.default_rng(9).normal(0, 0.01, 160)
    sweep = {"plain": swept(1, 1.0, 0.0), "hardened": swept(2, 1.6, 1.6)}
    table = compare(LABELS, GROUPS, clean, sweeps=[sweep], bootstrap=Bootstrap(800))
    assert table[["a", "b", "figure"]].to_numpy().tolist() == [
        ["plain", "hardened", "auc"],
        ["plain", "hardened", "robust_auc"],
    ]
    assert table["verdict"].tolist() == [NO_DIFFERENCE, "hardened is better"]
    due = np.mean([auc(LABELS, one) for one in sweep["plain"]]) - np.mean(
        [auc(LABELS, one) for one in sweep["hardened"]]
    )
    (gain,) = table.loc[table["figure"] == "robust_auc"].to_dict("records")
    assert gain["difference"] == pytest.approx(due) and gain["low"] < due < gain["high"] < 0
    metrics = comparison_metrics(table)
    assert metrics["pairs"] == 1 and metrics["plain_minus_hardened_robust_auc"] == pytest.approx(due)
    assert metrics["plain_minus_hardened_robust_auc_high"] == gain["high"]
    assert "plain, hardened: mean AUC over the levels -0." in comparison_lines(table)[1]


def test_the_draws_of_a_sweep_are_paired() -> None:
    plain = swept(1, 1.0, 0.5)
    near = plain + np.random.default_rng(3).normal(0, 0.02, plain.shape)
    table = compare(LABELS, GROUPS, {}, sweeps=[{"a": plain, "near": near, "far": -near}], bootstrap=Bootstrap(300))
    widths = (table["high"] - table["low"]).tolist()
    assert widths[0] < widths[1] / 10


def test_holm_counts_the_pairs_of_one_figure() -> None:
    scores = {"a": swept(0, 0.4)[0], "b": swept(1, 0.9)[0]}
    alone = compare(LABELS, GROUPS, scores, bootstrap=Bootstrap(300))
    sweeps: list[dict[str, Any]] = [{"a": swept(2, 0.4), "b": swept(3, 0.9)}, {"c": swept(4, 0.4), "d": swept(5, 0.9)}]
    both = compare(LABELS, GROUPS, scores, sweeps=sweeps, bootstrap=Bootstrap(300))
    assert both.iloc[0].tolist() == alone.iloc[0].tolist()
    p, corrected = (sorted(both.loc[both["figure"] == "robust_auc", key]) for key in ("p", "p_corrected"))
    assert corrected == pytest.approx([2 * p[0], max(2 * p[0], p[1])])


@pytest.fixture
def plots(tmp_path: Path) -> pd.DataFrame:
    """folds.csv's table, and the tables of three recipes: two swept over the same levels, in another order, one not."""
    ids = [f"{i:064x}" for i in range(160)]
    for number, (name, levels) in enumerate({"a": ["mix-3", "jpeg-50"], "b": ["jpeg-50", "mix-3"], "c": []}.items()):
        rows = pd.DataFrame({"image_id": ids, "label": LABELS, "score": swept(number, 1.0)[0]})
        for level in levels:
            rows[level] = float(len(level)) + number
        write_table(tmp_path / f"plots/{name}/test/scores.csv", rows.sample(frac=1, random_state=number))
        write_table(tmp_path / f"plots/{name}/test/robustness.csv", pd.DataFrame({"level": levels}))
    return pd.DataFrame({"image_id": ids, "group": GROUPS, "role": "test"})


def test_recipes_with_the_same_levels_are_read_together(plots: pd.DataFrame, tmp_path: Path) -> None:
    (together,) = read_sweeps(tmp_path / "plots", ["a", "b", "c", "never-evaluated"], plots)
    assert {name: (of.shape, of[:, 0].tolist()) for name, of in together.items()} == {
        "a": ((2, 160), [7.0, 5.0]),  # jpeg-50, mix-3
        "b": ((2, 160), [8.0, 6.0]),
    }


def test_recipes_with_other_levels_are_not_compared(plots: pd.DataFrame, tmp_path: Path) -> None:
    write_table(tmp_path / "plots/b/test/robustness.csv", pd.DataFrame({"level": ["jpeg-50"]}))
    sweeps = read_sweeps(tmp_path / "plots", ["a", "b"], plots)
    assert [list(sweep) for sweep in sweeps] == [["a"], ["b"]]
    assert compare(LABELS, GROUPS, {}, sweeps=sweeps, bootstrap=Bootstrap(100)).empty


def test_a_sweep_of_other_images_is_refused(plots: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run evaluate@a again"):
        read_sweeps(tmp_path / "plots", ["a"], plots.iloc[1:])
