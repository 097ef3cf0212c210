"""presets/foundation.yaml: every network builds and is cut where the preset says, and its recipes run from end to end."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Tiny

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.features.backbone import Backbone
from ffdi.features.cuts import cut_network, list_cuts
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.keep import kept_shape, resolve_keep
from ffdi.features.networks import headless_network
from ffdi.features.pooled_cuts import pooled_cuts
from ffdi.features.settings import ExtractSettings
from ffdi.features.stated_preprocessing import described_preprocessing, resolved
from ffdi.features.weights import fetch_backbone_weights
from ffdi.intake.decoding.images import ImageSource
from ffdi.params.reading import read_params
from ffdi.tails.bundle import load_bundle
from ffdi.tails.predict import predict_files
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

PRESET = Path(__file__).parents[1] / "presets" / "foundation.yaml"
PARAMS = read_params(PRESET)
KEPT = {  # the shape of what is stored of an image; 224 pixels are 16x16 patches of 14, 256 are 16x16 of 16
    "clip_l14": (1024,),
    "siglip2_l16": (1024,),
    "dinov2_l14": (2048,),
    "dinov3_l16": (1024,),
    "dinov3_l16_mouth": (50, 1024),
    "dinov3_l16_layers": (3072,),
    "pe_l14": (1024,),
    "eva02_l14": (1024,),
    "convnext_l_clip": (1536,),
    "clip_l14_input": (3, 224, 224),
    "xception": (3, 256, 256),
    "efficientnet_b4": (3, 256, 256),
}
CPU = torch.device("cpu")
NARROWER = 32  # times: the small networks


def small(name: str) -> Backbone:
    """A backbone with the same network, narrower and with a few blocks, random weights and fewer pixels."""
    backbone = PARAMS.backbone(name)
    args: dict[str, Any] = {}
    changes: dict[str, Any] = {"image_size": 64, "weights": "random"}
    if "patch" in backbone.network:
        patch, grid = (16, 16) if "16_mouth" in name else (16, 4) if "patch16" in backbone.network else (14, 4)
        args = {"depth": 3, "embed_dim": 1024 // NARROWER, "num_heads": 2, "img_size": patch * grid}
        changes |= {"image_size": patch * grid}
    elif "convnext" in backbone.network:
        args = {"depths": [1, 1, 1, 1], "dims": [8, 16, 32, 48]}
    if not isinstance(backbone.cut, str):
        changes["cut"] = ("blocks.0", "blocks.1", "blocks.2")
    return replace(backbone, network_args=backbone.network_args | args, **changes)


def fetch(backbone: Backbone, out: Path) -> None:
    """Stage weights' work."""
    stated = described_preprocessing(backbone)
    fetch_backbone_weights(resolved(backbone, stated), out, base=out.parent, preprocessing=stated)


def test_the_preset_names_these_backbones_and_each_has_a_recipe() -> None:
    assert set(PARAMS.backbones) == set(KEPT) == {recipe.backbone for recipe in PARAMS.recipes.values()}


@pytest.mark.parametrize("name", KEPT)
def test_a_network_is_cut_where_the_preset_says_and_goes_on_behind_it(name: str) -> None:
    backbone = small(name)
    torch.manual_seed(0)
    network = headless_network(backbone.network, backbone.network_args).eval()
    size, keep = resolved(backbone, described_preprocessing(backbone)).pixels.size, resolve_keep(backbone.keep)
    x = torch.randn(2, 3, size, size)
    if not backbone.has_prefix:
        return
    with torch.no_grad():
        if len(backbone.cuts) > 1:
            shape = tuple(pooled_cuts(network, backbone.cuts, size, keep)(x).shape[1:])
        else:
            prefix, body = cut_network(network, backbone.cuts[0], size)
            assert prefix is not None
            features = prefix(x)
            assert torch.equal(body.eval()(features), network(x))
            shape = kept_shape(tuple(features.shape[1:]), keep, prefix.tokens)
    assert shape == (*KEPT[name][:-1], KEPT[name][-1] // NARROWER)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, shape in KEPT.items() if len(shape) < 3])
def test_at_full_size_the_cut_is_listed_and_what_is_kept_has_this_shape(name: str, tmp_path: Path) -> None:
    backbone = replace(PARAMS.backbone(name), weights="random", runtime="torch")
    fetch(backbone, tmp_path / "w.safetensors")
    extractor = load_extractor(backbone, tmp_path / "w.safetensors")
    assert extractor.spec.shape == KEPT[name]
    network = headless_network(backbone.network, backbone.network_args)
    assert set(backbone.cuts) <= {cut.name for cut in list_cuts(network, extractor.spec.image_size)}


@pytest.mark.long
@pytest.mark.parametrize("name", ["dinov3_l16", "dinov3_l16_layers", "clip_l14_input"])
def test_the_bench_measures_a_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PRESET.parents[1] / "bench")
    backbone = replace(small(name), network_args=small(name).network_args | {"depth": 13})
    network = headless_network(backbone.network, backbone.network_args).eval()
    size = resolved(backbone, described_preprocessing(backbone)).pixels.size
    cells = importlib.import_module("foundation").network_row(network, backbone, size).split(" | ")
    assert cells[0] == f"| {name}" and cells[8:] == ["0", "0 |"]


