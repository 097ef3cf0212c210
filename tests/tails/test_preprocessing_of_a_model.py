"""`preprocessing: model` from params.yaml to scores: the weights stage asks, the shards, the bundle and predictions follow."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiny, picture, tiny_recipe

from ffdi.features.backbone import Backbone
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.preprocessing import Preprocessing
from ffdi.features.settings import ExtractSettings
from ffdi.features.shard_index import read_index
from ffdi.intake.decoding.images import ImageSource, to_array
from ffdi.intake.decoding.resizing import Resize
from ffdi.params.reading import read_params
from ffdi.tails.bundle import load_bundle
from ffdi.tails.predict import predict_files
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

CPU = torch.device("cpu")
STAGE = Path(__file__).parents[2] / "stages" / "weights.py"
HALF = (0.5, 0.5, 0.5)
STATED = Preprocessing(64, HALF, HALF, Resize("shorter_side", "bilinear", 0.95))
PARAMS = """
data: {{root: x}}
split: {{embedding: net}}
backbones: {{net: {{network: timm:test_resnet, cut: layer4, runtime: torch, {}}}}}
recipes: {{one: {{backbone: net}}}}
ladder: {{recipe: one, backbone: net}}
"""


def weights_stage(folder: Path, entry: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Backbone, Path]:
    """The backbone of params.yaml and its weights file; SystemExit with 1 when the stage refuses."""
    params, out = folder / "params.yaml", folder / "net.safetensors"
    params.write_text(PARAMS.format(entry))
    monkeypatch.setattr(sys, "argv", ["weights.py", "--params", str(params), "--backbone", "net", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(STAGE), run_name="__main__")
    if ended.value.code:
        raise SystemExit(ended.value.code)
    return read_params(params).backbone("net"), out


def test_everyone_sees_what_the_weights_file_says(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = "weights: random, image_size: 64, preprocessing: model"
    backbone, weights = weights_stage(tmp_path, entry, monkeypatch)
    assert "it sees 64 x 64 pixels (shorter_side, bilinear, the middle 64 of 67), mean 0.5" in capsys.readouterr().err
    extractor, features = load_extractor(backbone, weights), tmp_path / "features"
    by_hand = Backbone(
        "net", backbone.network, "random", "layer4", 64, HALF, HALF, resize=STATED.resize, runtime="torch"
    )
    assert extractor.backbone == by_hand
    assert extractor.spec.fingerprint == load_extractor(by_hand, weights).spec.fingerprint
    source = ImageSource(tiny.root, 10**6)
    extract_features(tiny.rows, extractor, features, source=source, settings=ExtractSettings(workers=1))
    policy = read_index(features).spec.policy
    assert policy["resize"] == "pillow-shorter_side-bilinear-1, crop 0.95" and policy["mean"] == list(HALF)

    inputs = TrainingInputs("tiny", tiny.rows, backbone, features, weights)
    settings = TrainSettings(memory_gb=1)
    train_recipe(tiny_recipe(epochs=1, folds=1), inputs, settings, device=CPU, out=tmp_path / "model")
    stored = json.loads((tmp_path / "model" / "bundle.json").read_text())["backbone"]
    assert stored["resize"] == {"mode": "shorter_side", "kernel": "bilinear", "crop": 0.95}
    assert (stored["image_size"], stored["mean"], stored["std"]) == (64, list(HALF), list(HALF))
    assert "preprocessing" not in stored

    bundle = load_bundle(tmp_path / "model")
    assert bundle.backbone.pixels == STATED and bundle.prefix is not None
    photo = picture(0, 120).crop((0, 0, 120, 70))
    photo.save(tmp_path / "photo.png")
    square = torch.from_numpy(to_array(STATED.square(photo)).copy())[None]
    with torch.inference_mode():
        logits = [tail(bundle.prefix(square).half()) for tail in bundle.tails.values()]
    due = np.mean([torch.sigmoid((x[0, 1] - x[0, 0]) / bundle.temperature).item() for x in logits])
    ((_, score),) = predict_files(bundle, [tmp_path / "photo.png"], max_pixels=10**6, device=CPU)
    assert score == pytest.approx(due, abs=1e-3)


def test_the_weights_file_keeps_its_bytes_without_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(entry: str) -> bytes:
        return weights_stage(tmp_path, f"weights: random, {entry}", monkeypatch)[1].read_bytes()

    plain = made("image_size: 64")
    assert plain == made("image_size: 64, preprocessing: params, resize: {mode: letterbox}")
    assert plain != made("image_size: 64, preprocessing: model")


def test_the_stage_refuses_another_normalisation_than_the_weights_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        weights_stage(tmp_path, "weights: timm:r160_in1k", monkeypatch)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "weights.py: backbones.net: timm:r160_in1k of timm:test_resnet was trained with mean 0.5 and std"
    )
    assert not (tmp_path / "net.safetensors").exists()
