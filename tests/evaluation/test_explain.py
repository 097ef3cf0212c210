"""Grad-CAM of tails whose map is known by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained, tiny_backbone
from torch import Tensor, nn

from ffdi.evaluation.evaluate import state_hash
from ffdi.evaluation.explain import grad_cam
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.keep import TokenGrid
from ffdi.features.store import FeatureStore
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.heads import Tail
from ffdi.tails.policy import Policy

# (1, 2 channels, 1, 2 places)
MAPS = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
FAKE, REAL = np.array([True]), np.array([False])


def linear(fake: list[float], real: list[float]) -> Tail:
    """Logits that are sums of the map's four values with these weights."""
    layer = nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor([real, fake], dtype=torch.float32)
    return Tail(nn.Identity(), nn.Sequential(nn.Flatten(), layer), None)


def bundle_of(*tails: Tail, cut: str = "features.16") -> Bundle:
    seen = pd.DataFrame({"image_id": [], "phash": []})
    return Bundle(tiny_backbone(cut=cut), None, dict(enumerate(tails)), Policy(0.5), 1.0, 0.5, seen, {})


def test_the_map_by_hand() -> None:
    """Margin weights 1, 3 and -2, 0: channel means 2 and -1. Places 2 x 1 - 3 = -1 and 2 x 2 - 0 = 4."""
    bundle = bundle_of(linear([2, 4, -1, -1], [1, 1, 1, -1]))
    fake, real = (grad_cam(bundle, MAPS, fake=sign) for sign in (FAKE, REAL))
    assert fake is not None and real is not None and fake.dtype == np.float64
    assert fake.tolist() == [[[0, 1]]]  # what spoke against is cut off, the rest scaled to 4
    assert real.tolist() == [[[1, 0]]]  # the other sign: 1 and -4


class Squared(nn.Module):
    """Logits 0 and the sum of all squares: each value's gradient is twice itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), (x * x).flatten(1).sum(1)], 1)


def spec_of(shape: tuple[int, ...], keep: Any, grid: TokenGrid | None) -> FeatureSpec:
    return FeatureSpec("b", "timm:x", "blocks.1", "", 64, (), "float32", {"keep": keep}).of_cut(shape, grid)


def test_the_places_of_tokens_make_a_map() -> None:
    """The same values as a map and as tokens behind two that have no place: one map."""
    maps = torch.arange(12.0).reshape(1, 2, 2, 3)
    tokens = torch.cat([torch.full((1, 2, 2), 100.0), maps.flatten(2).transpose(1, 2)], 1)
    bundle = bundle_of(Tail(nn.Identity(), Squared(), None))
    due = grad_cam(bundle, maps, fake=FAKE)
    found = grad_cam(bundle, tokens, fake=FAKE, spec=spec_of((8, 2), "all", TokenGrid(2, 2, 3)))
    assert due is not None and found is not None and found.tolist() == due.tolist() and found.shape == (1, 2, 3)


@pytest.mark.parametrize("kind", ["tokens", "map"])
def test_the_map_of_a_region_is_put_in_its_place(kind: str) -> None:
    region = {"rows": [1, 2], "columns": [0, 2]}
    maps = torch.arange(4.0).reshape(1, 2, 1, 2)
    features = maps if kind == "map" else maps.flatten(2).transpose(1, 2)
    spec = spec_of((2, 2, 3), region, None) if kind == "map" else spec_of((7, 2), region, TokenGrid(1, 2, 3))
    bundle = bundle_of(Tail(nn.Identity(), Squared(), None))
    due, found = grad_cam(bundle, maps, fake=FAKE), grad_cam(bundle, features, fake=FAKE, spec=spec)
    assert due is not None and found is not None and due.max() == 1
    assert found.tolist() == [[[0, 0, 0], [*due[0, 0], 0]]]


def test_every_image_has_its_own_sign_and_scale() -> None:
    """The same channel means: places of 2 x 4 - 0 and 2 x 1 - 0 for fake; of -(2 x 1 - 6) and -(2 x 1 - 3) for real."""
    maps = torch.tensor([[[[4.0, 1.0]], [[0.0, 0.0]]], [[[1.0, 1.0]], [[6.0, 3.0]]]])
    found = grad_cam(bundle_of(linear([1, 3, -2, 0], [0] * 4)), maps, fake=np.array([True, False]))
    assert found is not None and found.tolist() == [[[1, 0.25]], [[1, 0.25]]]


def test_the_tails_are_averaged_each_by_its_own_largest() -> None:
    """The second tail looks at channel 1 alone, a hundred times as strongly: places 300 and 0."""
    found = grad_cam(bundle_of(linear([1, 3, -2, 0], [0] * 4), linear([0, 0, 100, 100], [0] * 4)), MAPS, fake=FAKE)
    assert found is not None and found.tolist() == [[[0.5, 0.5]]]


def test_a_map_that_speaks_nowhere_for_it_is_zero() -> None:
    found = grad_cam(bundle_of(linear([-1, -1, 0, 0], [0] * 4)), MAPS, fake=FAKE)
    assert found is not None and found.tolist() == [[[0, 0]]]


def test_the_gradient_is_taken_at_the_image() -> None:
    """Fake = square of the sum of channel 0: its gradient is 2 x 3 there and 0 in channel 1; the map is 6 and 12."""

    class SquaredSum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.zeros(len(x)), x[:, 0].sum(dim=(1, 2)) ** 2], dim=1)

    found = grad_cam(bundle_of(Tail(nn.Identity(), SquaredSum(), None)), MAPS, fake=FAKE)
    assert found is not None and found.tolist() == [[[0.5, 1]]]
    found = grad_cam(bundle_of(Tail(nn.Identity(), SquaredSum(), None)), -MAPS, fake=FAKE)
    assert found is not None and found.tolist() == [[[0.5, 1]]]  # -6 x -1 and -6 x -2


def test_without_a_map_there_is_none() -> None:
    tail = linear([1, 1, 1, 1], [0] * 4)
    assert grad_cam(bundle_of(tail), torch.zeros(1, 2, 2), fake=FAKE) is None  # tokens of which no grid is known
    assert grad_cam(bundle_of(tail), torch.zeros(1, 4), fake=FAKE, spec=spec_of((2, 2, 2), "mean", None)) is None
    assert grad_cam(bundle_of(tail, cut="input"), MAPS, fake=FAKE) is None


def test_a_trained_bundle_is_explained_and_left_alone(trained: Trained, tiny: Tiny) -> None:
    bundle, store = load_bundle(trained.model), FeatureStore(trained.features)
    rows = tiny.rows[tiny.rows["role"] == "test"].head(4)
    features = torch.from_numpy(store.read([(i, 0) for i in rows["image_id"]]))
    kept, before = features.clone(), state_hash(bundle)
    found = grad_cam(bundle, features, fake=np.array(rows["label"] == 1))
    assert found is not None and found.shape == (4, 2, 2)
    assert (found >= 0).all() and (found <= 1).all() and found.max() > 0.3
    assert state_hash(bundle) == before and torch.equal(features, kept)
    for tail in bundle.tails.values():
        assert not tail.training and all(p.grad is None and not p.requires_grad for p in tail.parameters())
    alone = grad_cam(bundle, features[2:3], fake=np.array(rows["label"] == 1)[2:3])
    np.testing.assert_allclose(alone, found[2:3], atol=1e-5)
