"""Which recipe is better: reported only if the same test images show it, for any number of pairs."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError
from ffdi.evaluation.compare import COLUMNS, NO_DIFFERENCE, compare, comparison_metrics, holm, read_scores
from ffdi.files import write_json
from ffdi.intake.tables import write_table
from ffdi.metrics import auc

STAGE = Path(__file__).parents[2] / "stages" / "compare.py"
Array = np.ndarray[Any, Any]


def scored(images: int = 120, **signal: float) -> tuple[Array, Array, dict[str, Array]]:
    """Labels, groups of two images and each recipe's scores: noise and so many sigma between real and fake."""
    labels, rng = np.arange(images) % 2, np.random.default_rng(0)
    scores = {name: rng.normal(size=images) + apart * labels for name, apart in signal.items()}
    return labels, (np.arange(images) // 2).astype(str), scores


def test_holm_by_hand() -> None:
    # Sorted .01, .03, .04 times 3, 2, 1 is .03, .06, .04; none may fall below the one before it.
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.4])).tolist() == [0.8, 0.8]  # .4 x 2, and then .5 x 1 may not be less
    assert holm(np.array([0.9, 0.7])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []


def test_the_difference_and_p_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of a - b: 2 at -1, one at 0, 17 at 1: variance 19/20 - (15/20)^2 = .3875, and 4/3 of it for 4 groups.

    t = .25 / sqrt(.5167) = .3478; of t with 3 degrees of freedom .751 lies farther out.
    """
    drawn = {"a": np.array([-1.0, -1, 0, *[1] * 17]), "b": np.zeros(20)}
    monkeypatch.setattr("ffdi.evaluation.compare.resample", lambda *rest, **options: drawn)
    labels = np.array([1, 1, 0, 0])
    scores = {"a": np.array([0.9, 0.8, 0.2, 0.1]), "b": np.array([0.9, 0.1, 0.8, 0.0])}  # AUC 1 and 3/4
    (row,) = compare(labels, np.arange(4), scores, bootstrap=Bootstrap(20)).to_dict("records")
    assert (row["a"], row["b"], row["difference"]) == ("a", "b", 0.25)
    assert (row["low"], row["high"]) == (-1, 0.5)  # -1 and 1, moved from their mean, .75, to .25, and no less than -1
    assert row["p"] == row["p_corrected"] == pytest.approx(0.751, abs=1e-3)


def test_a_recipe_does_not_differ_from_itself() -> None:
    labels, groups, scores = scored(x=1.0)
    (row,) = compare(labels, groups, scores | {"y": scores["x"]}, bootstrap=Bootstrap(200)).to_dict("records")
    assert [row[name] for name in COLUMNS] == ["x", "y", "auc", 0, 0, 0, 1, 1, NO_DIFFERENCE]


def test_the_better_one_is_named_in_either_order() -> None:
    labels, groups, scores = scored(bad=0.2, good=2.0)
    one, other = (
        compare(labels, groups, {name: scores[name] for name in names}, bootstrap=Bootstrap(500)).iloc[0]
        for names in (("bad", "good"), ("good", "bad"))
    )
    assert one["verdict"] == other["verdict"] == "good is better"
    assert one["low"] < one["difference"] < one["high"] < 0 < other["low"] < other["difference"] < other["high"]
    assert one["difference"] == -other["difference"] and one["p"] == other["p"] < 1e-6


def test_the_draws_are_paired() -> None:
    """Nearly the same scores: the interval of the difference is far narrower than those of the two alone."""
    labels, groups, scores = scored(x=1.0)
    near = scores["x"] + np.random.default_rng(1).normal(0, 0.02, len(labels))
    table = compare(labels, groups, scores | {"near": near, "far": -near}, bootstrap=Bootstrap(300))
    widths = (table["high"] - table["low"]).tolist()
    assert widths[0] < widths[1] / 10


def test_what_is_shown_alone_is_no_longer_shown_among_many() -> None:
    labels, groups, scores = scored(a=0.3, b=0.8)
    alone = compare(labels, groups, scores, bootstrap=Bootstrap(2000)).iloc[0]
    assert alone["verdict"] == "b is better" and 0.005 < alone["p_corrected"] == alone["p"] < 0.05
    # Six more that are alike: 28 pairs, of which this one is no more the sole question.
    _, _, more = scored(**{f"c{i}": 0.6 for i in range(6)})
    among = compare(labels, groups, scores | more, bootstrap=Bootstrap(2000))
    same = among[(among["a"] == "a") & (among["b"] == "b")].iloc[0]
    assert len(among) == 28 and same["p"] == pytest.approx(alone["p"], abs=0.02)
    assert same["verdict"] == NO_DIFFERENCE and same["p_corrected"] > 0.05


def test_few_groups_show_little() -> None:
    """Two groups that agree by chance, and all draws with them: one degree of freedom does not take that for proof."""
    rng = np.random.default_rng(5)
    labels, groups = np.arange(20) % 2, (np.arange(20) // 10).astype(str)
    scores = {name: rng.normal(size=20) for name in "ab"}
    by_group = [
        auc(labels[own], scores["a"][own]) - auc(labels[own], scores["b"][own])
        for own in (groups == "0", groups == "1")
    ]
    assert np.sign(by_group[0]) == np.sign(by_group[1]) != 0
    assert compare(labels, groups, scores, bootstrap=Bootstrap(500))["verdict"].tolist() == [NO_DIFFERENCE]


def test_groups_that_agree_to_the_last_bit_are_a_sign_test() -> None:
    """Five copies of one group: no draw differs, and five equal signs have p = 2 / 2^5."""
    labels, groups = np.tile([1, 1, 0, 0], 5), np.repeat(np.arange(5), 4)
    scores = {"a": np.tile([0.9, 0.8, 0.2, 0.1], 5), "b": np.tile([0.9, 0.1, 0.8, 0.0], 5)}
    assert compare(labels, groups, scores, bootstrap=Bootstrap(100))["p"].tolist() == [2 / 2**5]


def test_one_class_gives_nulls_with_reasons(tmp_path: Path) -> None:
    _, groups, scores = scored(a=0.0, b=1.0, c=1.0)
    table = compare(np.ones(len(groups), int), groups, scores, bootstrap=Bootstrap(100))
    assert table["difference"].isna().all() and (table["verdict"] == NO_DIFFERENCE).all()
    metrics = comparison_metrics(table)
    write_json(tmp_path / "summary.json", metrics)  # refuses NaN
    nulls = [key for key, value in metrics.items() if value is None]
    assert len(nulls) == 3 * 4 and all(metrics[f"{key}_reason"] for key in nulls)


def test_one_group_shows_no_difference(tmp_path: Path) -> None:
    labels, groups, scores = scored(bad=0.0, good=3.0)
    table = compare(labels, np.full(len(groups), "g"), scores, bootstrap=Bootstrap(100))
    assert table["verdict"].tolist() == [NO_DIFFERENCE] and table["difference"].item() < -0.3
    write_json(tmp_path / "summary.json", comparison_metrics(table))


def test_the_metrics_are_the_tables_figures() -> None:
    table = pd.DataFrame([["x", "y", "auc", 0.25, 0.125, 0.5, 0.01, 0.02, "x is better"]], columns=COLUMNS)
    assert comparison_metrics(table) == {
        "pairs": 1,
        "x_minus_y_auc": 0.25,
        "x_minus_y_auc_low": 0.125,
        "x_minus_y_auc_high": 0.5,
        "x_minus_y_auc_p_corrected": 0.02,
        "x_minus_y_auc_verdict": "x is better",
    }


@pytest.fixture
def folds(tmp_path: Path) -> pd.DataFrame:
    """folds.csv in tmp_path, of 40 test images and a training image, and scores.csv of two recipes, in other orders."""
    ids = [f"{i:064x}" for i in range(41)]
    groups = [f"g{i // 2}" for i in range(41)]
    table = pd.DataFrame({"image_id": ids, "group": groups, "cluster": ids, "role": ["test"] * 40 + ["train"]})
    table["fold"] = [-1] * 40 + [0]
    write_table(tmp_path / "folds.csv", table)
    labels, _, scores = scored(40, late_cut=0.0, mobilenet_v2=3.0)
    for number, (name, own) in enumerate(scores.items()):
        rows = pd.DataFrame({"image_id": ids[:40], "label": labels, "score": own})
        write_table(tmp_path / f"plots/{name}/test/scores.csv", rows.sample(frac=1, random_state=number))
    return table


def test_scores_are_read_in_the_order_of_folds(folds: pd.DataFrame, tmp_path: Path) -> None:
    labels, groups, scores = read_scores(tmp_path / "plots", ["mobilenet_v2", "late_cut"], folds)
    due_labels, due_groups, due = scored(40, late_cut=0.0, mobilenet_v2=3.0)
    assert labels.tolist() == due_labels.tolist() and groups.tolist() == [f"g{name}" for name in due_groups]
    assert list(scores) == ["mobilenet_v2", "late_cut"]
    assert all(scores[name] == pytest.approx(due[name], rel=1e-12) for name in due)


@pytest.mark.parametrize("change", [lambda t: t.iloc[1:], lambda t: t.assign(role="test")])
def test_scores_of_other_images_are_refused(change: Any, folds: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"late_cut/test/scores\.csv: .* run evaluate@late_cut again"):
        read_scores(tmp_path / "plots", ["late_cut"], change(folds))


def run(folder: Path, *recipes: str) -> Result:
    """Stage compare on the committed params with some of its recipes."""
    backbone = '{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}'
    params = (
        "data: {root: x}\nbackbones: {b: %s}\nrecipes: {%s}\nsplit: {embedding: b}\nladder: {recipe: %s, backbone: b}"
    )
    own = ", ".join(f"{name}: {{backbone: b}}" for name in recipes)
    (folder / "params.yaml").write_text(params % (backbone, own, recipes[0]) + "\nevaluate: {bootstrap: 200}\n")
    paths = {"params": "params.yaml", "folds": "folds.csv", "plots": "plots", "out": "out.json", "table": "table.csv"}
    arguments = [part for option, name in paths.items() for part in (f"--{option}", str(folder / name))]
    return CliRunner().invoke(runpy.run_path(str(STAGE))["main"], arguments)


def test_the_stage_writes_both_files_and_says_each_pair(folds: pd.DataFrame, tmp_path: Path) -> None:
    result = run(tmp_path, "late_cut", "mobilenet_v2")
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("compare late_cut, mobilenet_v2: AUC -0.") and "mobilenet_v2 is better, p 0.0" in line
    metrics = json.loads((tmp_path / "details" / "out.json").read_text())
    key = "late_cut_minus_mobilenet_v2_auc"
    assert json.loads((tmp_path / "out.json").read_text()) == {key: metrics[key]}
    assert metrics["pairs"] == 1 and metrics["late_cut_minus_mobilenet_v2_auc_high"] < 0
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(table) == COLUMNS and table["verdict"].tolist() == ["mobilenet_v2 is better"]
    first = (tmp_path / "details" / "out.json").read_bytes()
    run(tmp_path, "late_cut", "mobilenet_v2")
    assert (tmp_path / "details" / "out.json").read_bytes() == first


def test_one_recipe_alone_has_no_pairs(folds: pd.DataFrame, tmp_path: Path) -> None:
    result = run(tmp_path, "late_cut")
    assert result.exit_code == 0 and not result.stderr, result.output
    assert json.loads((tmp_path / "details" / "out.json").read_text()) == {"pairs": 0}
    assert json.loads((tmp_path / "out.json").read_text()) == {}
    assert (tmp_path / "table.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_a_recipe_that_was_not_evaluated_is_one_line(folds: pd.DataFrame, tmp_path: Path) -> None:
    result = run(tmp_path, "late_cut", "other")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert "plots/other/test/scores.csv: no such file" in result.stderr
