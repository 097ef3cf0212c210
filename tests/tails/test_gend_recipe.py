"""GenD's recipe on a ViT whose tail is the whole network: its norms and the head train, nothing else moves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_backbone, tiny_recipe
from small_training import killed_at

from ffdi.features.networks import headless_network
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Checkpoints
from ffdi.tails.feature_source import InMemory
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import TailFactory
from ffdi.tails.optimisation import ExtraLosses, Optimizer
from ffdi.tails.recipe import Head
from ffdi.tails.train import cross_validate

CPU = torch.device("cpu")
BACKBONE = tiny_backbone(network="timm:test_vit", cut="input", image_size=32, network_args={"img_size": 32})
HEAD = Head("linear", norm="l2")
RECIPE = tiny_recipe(
    head=HEAD,
    trainable="norms",
    loss=ExtraLosses(0.1, 0.5),
    pairing="group",
    optimizer=Optimizer("adamw", 0.05, decayed="weights"),
    epochs=2,
    batch_size=8,
    lr=0.01,
)


@pytest.fixture(scope="module")
def factory() -> TailFactory:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = headless_network(BACKBONE.network, BACKBONE.network_args)
    return TailFactory(network, BACKBONE, HEAD, (3, 32, 32))


def images() -> FoldedTable:
    """24 images in pairs of real and fake; fakes are brighter."""
    rng = np.random.default_rng(0)
    labels = torch.arange(24) % 2
    pixels = rng.integers(0, 200, (24, 3, 32, 32)) + 55 * labels.numpy()[:, None, None, None]
    ones = torch.ones_like(labels)
    source = InMemory(torch.tensor(pixels, dtype=torch.uint8))
    table = FeatureTable(tuple(f"i{n:02d}" for n in range(24)), source, torch.arange(24), ones, labels)
    return FoldedTable.of(table, [n // 2 % 2 for n in range(24)], None, [f"g{n // 2}" for n in range(24)])


def test_only_norms_and_the_head_train(factory: TailFactory) -> None:
    before = copy.deepcopy(factory.body.state_dict())
    fits = cross_validate(factory.fresh, images(), RECIPE, device=CPU)
    names = {name.removeprefix("body.network.") for name in fits[0].state}
    assert {name for name in names if name.startswith("head.")} == {"head.2.weight", "head.2.bias"}
    norms = {"norm", *(f"blocks.{at}.{norm}" for at in range(6) for norm in ("norm1", "norm2"))}
    assert {name.rpartition(".")[0] for name in names if not name.startswith("head.")} == norms
    assert all(torch.equal(value, before[name]) for name, value in factory.body.state_dict().items())
    for name, value in fits[0].state.items():
        if not name.startswith("head."):
            assert not torch.equal(value, before[name.removeprefix("body.")]), name
    assert fits[0].history[-1].loss < fits[0].history[0].loss


def test_a_killed_training_ends_in_the_same_bytes(factory: TailFactory, tmp_path: Path) -> None:
    def train(folder: Path, **options: Any) -> Any:
        checkpoints = Checkpoints(folder, "key")
        return cross_validate(factory.fresh, images(), RECIPE, device=CPU, checkpoints=checkpoints, **options)

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", on_epoch=killed_at(1, 0))
    again = train(tmp_path / "broken")
    for fold, fitted in whole.items():
        assert all(torch.equal(value, again[fold].state[name]) for name, value in fitted.state.items())
    size = (tmp_path / "whole" / "checkpoint-0.safetensors").stat().st_size
    network = sum(t.numel() * t.element_size() for t in factory.body.state_dict().values())
    assert size < network / 5  # weights, moments and best epoch of the norms alone
