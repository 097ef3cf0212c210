"""The page where images are judged together: its section, the order of the leaderboard, differences, the verdict."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from beyond_the_test_set import change, with_interval
from conftest import Tiny, Trained
from results_on_disk import page_of, results_of, write_results

from ffdi.evaluation.diff import changes
from ffdi.evaluation.page_data import most_wrong_units
from ffdi.evaluation.results import results_table
from ffdi.evaluation.verdict import caveats, verdict
from ffdi.intake.tables import write_table

NAMES = ["plain", "good"]
EVIL = "<b>003"


@pytest.fixture
def metrics(tmp_path: Path, tiny: Tiny, trained: Trained) -> Path:
    return write_results(tmp_path, tiny, trained, {"plain": True, "good": True})


def add_units(metrics: Path, name: str, validation: float) -> None:
    """Units of four images, one of the name 003 and one that a page must escape."""
    file = metrics / "plots" / name / "test" / "scores.csv"
    table = pd.read_csv(file).sort_values("image_id", ignore_index=True)
    cells = [["003", EVIL][n] if (n := row // 4) < 2 else f"v{n}" for row in range(len(table))]
    write_table(file, table.assign(unit=cells))
    figures = with_interval("unit_auc", 0.876, 0.81, 0.95) | with_interval("unit_accuracy", 0.75, 0.7, 0.8)
    counts = {"unit_count": 8, "unit_reals": 4, "unit_fakes": 4, "unit_mixed": 1, "unit_images_min": 2}
    more = {"unit_images_max": 4, "unit_images_median": 4.0, "unit_balanced_accuracy": 0.7, "unit_eer": 0.2}
    of_folds = {"unit_val_auc_mean": validation, "unit_val_auc_std": None}
    rate = with_interval("unit_fpr", 0.1, 0.0, 0.2)
    change(metrics, name, unit="video", unit_score="mean", **figures, **counts, **more, **of_folds, **rate)


def section(page: str, name: str) -> str:
    found = re.search(rf'<h2 id="{name}">(.*?)(?=<h2 |</main>)', page, re.S)
    assert found, name
    return found[1]


def test_without_units_the_page_says_how_to_have_them(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, NAMES)
    assert "evaluate.unit" in section(page, "units") and "By unit</h3>" not in page
    results = results_of(metrics, NAMES)
    assert results.unit == "" and most_wrong_units(results, {}) == [] and "by video" not in results_table(results)


def test_units_have_a_section_and_rank_the_leaderboard(metrics: Path, tiny: Tiny) -> None:
    best = results_of(metrics, NAMES).best_name
    other = next(name for name in NAMES if name != best)
    add_units(metrics, best, 0.6)
    half = results_of(metrics, NAMES)
    assert half.unit == "" and half.best_name == best  # one recipe has none: it would rank nothing
    add_units(metrics, other, 0.7)
    results = results_of(metrics, NAMES)
    assert results.unit == "video" and results.best_name == other
    page = page_of(metrics, tiny, NAMES)
    shown = section(page, "units")
    assert "0.876" in shown and "0.810 – 0.950" in shown and "1 of them have real and fake images" in shown
    assert "&lt;b&gt;003" in shown and EVIL not in shown
    assert "in the order of the validation AUC by video" in shown
    assert "by video at 0.876 (8 of them, 0.810 to 0.950)" in verdict(results)
    assert "| by video [95 %] |" in results_table(results) and "0.876 [0.810, 0.950] |" in results_table(results)


def test_the_worst_unit_comes_first_with_the_scores_of_its_images(metrics: Path) -> None:
    for name in NAMES:
        add_units(metrics, name, 0.7)
    results = results_of(metrics, NAMES)
    rows = most_wrong_units(results, {})
    table = results.table(results.best_name, "scores")
    assert {row["unit"] for row in rows} == set(table["unit"]) and {"003", EVIL} <= set(table["unit"])  # no number 3
    photo = most_wrong_units(results, {rows[0]["unit"]: "photo.jpg"})  # an image on its own is not called by its hash
    assert [row["unit"] for row in photo] == ["photo.jpg", *(row["unit"] for row in rows[1:])]
    threshold = results.best["threshold"]
    wrongness = [(row["score"] - threshold) * (1 - 2 * row["label"]) for row in rows]
    assert wrongness == sorted(wrongness, reverse=True)
    of_one = table[table["unit"] == rows[0]["unit"]]["score"]
    assert rows[0]["score"] == pytest.approx(of_one.mean())
    assert (rows[0]["low"], rows[0]["high"], rows[0]["images"]) == (of_one.min(), of_one.max(), len(of_one))


def test_differences_of_units_are_shown_and_decide_who_is_equal(metrics: Path, tiny: Tiny) -> None:
    for name in NAMES:
        add_units(metrics, name, 0.7)
    file = metrics.parent / "data" / "comparisons.csv"
    pairs = pd.read_csv(file)
    better = pairs.assign(figure="unit_auc", difference=0.25, verdict="good is better")
    write_table(file, pd.concat([pairs, better]))
    page = page_of(metrics, tiny, NAMES)
    assert "<h3>By unit</h3>" in page and "On perturbed images" not in page
    assert not [line for line in caveats(results_of(metrics, NAMES)) if "No difference is shown" in line]


def test_diff_shows_units_in_a_section_of_their_own() -> None:
    old = {"a": {"auc": 0.8, "unit_auc": 0.8, "unit_auc_low": 0.75, "unit_auc_high": 0.85, "unit_brier": 0.1}}
    new = {"a": {"auc": 0.8, "unit_auc": 0.9, "unit_auc_low": 0.86, "unit_auc_high": 0.95, "unit_brier": 0.2}}
    found = [(c.section, c.figure, c.kind) for c in changes(old, new)]
    assert found == [("headline", "unit_auc", "beyond"), ("units", "unit_brier", "unbounded")]
