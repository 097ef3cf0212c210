"""Bundles whose tables are Parquet: named in bundle.json, checked, and read as those of csv."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe

from ffdi.deploy.card.facts import read_facts
from ffdi.errors import BundleError
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.ensemble import load_model
from ffdi.tails.ensemble_settings import EnsembleSettings
from ffdi.tails.fuse import fuse_recipes
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs


@pytest.fixture(scope="module")
def models(trained: Trained, tiny: Tiny, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models `a` and `b` of one short training: their tables are csv, and Parquet."""
    folder = tmp_path_factory.mktemp("models")
    inputs = TrainingInputs("tiny", tiny.rows, tiny_backbone(), trained.features, weights)
    made = train_recipe(
        replace(tiny_recipe(), epochs=1), inputs, TrainSettings(memory_gb=1), device=torch.device("cpu")
    )
    made.save(folder / "a")
    replace(made, tables=".parquet").save(folder / "b")
    return folder


def test_only_the_tables_differ(models: Path) -> None:
    names = [{file.name for file in (models / name).iterdir()} for name in "ab"]
    assert names[1] - names[0] == {"oof.parquet", "seen.parquet"} and names[0] - names[1] == {"oof.csv", "seen.csv"}
    pd.testing.assert_frame_equal(read_oof(models / "a"), read_oof(models / "b"))
    one, other = load_model(models / "a"), load_model(models / "b")
    pd.testing.assert_frame_equal(one.seen, other.seen)
    assert read_facts(models / "b", models).images == len(one.seen)


def test_a_changed_table_is_found(models: Path, tmp_path: Path) -> None:
    for file in (models / "b").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "seen.parquet").write_bytes((models / "b/oof.parquet").read_bytes())
    with pytest.raises(BundleError, match=r"seen\.parquet: sha256 differs"):
        load_model(tmp_path)


def test_members_of_both_kinds_make_one_ensemble(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    fused = fuse_recipes(EnsembleSettings(name="both", recipes=("a", "b")), models, tiny.rows)
    fused.save(tmp_path / "csv")
    fused.save(tmp_path / "parquet", tables=".parquet")
    assert set(json.loads((tmp_path / "parquet/bundle.json").read_text())["sha256"]) == {"oof.parquet", "seen.parquet"}
    pd.testing.assert_frame_equal(read_oof(tmp_path / "csv"), read_oof(tmp_path / "parquet"))
    assert len(load_model(tmp_path / "parquet").seen) == len(load_model(tmp_path / "csv").seen)
