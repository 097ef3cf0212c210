"""A network that is built with arguments, from its weights to a bundle that needs nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from conftest import Tiny, tiny_recipe

from ffdi.features.backbone import Backbone
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor, local_spec
from ffdi.features.settings import ExtractSettings
from ffdi.features.shard_index import read_index
from ffdi.features.weights import fetch_backbone_weights, load_network
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.bundle import load_bundle
from ffdi.tails.recipe import Head
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

ARGS = {"img_size": [32, 32], "depth": 2, "drop_path_rate": 0.5}
VIT = Backbone("vit", "timm:test_vit", "random", "blocks.1", runtime="torch", network_args=ARGS)


def test_arguments_go_from_the_weights_to_the_bundle(tiny: Tiny, tmp_path: Path) -> None:
    weights, features = tmp_path / "w.safetensors", tmp_path / "features"
    fetch_backbone_weights(VIT, weights, base=tmp_path)
    extractor = load_extractor(VIT, weights)
    source = ImageSource(tiny.root, 10**6)
    extract_features(tiny.rows, extractor, features, source=source, settings=ExtractSettings(workers=1))
    spec = read_index(features).spec
    assert (spec.shape, spec.policy["network_args"]) == ((5, 64), ARGS)
    inputs = TrainingInputs("tiny", tiny.rows, VIT, features, weights)
    recipe = tiny_recipe(epochs=1, folds=1, head=Head("linear"))
    train_recipe(recipe, inputs, TrainSettings(memory_gb=1), device=torch.device("cpu"), out=tmp_path / "model")

    assert json.loads((tmp_path / "model" / "bundle.json").read_text())["backbone"]["network_args"] == ARGS
    bundle = load_bundle(tmp_path / "model")
    (tail,), prefix = bundle.tails.values(), bundle.prefix
    network = load_network(VIT.network, weights, ARGS)[0]
    assert len(network.blocks) == 2 and prefix is not None  # type: ignore[arg-type]
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(channels).view(3, 1, 1) for channels in (VIT.pixels.mean, VIT.pixels.std))
    normal = (images.permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        trained = tail.body.network.state_dict()  # type: ignore[union-attr, operator]
        assert {"blocks.1.norm1.weight", "norm.weight"} < set(trained)
        network.load_state_dict(trained, strict=False)
        torch.testing.assert_close(tail(prefix(images)), tail.head(network(normal)), rtol=1e-4, atol=1e-5)
    assert 0.5 in [getattr(module, "drop_prob", 0) for module in tail.modules()]


def test_arguments_are_part_of_the_fingerprint() -> None:
    others = [replace(VIT, network_args=args) for args in ({}, {**ARGS, "depth": 3}, {**ARGS, "drop_path_rate": 0.4})]
    specs = [local_spec(backbone, "0" * 64) for backbone in (VIT, *others)]
    assert len({spec.fingerprint for spec in specs}) == 4
    assert "network_args" not in specs[1].policy
    assert "network_args" not in others[0].to_dict()
    assert Backbone.from_dict(json.loads(json.dumps(VIT.to_dict()))).network_args == ARGS
