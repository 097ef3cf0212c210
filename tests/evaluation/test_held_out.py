"""Figures of held-out values on synthetic scores, whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError
from ffdi.evaluation import below_chance
from ffdi.evaluation.headline import OF_RECIPE, of_recipe
from ffdi.evaluation.held_out import COLUMNS, held_out_figures, held_out_line
from ffdi.metrics import auc

FOLDS = {0: "gan", 1: "swap", 2: "blend+paint"}
BOOTSTRAP = Bootstrap(300)
SHIFT = {"gan": 3.0, "swap": 0.0, "blend": 1.0, "paint": 1.0, "": 0.0}  # of the fakes' scores: how easy a value is


def images() -> pd.DataFrame:
    """Training images of three folds, 60 fakes of each fold's value and 60 reals, and a test set of all values."""
    rows = []
    for fold, name in FOLDS.items():
        for n in range(60):
            value = name.split("+")[n % (1 + name.count("+"))]
            rows += [("train", fold, name, -1, 0, ""), ("train", fold, name, -1, 1, value)]
            rows += [("train", fold, name, (fold + 1) % 3, 1, FOLDS[(fold + 1) % 3].split("+")[0])] * (n < 10)
    rows += [("test", -1, "", -1, 1, value) for value in ("gan", "swap", "blend", "paint", "new") for _ in range(8)]
    rows += [("test", -1, "", -1, 0, "")] * 29 + [("test", -1, "", -1, 0, "camera")]
    made = pd.DataFrame(rows, columns=["role", "fold", "held_out", "also_out", "label", "held_value"])
    return made.assign(image_id=[f"i{n:03d}" for n in range(len(made))], group=[f"g{n // 2}" for n in range(len(made))])


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """oof.csv: what validates, with scores that are better the easier a value is."""
    chosen = rows[(rows["role"] == "train") & (rows["also_out"] < 0)]
    noise = np.random.default_rng(0).normal(size=len(chosen))
    score = noise + chosen["held_value"].map(SHIFT).to_numpy()
    return chosen[["image_id", "fold", "label"]].assign(logit=score, score=1 / (1 + np.exp(-score)))


def test_each_value_the_mean_and_the_worst_are_those_of_their_fold() -> None:
    rows = images()
    oof, test = scored(rows), rows[rows["role"] == "test"]
    by_fold = {fold: np.random.default_rng(fold).random(len(test)) for fold in FOLDS}
    found = held_out_figures(oof, rows, by_fold, bootstrap=BOOTSTRAP)
    due = {name: auc(*oof.loc[oof["fold"] == fold, ["label", "score"]].to_numpy().T) for fold, name in FOLDS.items()}
    m = found.metrics
    assert {name: m[f"held_out_{name}_auc"] for name in due} == due
    assert [m[f"held_out_{key}"] for key in ("gan_reals", "gan_fakes", "blend+paint_fakes")] == [60, 60, 60]
    assert m["held_out_worst"] == "swap" and m["held_out_worst_auc"] == due["swap"]
    assert m["held_out_mean_auc"] == pytest.approx(np.mean(list(due.values())))
    for key, truth in (("gan", 0.983), ("swap", 0.5), ("blend+paint", 0.760), ("worst", 0.5), ("mean", 0.748)):
        low, middle, high = (m[f"held_out_{key}_auc{end}"] for end in ("_low", "", "_high"))
        assert low < middle < high and low <= truth <= high  # type: ignore[operator]
    assert "worst 0." in held_out_line(m)[0] and "(swap)" in held_out_line(m)[0]
    table = found.table
    assert list(table.columns) == COLUMNS and list(table["side"]) == ["validation"] * 3 + ["test"] * 12
    on_test = table[table["side"] == "test"]
    assert set(on_test["tested_on"]) == {"gan", "swap", "blend+paint", "new"}
    (one,) = on_test[(on_test["without"] == "swap") & (on_test["tested_on"] == "blend+paint")].to_dict("records")
    assert (one["reals"], one["fakes"]) == (30, 16)
    chosen = (test["label"] == 0) | test["held_value"].isin(["blend", "paint"])
    assert one["auc"] == auc(test["label"][chosen].to_numpy(), by_fold[1][chosen])


def test_the_headline_has_them_where_values_are_held_out_and_nothing_else_changes() -> None:
    plain = dict.fromkeys(OF_RECIPE, 0.5)
    rows = images()
    held = held_out_figures(scored(rows), rows, {}, bootstrap=BOOTSTRAP).metrics
    assert list(of_recipe({**plain, "brier": 0.1})) == list(OF_RECIPE)
    more = of_recipe({**plain, **held, "held_out_gan_auc_reason": "x"})
    assert {"held_out_worst", "held_out_mean_auc_low", "held_out_gan_auc"} <= set(more)
    assert not [key for key in more if key.endswith(("_reason", "_reals", "_fakes"))]


def test_nothing_is_held_out_without_the_method() -> None:
    rows = images()
    for oof, without in ((scored(rows), rows.drop(columns="held_out")), (None, rows)):
        found = held_out_figures(oof, without, {}, bootstrap=BOOTSTRAP)
        assert found.metrics == {} and list(found.table.columns) == COLUMNS and found.table.empty
    assert held_out_line({}) == []


def test_values_that_are_called_mean_and_worst_hide_nothing() -> None:
    rows = images().replace({"held_out": {"gan": "mean", "swap": "worst"}})
    m = held_out_figures(scored(rows), rows, {}, bootstrap=BOOTSTRAP).metrics
    assert m["held_out=worst_auc"] == m["held_out_worst_auc"] and m["held_out_worst"] == "worst"
    assert m["held_out=mean_auc"] != m["held_out_mean_auc"]


def test_a_recipe_of_some_folds_has_the_figures_of_these() -> None:
    rows = images()
    oof = scored(rows)
    m = held_out_figures(oof[oof["fold"] < 1], rows, {}, bootstrap=BOOTSTRAP).metrics
    assert m["held_out_mean_auc"] == m["held_out_gan_auc"] == m["held_out_worst_auc"]
    assert "held_out_swap_auc" not in m


def test_a_value_that_is_turned_round_is_below_chance() -> None:
    rows = images()
    oof = scored(rows)
    m = held_out_figures(oof.assign(score=1 - oof["score"]), rows, {}, bootstrap=BOOTSTRAP).metrics
    assert "held_out_gan_auc" in below_chance.keys_below(m)


def test_scores_of_other_folds_are_refused() -> None:
    rows = images()
    old = scored(rows).replace({"fold": {2: 5}})
    with pytest.raises(InputError, match=r"out-of-fold scores are of fold 5, which folds.csv has not: run train again"):
        held_out_figures(old, rows, {}, bootstrap=BOOTSTRAP)
