"""The bundle of a recipe that freezes a part of its body: that part is written once, and read back to the bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe
from safetensors.torch import load_file
from small_training import contents, killed_at, tiny_inputs

from ffdi.errors import BundleError
from ffdi.features.store import FeatureStore
from ffdi.features.weights import load_network
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import load_bundle, sigmoid
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.trained_recipe import TrainedRecipe

CPU = torch.device("cpu")
RECIPE = replace(tiny_recipe(epochs=2), trainable={"last": 1}, ema=0.9, folds=2)


def train(tiny: Tiny, trained: Trained, weights: Path, **options: Any) -> TrainedRecipe:
    inputs = tiny_inputs(tiny, trained, weights)
    return train_recipe(RECIPE, inputs, TrainSettings(memory_gb=1), device=CPU, **options)


@pytest.fixture(scope="module")
def partly(tiny: Tiny, trained: Trained, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last block trains, the two before it do not."""
    folder = tmp_path_factory.mktemp("partly") / "model"
    train(tiny, trained, weights, out=folder)
    return folder


def test_the_frozen_part_is_written_once(partly: Path, weights: Path) -> None:
    assert {f.name for f in partly.iterdir()} == {
        *("body.safetensors", "fold-0.safetensors", "fold-1.safetensors"),
        *("prefix.safetensors", "index.safetensors", "bundle.json", "oof.csv", "seen.csv"),
    }
    own, frozen = load_file(partly / "fold-0.safetensors"), load_file(partly / "body.safetensors")
    assert {name.split(".")[3] for name in own if name.startswith("body.")} == {"18"}
    assert {name.split(".")[3] for name in frozen} == {"16", "17"}
    record = json.loads((partly / "bundle.json").read_text())
    assert record["recipe"]["trainable"] == {"last": 1} and "lr_decay" not in record["recipe"]
    network = load_network(tiny_backbone().network, weights)[0].state_dict()  # byte for byte as it was, statistics too
    for name, value in frozen.items():
        assert value.numpy().tobytes() == network[name.removeprefix("body.network.")].numpy().tobytes(), name


def test_a_killed_training_ends_in_the_same_bytes(
    partly: Path, tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny, trained, weights, out=tmp_path / "model", on_epoch=killed_at(1, 0))
    done = train(tiny, trained, weights, out=tmp_path / "model")
    assert done.summary.endswith("435,251 of the 1,237,817 values of a tail were trained"), done.summary
    assert contents(tmp_path / "model") == contents(partly)


def test_it_scores_as_it_did_in_training_and_holds_the_frozen_part_once(
    partly: Path, tiny: Tiny, trained: Trained
) -> None:
    bundle = load_bundle(partly)
    rows = tiny.rows[tiny.rows["role"] == "train"]
    store = FeatureStore(trained.features)
    table = load_table(store, list(rows["image_id"]), list(rows["label"]), views=0, memory_gb=1)
    oof = read_oof(partly).set_index("image_id")
    scores = bundle.fold_scores(table, CPU)
    for at, image_id in enumerate(table.image_ids):
        if image_id in oof.index:
            logit = float(oof.loc[image_id, "logit"])
            due = sigmoid(np.array([logit]) / bundle.temperature)[0]
            assert scores[int(oof.loc[image_id, "fold"])][at] == pytest.approx(due, rel=1e-5)
    first, second = (tail.state_dict() for tail in bundle.tails.values())
    own = set(load_file(partly / "fold-0.safetensors"))
    assert {name for name in first if first[name].data_ptr() != second[name].data_ptr()} == own


def test_a_changed_body_is_found(partly: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(partly, tmp_path / "model"))
    data = bytearray((copied / "body.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "body.safetensors").write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"body\.safetensors: sha256 differs"):
        load_bundle(copied)