@pytest.mark.parametrize("name", KEPT)
def test_what_a_network_sees_is_what_it_was_trained_on(name: str) -> None:
    """As timm states it of each tag, but where the preset's comments say otherwise."""
    backbone = PARAMS.backbone(name)
    seen = resolved(backbone, described_preprocessing(backbone)).pixels
    sizes = {"siglip2": 256, "dinov2": 224, "dinov3": 256, "pe_": 336, "eva02": 336, "convnext": 320, "clip": 224}
    assert seen.size == next((size for key, size in sizes.items() if name.startswith(key)), 256)
    clip, imagenet = (0.481, 0.458, 0.408), (0.485, 0.456, 0.406)
    means = {"clip": clip, "eva02": clip, "convnext": clip, "dinov": imagenet}
    assert seen.mean == pytest.approx(
        next((m for key, m in means.items() if name.startswith(key)), (0.5,) * 3), abs=6e-4
    )
    assert (seen.resize.kernel, seen.resize.crop) == ("bilinear" if name == "pe_l14" else "bicubic", 1.0)


def test_gend_is_as_published() -> None:
    """arXiv 2508.06248: norms alone train, features of length 1, alignment .1 and uniformity .5, pairs of one source."""
    recipe = PARAMS.recipe("gend")
    assert PARAMS.backbone(recipe.backbone).network == "timm:vit_large_patch14_clip_quickgelu_224"
    assert (recipe.head.kind, recipe.head.norm, recipe.head.dropout) == ("linear", "l2", 0)
    assert (recipe.trainable, recipe.pairing) == ("norms", "group")
    assert (recipe.loss.alignment, recipe.loss.uniformity) == (0.1, 0.5)
    assert (recipe.optimizer.name, recipe.optimizer.weight_decay, recipe.lr) == ("adamw", 0, 3e-4)
    assert (recipe.schedule.name, recipe.schedule.warmup, recipe.precision) == ("cosine", 0, "bfloat16")


@pytest.mark.parametrize("name", ["xception", "efficientnet_b4"])
def test_the_classical_networks_are_as_in_deepfakebench(name: str) -> None:
    recipe, backbone = PARAMS.recipe(name), PARAMS.backbone(name)
    assert (recipe.optimizer.name, recipe.optimizer.weight_decay, recipe.lr) == ("adam", 5e-4, 2e-4)
    assert (recipe.batch_size, recipe.epochs, recipe.schedule.name) == (32, 10, "none")
    assert (backbone.cut, backbone.pixels.size, backbone.pixels.mean, backbone.pixels.std) == (
        *("input", 256),
        *((0.5,) * 3, (0.5,) * 3),
    )
    assert backbone.pixels.resize.kernel == "bicubic"


QUICK = ("clip_l14_probe", "dinov3_l16_mouth_attentive", "dinov3_l16_layers_probe", "gend")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in PARAMS.recipes]
)
def test_a_recipe_runs_from_weights_to_predictions(name: str, tiny: Tiny, tmp_path: Path) -> None:
    """Weights, extract, train, evaluate, predict: small networks of the same kinds, random weights, one epoch."""
    recipe = replace(PARAMS.recipe(name), epochs=1, folds=2, batch_size=8)
    backbone = replace(small(recipe.backbone), runtime="auto" if name == "clip_l14_probe" else "torch")
    weights, features, model = tmp_path / "w.safetensors", tmp_path / "features", tmp_path / "model"
    fetch(backbone, weights)
    source = ImageSource(tiny.root, 10**6)
    extractor = load_extractor(backbone, weights)
    done = extract_features(
        tiny.rows, extractor, features, source=source, settings=ExtractSettings(workers=2, shard_rows=32)
    )
    assert done.computed == len(tiny.rows)
    inputs = TrainingInputs(name, tiny.rows, backbone, features, weights)
    train_recipe(recipe, inputs, TrainSettings(memory_gb=1), device=CPU).save(model)
    evaluation = evaluate_recipe(
        EvaluationInputs.load(model, features, tiny.rows), bootstrap=Bootstrap(50), memory_gb=1, device=CPU
    )
    assert 0 <= float(str(evaluation.metrics["auc"])) <= 1
    files = [tiny.root / path for path in tiny.rows["path"].head(2)]
    scores = [score for _, score in predict_files(load_bundle(model), files, max_pixels=10**6, device=CPU)]
    assert all(isinstance(score, float) and math.isfinite(score) for score in scores) and len(scores) == 2
