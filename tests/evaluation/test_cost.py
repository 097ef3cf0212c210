"""The cost of a recipe, counted by hand and against published figures."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Trained, tiny_backbone
from torch import nn

from ffdi.evaluation.cost import cost, count_flops
from ffdi.evaluation.evaluate import state_hash
from ffdi.features.backbone import Views
from ffdi.features.cuts import cut_network
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.networks import FrozenPrefix, headless_network
from ffdi.features.store import FeatureStore
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.heads import Tail, TailFactory, TransformerHead
from ffdi.tails.policy import Policy
from ffdi.tails.recipe import Head

THIRD = (0.5, 0.5, 0.5)
LINEAR = Head("linear", (), 0.0, 1, 1, 1)


def bundle_of(prefix: nn.Module | None, tails: list[Tail], **backbone: Any) -> Bundle:
    load = partial(FrozenPrefix, prefix, THIRD, THIRD) if prefix else None
    seen = pd.DataFrame({"image_id": [], "phash": []})
    return Bundle(tiny_backbone(**backbone), load, dict(enumerate(tails)), Policy(0.5), 1.0, 0.5, seen, {})


def spec_of(shape: tuple[int, ...], dtype: str) -> FeatureSpec:
    return FeatureSpec("tiny", "torchvision:mobilenet_v2", "features.16", "ab", 8, shape, dtype, {})


@pytest.mark.parametrize(("dtype", "size"), [("float16", 128), ("float32", 256), ("int8", 64 + 4 * 4)])
def test_a_tiny_network_by_hand(dtype: str, size: int) -> None:
    """A convolution from 3x8x8 to 4x4x4 and two tails with a linear layer from 64 to 2."""
    tails = [Tail(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), None) for _ in range(2)]
    bundle = bundle_of(nn.Conv2d(3, 4, 3, stride=2, padding=1), tails, image_size=8, views=Views(3))
    assert cost(bundle, spec_of((4, 4, 4), dtype)) == {
        "parameters_prefix": 4 * 27 + 4,
        "parameters_tail": 64 * 2 + 2,
        "flops_prefix": 2 * 27 * 4 * 16,  # each of 64 outputs is 27 multiplications and additions
        "flops_tail": 2 * 64 * 2,
        "flops_per_image": 3456 + 2 * 256,
        "bytes_per_image": size,
        "views_per_image": 4,
    }


def test_attention_is_counted() -> None:
    """Tokens of 3 channels: 4 places and the class token; width 8 in two heads of 4, MLP ratio 2, one block."""
    head = TransformerHead((3, 2, 2), Head("transformer", (), 0.0, 1, 2, 8))
    found = cost(
        bundle_of(nn.Identity(), [Tail(nn.Identity(), head, None)], image_size=8), spec_of((3, 2, 2), "float16")
    )
    project, qkv, out, mlp, logits = 4 * 3 * 8, 5 * 8 * 24, 5 * 8 * 8, 2 * 5 * 8 * 16, 8 * 2
    attention = 2 * (2 * 5 * 5 * 4)  # queries by keys and weights by values, in each of two heads
    assert found["flops_tail"] == 2 * (project + qkv + attention + out + mlp + logits)
    assert found["flops_prefix"] == 0


@pytest.mark.parametrize("cut", ["features.16", "features.3", "input"])
def test_prefix_and_tail_are_the_published_network(cut: str) -> None:
    """MobileNetV2 at 224: 3 504 872 parameters and 300 774 272 multiplications with its classifier from 1280 to 1000."""
    network = headless_network("torchvision:mobilenet_v2")
    prefix = cut_network(network, cut, 224)[0]
    shape = FrozenPrefix(prefix, THIRD, THIRD).feature_shape(224) if prefix else (3, 224, 224)
    backbone = {"cut": cut, "image_size": 224}
    tail = TailFactory(network, tiny_backbone(**backbone), LINEAR, shape).fresh(0)
    found = cost(bundle_of(prefix, [tail], **backbone), spec_of(shape, "float16" if prefix else "uint8"))
    parameters, flops = (int(found[f"{what}_prefix"] or 0) for what in ("parameters", "flops"))
    assert (parameters > 0, flops > 0) == (cut != "input", cut != "input")
    assert parameters + int(found["parameters_tail"] or 0) == 3_504_872 - 1281 * 1000 + 1281 * 2
    assert found["flops_per_image"] == flops + int(found["flops_tail"] or 0) == 2 * (300_774_272 - 1280 * 998)
    assert found["bytes_per_image"] == {"features.16": 160 * 49 * 2, "features.3": 24 * 56 * 56 * 2}.get(
        cut, 3 * 224**2
    )


def test_counting_changes_nothing(trained: Trained) -> None:
    bundle, spec = load_bundle(trained.model), FeatureStore(trained.features).spec
    before = state_hash(bundle)
    first = cost(bundle, spec)
    assert state_hash(bundle) == before and cost(bundle, spec) == first
    assert {p.device for tail in bundle.tails.values() for p in tail.parameters()} == {torch.device("cpu")}
    assert first["flops_per_image"] == int(first["flops_prefix"] or 0) + 3 * int(first["flops_tail"] or 0)


class AsksForValues(nn.Module):
    """Attention behind code that does not run on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.device.type != "cpu" or float(x.sum()) == 0
        x = x[:, : int(torch.full((1,), len(x[0]), device="cpu").item())] + torch.zeros(1, device="cpu")
        return self.attention(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]


def test_code_that_does_not_run_on_meta_is_counted_on_the_cpu() -> None:
    tokens = torch.zeros(1, 5, 8)
    plain = nn.MultiheadAttention(8, 2, batch_first=True)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = plain

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]

    projections, out = 2 * 5 * 8 * 24, 2 * 5 * 8 * 8
    scores_and_values = 2 * 2 * 2 * 5 * 5 * 4
    assert count_flops(AsksForValues(), tokens) == count_flops(Plain(), tokens) == projections + out + scores_and_values
