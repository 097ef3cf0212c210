"""Recipes with each kind of head and norm, from shards to scores of files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained, tiny_recipe
from small_training import contents, tiny_inputs

from ffdi.bootstrap import Bootstrap
from ffdi.errors import FfdiError
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.evaluation.explain import grad_cam
from ffdi.features.store import FeatureStore
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import load_bundle
from ffdi.tails.feature_source import InMemory
from ffdi.tails.predict import predict_files
from ffdi.tails.recipe import Head, Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe

CPU = torch.device("cpu")
SMALL = {"heads": 2, "width": 8, "depth": 1}
PROBE = Head("probe", norm="standardise", sweep=4)
RECIPES = {
    "linear": tiny_recipe(epochs=2, head=Head("linear", (), norm="standardise")),
    "mlp": tiny_recipe(epochs=2, head=Head("mlp", (8,), norm="l2")),
    "transformer": tiny_recipe(epochs=2, head=Head("transformer", (), **SMALL, norm="standardise")),
    "attentive": tiny_recipe(epochs=2, head=Head("attentive", **SMALL), augment=("hflip",), ema=0.9),
    "probe": tiny_recipe(head=PROBE),
    "knn": tiny_recipe(head=Head("knn", norm="standardise", neighbours=3), class_weights="balanced", views="all"),
}


def train(recipe: Recipe, tiny: Tiny, trained: Trained, weights: Path, out: Path, memory_gb: float = 1) -> list[str]:
    said: list[str] = []
    inputs = tiny_inputs(tiny, trained, weights)
    settings = TrainSettings(memory_gb=memory_gb)
    train_recipe(recipe, inputs, settings, device=CPU, out=out, on_epoch=lambda epoch: said.append(str(epoch)))
    return said


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in ("mlp", "transformer"))) for name in RECIPES]
)
def test_a_recipe_of_each_head_goes_from_shards_to_scores_of_files(
    name: str, tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    recipe, model = RECIPES[name], tmp_path / "model"
    assert len(train(recipe, tiny, trained, weights, model)) == 3 * recipe.rounds
    train(recipe, tiny, trained, weights, tmp_path / "again")
    assert contents(model) == contents(tmp_path / "again")

    bundle, store = load_bundle(model), FeatureStore(trained.features)
    oof = pd.read_csv(model / "oof.csv")
    assert len(oof) == (tiny.rows["role"] == "train").sum() and np.isfinite(oof["logit"]).all()
    for fold, rows in oof.groupby("fold"):
        table = load_table(store, list(rows["image_id"]), list(rows["label"]), views=0, memory_gb=1)
        assert bundle.fold_scores(table, CPU)[int(str(fold))] == pytest.approx(rows["score"].to_numpy(), abs=1e-5)

    inputs = EvaluationInputs(bundle, store, tiny.rows)
    figures = evaluate_recipe(inputs, bootstrap=Bootstrap(50), memory_gb=1, device=CPU)
    assert 0 <= figures.metrics["auc_low"] <= figures.metrics["auc"] <= 1  # type: ignore[operator]
    test = tiny.rows[tiny.rows["role"] == "test"].head(2)
    files = [tiny.root / path for path in test["path"]]
    found = [score for _, score in predict_files(bundle, files, max_pixels=10**6, device=CPU)]
    due = figures.plots["scores"].set_index("image_id")["score"].loc[test["image_id"]]
    assert found == pytest.approx(due.tolist(), abs=1e-4)
    maps = torch.from_numpy(store.read([(i, 0) for i in test["image_id"]]))
    heat = grad_cam(bundle, maps, fake=np.array([True, False]))
    assert heat is not None and heat.shape == (2, 2, 2) and np.isfinite(heat).all()


def test_a_probes_choice_is_on_record(tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path) -> None:
    said = train(RECIPES["probe"], tiny, trained, weights, tmp_path)
    record = json.loads((tmp_path / "bundle.json").read_text())
    choice = record["choice"]["2"]
    assert choice["c"] == choice["tried"][int(np.argmax(choice["inner_auc"]))] and len(choice["tried"]) == 4
    assert record["best_epoch"]["2"] == int(np.argmax(choice["inner_auc"]))
    assert f"lr={choice['tried'][3]!r}" in said[-1] and f"val_auc={choice['inner_auc'][3]!r}" in said[-1]


@pytest.mark.parametrize(("views", "rows"), [("sample", 24), ("all", 48)])
def test_views_go_where_their_image_goes(
    views: str, rows: int, tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    """The bank of a fold has the clean views, or all views, of the images of the other folds, and no others."""
    recipe = replace(RECIPES["knn"], head=Head("knn", neighbours=1, temperature=0.001), views=views, class_weights=None)
    train(recipe, tiny, trained, weights, tmp_path)
    store, tail = FeatureStore(trained.features), load_bundle(tmp_path).tails[0]
    training = tiny.rows[(tiny.rows["role"] == "train") & (tiny.rows["fold"] != 0)]
    assert tail.head.bank.shape == (len(training) * (2 if views == "all" else 1), 160)
    for view in (0, 1):
        table = load_table(store, list(training["image_id"]), list(training["label"]), views=view, memory_gb=1)
        logits = torch.cat([tail(features) for features, _ in table.clean(64)])
        known = (logits.argmax(1) == table.labels).all()  # each is its own nearest neighbour
        assert known or (view == 1 and views == "sample")


def test_features_beyond_the_memory_are_pooled_as_they_stream(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, streamed = tmp_path / "kept", tmp_path / "streamed"
    train(RECIPES["probe"], tiny, trained, weights, kept)
    monkeypatch.setattr("ffdi.tails.batches.memory_limit", lambda: 40_000)  # maps: 36 x 160 x 2 x 2 in float16
    monkeypatch.setattr(InMemory, "batches", None)
    train(RECIPES["probe"], tiny, trained, weights, streamed)
    assert contents(kept) == contents(streamed)


def test_pooled_features_beyond_the_memory_are_refused(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(FfdiError, match=r"head probe: the pooled features take .*, train.memory_gb is 1e-05: raise it"):
        train(RECIPES["probe"], tiny, trained, weights, tmp_path, memory_gb=1e-5)


def test_more_neighbours_than_images_are_refused(tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(FfdiError, match="head knn: 500 neighbours, but fold 0 trains on 24 rows"):
        train(tiny_recipe(head=Head("knn", neighbours=500)), tiny, trained, weights, tmp_path)
