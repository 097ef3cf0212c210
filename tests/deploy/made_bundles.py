"""Bundles of small networks with random weights, made without a training: what exports are tested on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
from conftest import tiny_backbone
from torch import nn

from ffdi.features.extractor import as_computed, frozen_prefix, local_spec
from ffdi.features.networks import headless_network
from ffdi.features.random_weights import random_state
from ffdi.tails.bundle import Bundle
from ffdi.tails.ensemble import Ensemble
from ffdi.tails.heads import TailFactory
from ffdi.tails.policy import Policy
from ffdi.tails.recipe import Head
from ffdi.tails.record import record_hash
from ffdi.tails.stacking import Stack

MLP = Head("mlp", (8,), 0.2)
CNN: dict[str, Any] = {"network": "timm:test_efficientnet", "cut": "blocks.2", "image_size": 32}
VIT: dict[str, Any] = {"network": "timm:test_vit", "cut": "blocks.2", "network_args": {"img_size": 32, "depth": 4}}
VIT |= {"image_size": 32}
SEEN = pd.DataFrame({"image_id": ["a" * 64], "phash": ["0" * 16]})
POLICY = Policy(0.4, 0.25, 0.75, {"rule": "youden", "abstain_low": 0.25, "abstain_high": 0.75})


@lru_cache
def _network(name: str, network_args: str) -> nn.Module:
    """The network with weights that keep its features alive; bundles copy of it what they need."""
    b = tiny_backbone(network=name, network_args=json.loads(network_args))
    network = headless_network(name, b.network_args)
    network.load_state_dict(random_state(b, seed=1), strict=False)
    return network


def made_bundle(head: Head = MLP, folds: Sequence[int] = (0, 1), tta: Sequence[str] = (), **backbone: Any) -> Bundle:
    """A bundle of a backbone (changes of tiny_backbone) with random weights and heads, its scores spread over (0, 1)."""
    b = tiny_backbone(**(CNN | backbone))
    network = _network(b.network, json.dumps(b.network_args))
    prefix = frozen_prefix(network, b) if b.has_prefix else None
    spec = as_computed(local_spec(b, "0" * 64), b, lambda: prefix) if prefix else local_spec(b, "0" * 64)
    factory = TailFactory(network, b, head, spec.shape)
    tails = {fold: factory.fresh(fold).eval().requires_grad_(False) for fold in folds}
    record: dict[str, Any] = {
        "recipe": {"tta": list(tta)},
        "backbone": b.to_dict(),
        "shape": list(spec.shape),
        "provenance": {"weights": "random", "weights_sha256": "0" * 64, "pretrained": False, "data": "made"},
    }
    if spec.cut_grid:
        record["cut_grid"] = vars(spec.cut_grid)
    record["facts_sha256"] = record_hash(record)
    return Bundle(b, (lambda: prefix) if prefix else None, tails, POLICY, 0.5, 0.5, SEEN, record)


def made_ensemble(*members: Bundle) -> Ensemble:
    """Of unequal weights."""
    record = {"provenance": members[0].record["provenance"], "facts_sha256": "e" * 64, "stacking": "fitted"}
    named = {f"m{at}": member for at, member in enumerate(members)}
    return Ensemble(named, Stack((0.7, 0.6), 0.1), POLICY, 1.3, 0.5, SEEN, record)


@lru_cache
def cnn_bundle() -> Bundle:
    """Of a CNN with two tails."""
    return made_bundle()


@lru_cache
def vit_bundle() -> Bundle:
    """Of a vision transformer with two tails."""
    return made_bundle(**VIT)
