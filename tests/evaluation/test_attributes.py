"""Figures by attribute against hand-worked ones: which kinds of forgery are recognised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError
from ffdi.evaluation.attributes import COLUMNS, MOST_VALUES, attribute_metrics, by_attribute
from ffdi.intake.tables import CROP_COLUMNS
from ffdi.metrics import Metrics

SCORES = [0.1, 0.4, 0.7, 0.3, 0.6, 0.9, 0.8]
LABELS = [0, 0, 0, 1, 1, 1, 1]
MAKER = ["", "", "", "swap", "swap", "gan", ""]
LIGHT = ["day", "night", "", "day", "day", "night", ""]


def table_of(labels: Sequence[int] = LABELS, **attributes: Sequence[str]) -> pd.DataFrame:
    columns = {f"attr_{name}": values for name, values in attributes.items()}
    return pd.DataFrame({"label": labels, "group": [f"g{i}" for i in range(len(labels))]} | columns)


def split(
    test: pd.DataFrame, scores: Sequence[float] = SCORES, names: Sequence[str] | None = None
) -> tuple[pd.DataFrame, Metrics]:
    table = by_attribute(test, np.array(scores), threshold=0.5, bootstrap=Bootstrap(200), names=names)
    return table, attribute_metrics(test, table, names)


def row(table: pd.DataFrame, value: str) -> dict[str, Any]:
    (found,) = table[table["value"] == value].to_dict("records")
    return dict(found)


def test_a_value_with_fakes_alone_is_set_against_all_reals() -> None:
    table, metrics = split(table_of(maker=MAKER))
    assert list(table) == COLUMNS and table["value"].tolist() == ["gan", "swap"]  # empty values are left out
    swap, gan = row(table, "swap"), row(table, "gan")
    assert (swap["reals"], swap["fakes"], swap["against"]) == (0, 2, "all reals")
    # .3 beats .1 alone, .6 beats .1 and .4: 3 of 6. One of two is called fake: the recall.
    assert (swap["auc"], swap["accuracy"]) == (3 / 6, 1 / 2)
    assert (gan["fakes"], gan["auc"], gan["accuracy"]) == (1, 1.0, 1.0)
    assert swap["auc_low"] <= 0.5 <= swap["auc_high"] and 0 <= swap["accuracy_low"] < 0.5 < swap["accuracy_high"]
    assert np.isnan([gan["accuracy_low"], gan["accuracy_high"]]).all()  # of one image, and so of one group
    assert metrics["attr_maker_swap_auc"] == 0.5 and metrics["attr_maker_swap_fakes"] == 2
    assert metrics["attr_maker_gan_reals"] == 0 and "attr_maker__auc" not in metrics


def test_a_value_with_reals_alone_is_set_against_all_fakes() -> None:
    # The real .7 is below .9 and .8 of four fakes, and is called fake.
    found = row(split(table_of(camera=["", "", "old", "", "", "", ""]))[0], "old")
    assert (found["reals"], found["fakes"], found["against"]) == (1, 0, "all fakes")
    assert (found["auc"], found["accuracy"]) == (2 / 4, 0.0)


def test_a_value_with_both_classes_is_judged_by_itself() -> None:
    table, _ = split(table_of(light=LIGHT))
    day = row(table, "day")
    # Real .1 against fakes .3 and .6, both won; .1 and .6 are called right.
    assert (day["reals"], day["fakes"], day["against"]) == (1, 2, "")
    assert (day["auc"], day["accuracy"]) == (1.0, pytest.approx(2 / 3))
    assert day["auc_low"] == day["auc_high"] == 1.0


def test_attributes_stand_one_after_another() -> None:
    table, _ = split(table_of(maker=MAKER, light=LIGHT))
    assert list(zip(table["attribute"], table["value"])) == [
        ("maker", "gan"),
        ("maker", "swap"),
        ("light", "day"),
        ("light", "night"),
    ]


def test_many_values_are_not_split() -> None:
    labels, scores = [i % 2 for i in range(30)], [i / 30 for i in range(30)]
    many = [str(i % 13) for i in range(30)]
    some = [str(i % 12) for i in range(28)] + ["", ""]  # the empty one does not count
    table, metrics = split(table_of(labels, many=many, some=some), scores)
    assert MOST_VALUES == 12 and set(table["attribute"]) == {"some"} and len(table) == 12
    assert metrics["attr_many"] is None
    assert metrics["attr_many_reason"] == (
        "13 values: more than 12 are split only on the recipe's own test set, by evaluate.attributes"
    )
    assert "attr_some" not in metrics


def test_named_attributes_are_split_whole_and_others_not_at_all() -> None:
    labels, scores = [i % 2 for i in range(30)], [i / 30 for i in range(30)]
    test = table_of(labels, many=[str(i % 13) for i in range(30)], few=["a", "b"] * 15)
    table, metrics = split(test, scores, ["attr_many", "many"])
    assert set(table["attribute"]) == {"many"} and len(table) == 13
    assert isinstance(metrics["attr_many_12_auc"], float) and not [key for key in metrics if key.startswith("attr_few")]
    assert "attr_many" not in metrics and split(test, scores, [])[1] == {}
    with pytest.raises(
        InputError, match=r"evaluate\.attributes: the images have no attribute maker; they have few, many"
    ):
        split(test, scores, ["maker"])


def test_names_that_collide_are_told_apart() -> None:
    _, metrics = split(table_of(a=["b_c", *[""] * 6], a_b=["c", *[""] * 6]))
    assert "attr_a_b_c_auc" in metrics and "attr_a_b=c_auc" in metrics
    many = table_of([i % 2 for i in range(26)], a=["b"] * 26, a_b_auc=[str(i % 13) for i in range(26)])
    _, metrics = split(many, [i / 26 for i in range(26)])
    assert isinstance(metrics["attr_a_b_auc"], float)  # and not the null of the attribute that is not split


def test_without_attributes_there_is_nothing() -> None:
    table, metrics = split(table_of())
    assert table.empty and list(table) == COLUMNS and metrics == {}


def test_one_class_in_the_test_set_gives_nulls_with_reasons() -> None:
    _, metrics = split(table_of([1] * 7, maker=MAKER))
    nulls = {key for key, value in metrics.items() if value is None}
    due = {f"attr_maker_{v}_{f}" for v in ("gan", "swap") for f in ("auc", "auc_low", "auc_high")}
    assert nulls == due | {"attr_maker_gan_accuracy_low", "attr_maker_gan_accuracy_high"}  # gan is one group
    assert metrics["attr_maker_swap_auc_reason"] == "undefined: 0 reals and 2 fakes, or one group"
    assert metrics["attr_maker_swap_accuracy"] == 0.5


def test_an_interval_is_over_groups() -> None:
    """Forty fakes of one forger: as forty groups the recall varies between draws; one group tells nothing of it."""
    labels, scores = [0] * 5 + [1] * 40, [0.1] * 5 + [0.4, 0.9] * 20
    test = table_of(labels, maker=[""] * 5 + ["gan"] * 40)
    alone = row(split(test, scores)[0], "gan")
    assert alone["accuracy_low"] < alone["accuracy"] == 0.5 < alone["accuracy_high"]
    pairs = row(split(test.assign(group=[f"g{(i + 1) // 2}" for i in range(45)]), scores)[0], "gan")
    assert pairs["accuracy_low"] == pairs["accuracy_high"] == 0.5  # each group has one that is found, one that is not
    table, metrics = split(test.assign(group=[*"abcde", *"f" * 40]), scores)
    assert metrics["attr_maker_gan_accuracy"] == 0.5 and metrics["attr_maker_gan_accuracy_low"] is None
    assert metrics["attr_maker_gan_auc_low"] == 1 and np.isnan(row(table, "gan")["accuracy_low"])


def test_where_a_crop_is_from_splits_nothing_unless_it_is_named() -> None:
    places = {name: ["0"] * 7 for name in CROP_COLUMNS}
    table, metrics = split(table_of(maker=MAKER, **places))
    assert set(table["attribute"]) == {"maker"} and all(key.startswith("attr_maker_") for key in metrics)
    assert split(table_of(**places), names=["track"])[0]["value"].tolist() == ["0"]
    of_units = {name: cells for name, cells in places.items() if name != "video"}
    assert set(split(table_of(maker=MAKER, **of_units))[0]["attribute"]) == {"maker"}
    few = {"track": ["0"] * 7}  # an attribute of the user's own
    assert set(split(table_of(**few))[0]["attribute"]) == {"track"}
