"""Inverted labels are reported, right ones are not."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from probe_cases import uniform

from ffdi.bootstrap import Bootstrap
from ffdi.intake.auditing import classifier
from ffdi.intake.auditing import inverted_labels as inverted_module
from ffdi.intake.auditing.inverted_labels import inverted_labels, inverted_sides
from ffdi.intake.auditing.probe_inputs import ProbeInputs, ProbeSample
from ffdi.intake.tables import sides


def two_splits(strength: float, turned: bool, *, seed: int = 0, count: int = 160) -> tuple[pd.DataFrame, ProbeInputs]:
    """A quantisation table of its own for this share of the fakes; three in eight images are given as test."""
    rows, inputs = uniform(count)
    rng = np.random.default_rng(seed)
    test = np.arange(count) % 8 < 3
    label = rng.integers(0, 2, count)
    marked = (label == 1) & (rng.random(count) < strength)
    facts = inputs.facts.assign(tables=np.where(marked, "cd", "ab"), bytes=rng.integers(4000, 6000, count))
    thumbnails = rng.integers(0, 256, (count, 192), dtype=np.uint8)
    rows = rows.assign(label=np.where(test & turned, 1 - label, label), given_split=np.where(test, "test", "train"))
    return rows, ProbeInputs(facts, thumbnails, inputs.sketches)


def inverted(rows: pd.DataFrame, inputs: ProbeInputs, embeddings: Any = None) -> str:
    return inverted_labels(ProbeSample.take(rows, inputs, embeddings), Bootstrap(200))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_labels_turned_round_are_seen(strength: float, seed: int) -> None:
    rows, inputs = two_splits(strength, True, seed=seed)
    says = inverted(rows, inputs)
    assert says.startswith("file facts tells fake at AUC 0.") or says.startswith("file facts tells fake at AUC 1.")
    within, across = (float(word) for word in says.replace(",", "").split() if word[0] in "01")
    assert within > 0.7 and across < 0.3 and says.endswith(" from train to test")
    # The other split turned round is the same to see.
    other = rows["given_split"].map({"test": "train", "train": "test"})
    assert inverted(rows.assign(given_split=other), inputs) != ""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_right_labels_are_left_alone(strength: float, seed: int) -> None:
    assert inverted(*two_splits(strength, False, seed=seed)) == ""


def on_sides(rows: pd.DataFrame, turned: str = "") -> pd.DataFrame:
    """Drawn: three eighths are test, the rest are three folds; the labels of one side are turned round."""
    test, number = rows["given_split"] == "test", np.arange(len(rows))
    drawn = rows.assign(role=np.where(test, "test", "train"), fold=np.where(test, -1, number % 3), given_split="")
    return drawn.assign(label=np.where(sides(drawn) == turned, 1 - rows["label"], rows["label"]))


def turned_sides(rows: pd.DataFrame, inputs: ProbeInputs) -> list[str]:
    return inverted_sides(ProbeSample.take(rows, inputs), Bootstrap(200))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("turned", ["test", "fold 1"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_a_side_that_is_turned_round_is_named(strength: float, turned: str, seed: int) -> None:
    rows, inputs = two_splits(strength, False, seed=seed, count=400)
    assert inverted(on_sides(rows, turned), inputs) == ""  # no split is given
    (says,) = turned_sides(on_sides(rows, turned), inputs)
    assert says.startswith("file facts tells fake at AUC ") and says.endswith(f" from there to {turned}")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_sides_of_right_labels_are_left_alone(strength: float, seed: int) -> None:
    rows, inputs = two_splits(strength, False, seed=seed)
    assert turned_sides(on_sides(rows), inputs) == []


def test_where_labels_are_right_a_side_costs_one_fit_for_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, inputs = two_splits(1.0, False)
    fits, make = [], classifier.linear_classifier
    monkeypatch.setattr(inverted_module, "linear_classifier", lambda: fits.append(1) or make())
    monkeypatch.setattr(inverted_module, "cross_validated_scores", None)  # to look closely is an error now
    bright = ProbeInputs(
        inputs.facts,
        inputs.thumbnails // 2 + 99 * on_sides(rows)["label"].to_numpy(np.uint8)[:, None],
        inputs.sketches,
    )
    assert turned_sides(on_sides(rows), bright) == [] and len(fits) == 2 * 4


def test_a_side_of_one_class_turns_nothing_round() -> None:
    rows, inputs = two_splits(1.0, False)
    turned = on_sides(rows, "fold 1")
    assert turned_sides(turned, inputs) != []
    assert turned_sides(turned.assign(label=np.where(sides(turned) == "fold 1", 1, turned["label"])), inputs) == []


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_noise_turns_nothing_round(seed: int, turned: bool) -> None:
    rows, inputs = two_splits(0.0, turned, seed=seed)
    embeddings = np.random.default_rng(seed).normal(size=(len(rows), 16))
    assert inverted(rows, inputs, embeddings=embeddings) == ""


def test_the_best_evidence_speaks() -> None:
    rows, inputs = two_splits(0.0, True)
    right = np.where(rows["given_split"] == "test", 1 - rows["label"], rows["label"])
    assert inverted(rows, inputs) == ""
    embeddings = right[:, None] + np.random.default_rng(0).normal(0, 0.3, (len(rows), 8))
    assert inverted(rows, inputs, embeddings=embeddings).startswith("embedding tells fake at AUC ")
    thumbnails = np.where(right[:, None] == 1, inputs.thumbnails // 2, inputs.thumbnails).astype(np.uint8)
    dark = ProbeInputs(inputs.facts, thumbnails, inputs.sketches)
    assert inverted(rows, dark).startswith("thumbnail tells fake at AUC ")
    # Where one kind of evidence is turned round and the better one is not, labels are right.
    same = rows["label"].to_numpy()[:, None] + np.random.default_rng(1).normal(0, 0.01, (len(rows), 8))
    weak, marked = two_splits(0.4, True)
    assert inverted(weak, marked) != "" and inverted(weak, marked, embeddings=same) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"given_split": ""},
        {"given_split": "train"},
        {"given_split": "test"},
        {"label": 0},
        {"label": 1},
    ],
)
def test_without_two_splits_of_two_classes_nothing_is_said(change: dict[str, Any]) -> None:
    rows, inputs = two_splits(1.0, True)
    assert inverted(rows, inputs) != ""
    assert inverted(rows.assign(**change), inputs) == ""


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_split_of_one_class_turns_nothing_round(side: str) -> None:
    rows, inputs = two_splits(1.0, True)
    label = np.where(rows["given_split"] == side, 1, rows["label"])
    assert inverted(rows.assign(label=label), inputs) == ""


def test_images_of_no_given_split_are_no_evidence() -> None:
    rows, inputs = two_splits(1.0, True)
    due = inverted(rows, inputs)
    extra, more = two_splits(1.0, False, seed=9)
    both = pd.concat([rows, extra.assign(given_split="")], ignore_index=True)
    facts = pd.concat([inputs.facts, more.facts], ignore_index=True)
    stacked = ProbeInputs(
        facts,
        np.concatenate([inputs.thumbnails, more.thumbnails]),
        np.concatenate([inputs.sketches, more.sketches]),
    )
    assert inverted(both, stacked) == due != ""


def test_train_with_one_group_of_a_class_says_nothing() -> None:
    rows, inputs = two_splits(1.0, True)
    group = np.where((rows["label"] == 1) & (rows["given_split"] == "train"), "one person", rows["group"])
    assert inverted(rows.assign(group=group), inputs) == ""
