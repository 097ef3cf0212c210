"""Two recipes on the tiny features, to be fused; shared by the tests of ensembles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe

from ffdi.files import write_json
from ffdi.tails.ensemble_settings import EnsembleSettings
from ffdi.tails.record import record_hash
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

CPU = torch.device("cpu")


def save_two_recipes(models: Path, tiny: Tiny, trained: Trained, weights: Path) -> None:
    """Recipe a, the tiny one, and b, trained less and by another seed, on the same features."""
    shutil.copytree(trained.model, models / "a")
    inputs = TrainingInputs("tiny", tiny.rows, tiny_backbone(), trained.features, weights)
    recipe = tiny_recipe(name="b", seed=5, epochs=2)
    train_recipe(recipe, inputs, TrainSettings(memory_gb=1), device=CPU).save(models / "b")


def both(**changes: Any) -> EnsembleSettings:
    return EnsembleSettings(**({"name": "both", "recipes": ("a", "b")} | changes))


def edit_record(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit bundle.json as training would have written it: with the hash of its entries."""
    record = json.loads((folder / "bundle.json").read_text())
    change(record)
    write_json(folder / "bundle.json", record | {"facts_sha256": record_hash(record)})
