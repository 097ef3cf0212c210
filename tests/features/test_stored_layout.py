"""The places of stored features are those of the image, whatever the network's own layout: maps and grids of tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import tiny_backbone
from torch import Tensor, nn

from ffdi.features.cuts import cut_network
from ffdi.features.networks import FrozenPrefix, headless_network
from ffdi.features.runtimes import open_runtime
from ffdi.tails.augment import augmentation
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.heads import TailFactory
from ffdi.tails.recipe import Head

SIZE: dict[str, Any] = {"img_size": 112}
ONE = SIZE | {"depth": 1}
SMALL_SWIN = SIZE | {"window_size": 7, "depths": (1, 1), "num_heads": (3, 6)}
PLACES: list[tuple[str, str, dict[str, Any], int, tuple[int, int]]] = [  # prefix tokens, rows and columns
    ("test_mambaout", "stages.1", {}, 0, (28, 28)),  # channels last
    ("swin_tiny_patch4_window7_224", "layers.0", SMALL_SWIN, 0, (28, 28)),  # channels last
    ("test_convnext", "stages.2", {}, 0, (14, 14)),
    ("vit_tiny_patch16_224", "blocks.0", ONE, 1, (7, 7)),
    ("deit_tiny_distilled_patch16_224", "blocks.0", ONE, 2, (7, 7)),
    ("vit_small_patch16_dinov3", "blocks.0", ONE, 5, (7, 7)),
    ("eva02_tiny_patch14_224", "blocks.0", ONE, 1, (8, 8)),
    ("vit_base_patch16_siglip_224", "blocks.0", ONE, 0, (7, 7)),
    ("cait_xxs24_224", "blocks.0", ONE, 0, (7, 7)),
    ("mixer_b16_224", "blocks.0", SIZE, 0, (7, 7)),
]


def prefix_of(name: str, cut: str, **args: Any) -> nn.Module:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, **args).eval()
    prefix = cut_network(network, cut, 112)[0]
    assert prefix is not None
    return prefix


@pytest.mark.parametrize(("name", "cut", "args", "first", "grid"), PLACES, ids=[c[0] for c in PLACES])
def test_a_spot_of_the_image_is_where_the_features_say(
    name: str, cut: str, args: dict[str, Any], first: int, grid: tuple[int, int]
) -> None:
    prefix = prefix_of(name, cut, **args)
    images = torch.zeros(2, 3, 112, 112)
    images[1, :, 8:12, 90:94] = 3.0  # a spot in the upper right
    with torch.no_grad():
        blank, spot = prefix(images)
    change = (spot - blank).abs()
    if change.ndim == 2:
        tokens: Any = prefix.tokens
        assert (tokens.prefix_tokens, tokens.rows, tokens.columns) == (first, *grid)
        change = change[first:].T.reshape(-1, *grid)
    else:
        assert change.shape[1:] == grid and prefix.tokens is None
    found = np.asarray(np.unravel_index(int(change.sum(0).argmax()), grid))
    assert (abs((found + 0.5) * 112 / grid - (10, 92)) < 16).all()  # pixels: one place of the coarsest grid


def test_places_of_tokens_in_another_order_are_not_known() -> None:
    prefix = cut_network(headless_network("timm:hiera_tiny_224").eval(), "blocks.2", 224)[0]
    assert prefix is not None and prefix.tokens is None


def test_flips_and_the_transformer_head_take_places_for_places() -> None:
    network = headless_network("timm:test_mambaout").eval()
    prefix = cut_network(network, "stages.1", 64)[0]
    assert prefix is not None
    with torch.no_grad():
        maps: Tensor = prefix(torch.randn(2, 3, 64, 64))
    channels, rows, columns = maps.shape[1:]
    for flip, axis in (("hflip", 3), ("vflip", 2)):
        flipped = augmentation(resolve_augment([{flip: {"p": 1.0}}]))(maps.clone())
        assert torch.equal(flipped, maps.flip(axis))
    backbone = tiny_backbone(network="timm:test_mambaout", cut="stages.1")
    head: Any = TailFactory(network, backbone, Head("transformer"), tuple(maps.shape[1:])).fresh(0).head
    assert (head.position.shape[1] - 1, head.project.in_features) == (rows * columns, channels)


@pytest.mark.parametrize(
    ("name", "cut", "args"),
    [
        ("test_mambaout", "stages.1", {}),
        ("vit_small_patch16_dinov3", "blocks.1", SIZE | {"depth": 2}),
    ],
)
def test_onnxruntime_computes_permuted_features_and_constants(
    name: str, cut: str, args: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(os.environ, "FFDI_CACHE", str(tmp_path))
    frozen = FrozenPrefix(prefix_of(name, cut, **args), (0.5,) * 3, (0.5,) * 3)
    backbone = tiny_backbone(network=f"timm:{name}", cut=cut, image_size=112, runtime="onnxruntime")
    images = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    found = open_runtime(backbone, "0" * 64, lambda: frozen).run(images)
    expected = frozen(torch.from_numpy(images)).numpy()
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
