"""Untrained bundles of small networks, made in memory."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from conftest import tiny_backbone

from ffdi.features.extractor import frozen_prefix, local_spec
from ffdi.features.networks import FrozenPrefix, headless_network
from ffdi.intake.decoding.images import RGB
from ffdi.tails.bundle import Bundle
from ffdi.tails.heads import TailFactory
from ffdi.tails.policy import Policy
from ffdi.tails.recipe import Head

VIT = {"network": "timm:test_vit", "network_args": {"img_size": 64}, "mean": (0.5,) * 3, "std": (0.5,) * 3}
LINEAR = Head("linear", dropout=0.0)


def untrained(head: Head = LINEAR, tails: int = 2, **changes: Any) -> Bundle:
    """Fresh tails behind the prefix of tiny_backbone(**changes), in float32."""
    torch.manual_seed(0)
    backbone = tiny_backbone(**({"dtype": "float32"} | changes))
    network = headless_network(backbone.network, backbone.network_args).eval()
    facts: dict[str, Any] = {"provenance": {"weights_sha256": "0" * 64, "weights": "random", "pretrained": False}}
    shape: tuple[int, ...] = (3, backbone.pixels.size, backbone.pixels.size)
    load = None
    if backbone.has_prefix:
        prefix = frozen_prefix(network, backbone)
        load = partial(_same, prefix)
        spec = local_spec(backbone, "0" * 64).of_cut(prefix.feature_shape(backbone.pixels.size), prefix.tokens)
        shape = spec.shape
        facts |= {} if spec.cut_grid is None else {"cut_grid": asdict(spec.cut_grid)}
    factory = TailFactory(network, backbone, head, shape)
    fresh = {fold: factory.fresh(fold).eval().requires_grad_(False) for fold in range(tails)}
    seen = pd.DataFrame({"image_id": [], "phash": []})
    return Bundle(backbone, load, fresh, Policy(0.5), 1.0, 0.5, seen, facts | {"shape": list(shape)})


def _same(prefix: FrozenPrefix) -> FrozenPrefix:
    return prefix


def with_tails(bundle: Bundle, *tails: Any) -> Bundle:
    """The same with other tails."""
    return replace(bundle, tails=dict(enumerate(tails)))


def noise(seed: int = 0, size: int = 64) -> RGB:
    """(size, size, 3) random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
