"""Several cuts at once: each as its own prefix gives it, pooled, one after the other."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_backbone
from torch import nn

from ffdi.errors import ParamsError
from ffdi.features.extractor import frozen_prefix, load_extractor
from ffdi.features.keep import TokenGrid, keep_features
from ffdi.features.networks import headless_network
from ffdi.features.runtimes import cached_graph
from ffdi.features.weights import fetch_backbone_weights

VIT: dict[str, Any] = {"network": "timm:test_vit", "network_args": {"img_size": 32}, "image_size": 32}
RESNET: dict[str, Any] = {"network": "timm:test_resnet", "image_size": 32}


@cache
def network_of(name: str, *args: tuple[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return headless_network(name, dict(args)).eval()


@pytest.mark.parametrize(
    ("changes", "cuts", "keep"),
    [
        (VIT, ("blocks.1", "blocks.3", "norm"), "all"),
        (VIT, ("blocks.1", "blocks.3", "norm"), "cls"),
        (VIT, ("blocks.3", "head"), "cls+mean"),  # a vector is taken as it is
        (RESNET, ("layer1", "layer3", "layer4"), "mean"),
    ],
)
def test_each_cut_is_that_of_its_own_prefix(changes: dict[str, Any], cuts: tuple[str, ...], keep: str) -> None:
    network = network_of(changes["network"], *changes.get("network_args", {}).items())
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    parts = []
    for cut in cuts:
        alone = frozen_prefix(network, tiny_backbone(**changes, cut=cut))
        features = alone(images).numpy()
        kept: Any = "mean" if keep == "all" else keep
        parts.append(features if features.ndim == 2 else keep_features(features, kept, alone.tokens))
    together = frozen_prefix(network, tiny_backbone(**changes, cut=cuts, keep=keep))
    np.testing.assert_allclose(together(images).numpy(), np.concatenate(parts, axis=1), rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in together.parameters()) and not together.training


def test_what_a_cut_has_not_is_refused_with_its_name() -> None:
    backbone = tiny_backbone(**RESNET, cut=("layer1", "layer3"), keep="cls")
    with pytest.raises(ParamsError, match=r"^cut 'layer1': keep: cls: at this cut there is a map"):
        frozen_prefix(network_of(RESNET["network"]), backbone).feature_shape(32)
    with pytest.raises(ParamsError, match="cut 'layer9' is no module"):
        frozen_prefix(network_of(RESNET["network"]), tiny_backbone(**RESNET, cut=("layer1", "layer9")))


def test_an_exported_graph_pools_as_torch_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    backbone = tiny_backbone(**RESNET, cut=("layer1", "layer3"), keep="mean", runtime="onnxruntime")
    fetch_backbone_weights(backbone, tmp_path / "w.safetensors", base=tmp_path)
    extractor = load_extractor(backbone, tmp_path / "w.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    due = extractor.load()(torch.from_numpy(images)).numpy()
    assert extractor.spec.shape == due.shape[1:] and extractor.spec.cut == "layer1+layer3"
    np.testing.assert_allclose(extractor.open().run(images), due, rtol=1e-3, atol=1e-4)


def test_an_exported_graph_says_where_the_patches_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    backbone = tiny_backbone(**VIT, cut="blocks.1", keep="cls", runtime="onnxruntime")
    fetch_backbone_weights(backbone, tmp_path / "w.safetensors", base=tmp_path)
    first = load_extractor(backbone, tmp_path / "w.safetensors")
    monkeypatch.setattr("ffdi.features.extractor.PrefixFile.__call__", None)
    second = load_extractor(backbone, tmp_path / "w.safetensors")
    assert first.spec == second.spec and second.spec.cut_grid == first.spec.cut_grid == TokenGrid(1, 2, 2)
    assert second.spec.shape == (64,)
    (file,) = (tmp_path / "cache").rglob("*.json")
    described = json.loads(file.read_text())
    del described["tokens"]  # as an older ffdi wrote it: exported again
    file.write_text(json.dumps(described))
    assert cached_graph(backbone, second.spec.weights_sha256) is None
