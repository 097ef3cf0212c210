"""Several cuts at once: each as its own prefix gives it, pooled, one after the other."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_backbone
from torch import nn

from ffdi.errors import ParamsError
from ffdi.features.extractor import frozen_prefix
from ffdi.features.keep import keep_features
from ffdi.features.networks import headless_network

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
