"""A part of the features, or of those at several cuts, from extraction to scores: every place that computes features keeps
the same part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import workers
from conftest import Tiny, tiny_backbone, tiny_recipe
from torch import nn

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation.cost import cost
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.evaluation.explain import grad_cam
from ffdi.evaluation.mistakes import extract_in_train_mode
from ffdi.evaluation.robustness import perturbed_features
from ffdi.features.backbone import Views
from ffdi.features.compute import embed
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.image_views import locate_images
from ffdi.features.keep import TokenGrid
from ffdi.features.perturbed import VIEW, PerturbationSweep
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.features.weights import fetch_backbone_weights
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import load_bundle
from ffdi.tails.predict import predict_files
from ffdi.tails.recipe import Head
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

CPU = torch.device("cpu")
VIT: dict[str, Any] = {"network": "timm:test_vit", "network_args": {"img_size": 64}, "views": Views()}
MOUTH = {"rows": [2, 4], "columns": [1, 3]}


@pytest.fixture(scope="module")
def vit_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        fetch_backbone_weights(tiny_backbone(**VIT), folder / "vit.safetensors", base=Path())

    return workers.made_once(tmp_path_factory, "vit-weights", make) / "vit.safetensors"


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({**VIT, "cut": "blocks.3", "keep": "cls"}, (64,)),
        ({**VIT, "cut": "blocks.3", "keep": MOUTH, "dtype": "int8"}, (4, 64)),
        ({**VIT, "cut": ("blocks.2", "blocks.4", "norm"), "keep": "cls+mean", "dtype": "float32"}, (384,)),
        ({"keep": {"grid": 1}}, (160, 1, 1)),
    ],
    ids=["class token", "region in int8", "several cuts", "grid of a map"],
)
def test_every_place_keeps_the_same_part(
    changes: dict[str, Any], shape: tuple[int, ...], tiny: Tiny, weights: Path, vit_weights: Path, tmp_path: Path
) -> None:
    backbone = tiny_backbone(**changes)
    weights = vit_weights if backbone.network == VIT["network"] else weights
    source, settings = ImageSource(tiny.root, 10**6), ExtractSettings(workers=1, shard_rows=32)
    extractor = load_extractor(backbone, weights)
    extract_features(tiny.rows, extractor, tmp_path / "features", source=source, settings=settings)
    store = FeatureStore(tmp_path / "features")
    assert store.spec.shape == shape == extractor.spec.shape
    recipe = replace(tiny_recipe(), head=Head("linear"), epochs=1, folds=2)
    inputs = TrainingInputs("tiny", tiny.rows, backbone, tmp_path / "features", weights)
    train_recipe(recipe, inputs, TrainSettings(memory_gb=1), device=CPU, out=tmp_path / "model")
    bundle = load_bundle(tmp_path / "model")
    assert all(isinstance(tail.body, nn.Identity) for tail in bundle.tails.values())

    test = tiny.rows[tiny.rows["role"] == "test"]
    rows = [(image, 0) for image in test["image_id"]]
    features = torch.from_numpy(store.read(rows))
    due = bundle.scores(FeatureTable.of_features(features), CPU)
    files = [tiny.root / path for path in test["path"]]
    found = [score for _, score in predict_files(bundle, files, max_pixels=10**6, device=CPU)]
    assert found == pytest.approx(due.tolist(), abs=1e-6) and len(set(found)) > 1

    sweep = PerturbationSweep(["blur-2"], tmp_path / "levels", source, settings)
    blurred = perturbed_features(bundle, store.spec, test, sweep)["blur-2"].read([(i, VIEW) for i, _ in rows])
    assert blurred.shape == features.shape and not np.array_equal(blurred, features)
    (odd,) = extract_in_train_mode(rows[:1], extractor, locate_images(tiny.rows, source), CPU)
    assert odd.shape == (1, *shape)
    embedded = embed(test, extractor, source)
    assert embedded.shape[1] == (shape[1] if len(shape) == 2 else shape[0])
    metrics = evaluate_recipe(
        EvaluationInputs(bundle, store, tiny.rows), bootstrap=Bootstrap(100), memory_gb=1, device=CPU
    ).metrics
    assert metrics["cut"] == backbone.cut_name and metrics["flops_tail"] == 4 * int(np.prod(shape))
    assert cost(bundle, store.spec)["bytes_per_image"] == store.spec.row_bytes
    explained = grad_cam(bundle, features, fake=np.ones(len(rows), bool), spec=store.spec)
    assert (explained is None) == (len(shape) == 1)
    if changes["keep"] == MOUTH:
        assert store.spec.cut_grid == TokenGrid(1, 4, 4) and explained is not None
        assert explained.shape == (len(rows), 4, 4) and not explained[:, :2].any() and explained[:, 2:, 1:3].any()
