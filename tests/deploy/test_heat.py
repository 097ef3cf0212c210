"""Where a decision came from: at the cut, before a pooling, in a whole network, and carried back by attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from small_bundles import VIT, noise, untrained, with_tails
from torch import Tensor, nn

from ffdi.deploy.explanation.attention import RecordedAttention, rollout
from ffdi.deploy.explanation.heat import heat_of
from ffdi.evaluation.evaluate import state_hash
from ffdi.evaluation.explain import grad_cam
from ffdi.tails.heads import Tail


def test_rollout_by_hand() -> None:
    """Layers (A + I) / 2: [[1/2, 1/2], [0, 1]] first, then [[3/4, 1/4], [1/4, 3/4]]; the later one is on the left."""
    first, second = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), torch.tensor([[[0.5, 0.5], [0.5, 0.5]]])
    found = rollout([first, second], 2)
    assert found is not None and found.tolist() == [[0.375, 0.625], [0.125, 0.875]]
    assert rollout([], 2) is None and rollout([first], 3) is None
    assert rollout([first, torch.zeros(4, 1, 1)], 2) is None  # attention in windows


@pytest.mark.parametrize("kind", ["timm", "torch"])
def test_the_attention_of_each_layer_is_recorded_and_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "timm":
        network: nn.Module = timm.create_model("test_vit", img_size=64, num_classes=0).eval()
        given: tuple[Tensor, ...] = (torch.randn(1, 3, 64, 64),)
        depth, tokens = len(network.blocks), 17  # type: ignore[arg-type]
    else:
        network, depth, tokens = nn.MultiheadAttention(8, 2, batch_first=True).eval(), 1, 5
        given = (torch.randn(1, 5, 8),) * 3

    def run() -> Any:
        return network(*given, need_weights=False)[0] if kind == "torch" else network(*given)

    with torch.no_grad():
        due = run()
        with RecordedAttention() as recorded:
            found = run()
    torch.testing.assert_close(found, due, atol=1e-5, rtol=1e-5)
    assert [tuple(layer.shape) for layer in recorded.weights] == [(1, tokens, tokens)] * depth
    for layer in recorded.weights:
        torch.testing.assert_close(layer.sum(dim=2), torch.ones(1, tokens))
    if kind == "torch":
        weights = network(*given, need_weights=True)[1]
    else:
        attention = network.blocks[0].attn  # type: ignore[index, union-attr]
        attention.fused_attn, seen = False, []
        attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output.mean(dim=1)))
        network(*given)
        weights = seen[0]
    torch.testing.assert_close(recorded.weights[0], weights.detach())


def test_at_a_map_it_is_grad_cam_on_the_features() -> None:
    bundle = untrained(cut="features.16")
    before, square = state_hash(bundle), noise()
    assert bundle.prefix is not None
    features = bundle.prefix(torch.from_numpy(square)[None])
    for fake in (True, False):
        found, due = heat_of(bundle, square, fake=fake), grad_cam(bundle, features, fake=np.array([fake]))
        assert found is not None and due is not None and found.method == "Grad-CAM at features.16"
        np.testing.assert_allclose(found.map, due[0], atol=1e-5)
    assert state_hash(bundle) == before


@pytest.mark.parametrize("keep", ["mean", {"rows": [1, 3], "columns": [0, 2]}], ids=["mean", "region"])
def test_what_a_bundle_keeps_of_a_map_still_has_its_places(keep: Any) -> None:
    bundle, square = untrained(cut="features.14", keep=keep), noise()
    heats = [heat_of(bundle, square, fake=fake) for fake in (True, False)]
    both = np.sum([heat.map for heat in heats if heat], axis=0)  # a random tail may find nothing for one side
    assert both.shape == (4, 4) and both[1:3, :2].max() > 0
    if keep != "mean":
        assert both[0].max() == both[3].max() == both[:, 2:].max() == 0  # not read: no heat


def test_of_several_cuts_the_last_one_is_shown() -> None:
    heat = heat_of(untrained(cut=("features.14", "features.16")), noise(), fake=True)
    assert heat is not None and heat.method == "Grad-CAM at features.16" and heat.map.shape == (2, 2)


class FirstToken(nn.Module):
    """Fake = the sum of the squares of the token number `at`, or of (1, C) features."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        token = x[:, self.at] if x.ndim == 3 else x
        return torch.stack([torch.zeros(len(x)), token.square().sum(dim=1)], dim=1)


@pytest.mark.parametrize("keep", ["all", "cls"])
def test_what_a_token_counted_is_carried_back_to_where_it_came_from(keep: str) -> None:
    """A tail that reads the class token alone: the heat is that token's row of the rollout of the blocks before the cut."""
    bundle = with_tails(untrained(cut="blocks.2", keep=keep, **VIT), Tail(nn.Identity(), FirstToken(0), None))
    square = noise()
    assert bundle.prefix is not None
    with RecordedAttention() as recorded:
        bundle.prefix(torch.from_numpy(square)[None])
    whole = rollout(recorded.weights, 17)
    assert len(recorded.weights) == 2 and whole is not None
    due = whole[0, 1:].reshape(4, 4)
    heat = heat_of(bundle, square, fake=True)
    assert heat is not None and heat.method.endswith("the tokens at blocks.2, carried back by attention rollout")
    np.testing.assert_allclose(heat.map, due / due.max(), atol=1e-4)


def test_without_attention_before_the_cut_the_tokens_are_shown_themselves() -> None:
    bundle = with_tails(untrained(cut="blocks.0", **VIT), Tail(nn.Identity(), FirstToken(6), None))
    heat = heat_of(bundle, noise(), fake=True)
    assert heat is not None and heat.method == "Grad-CAM of the tokens at blocks.0"
    assert heat.map[1, 1] == 1 and heat.map.sum() == 1  # token 6 = class token + 5 patches: row 1, column 1


def test_behind_the_pooling_the_last_map_before_it_is_shown() -> None:
    heat = heat_of(untrained(cut="classifier"), noise(), fake=True)
    assert heat is not None and heat.map.shape == (2, 2) and heat.method.startswith("Grad-CAM at features")


@pytest.mark.parametrize("changes", [{}, VIT], ids=["cnn", "vit"])
def test_a_whole_network_is_explained_at_its_last_places(changes: dict[str, Any]) -> None:
    heat = heat_of(untrained(cut="input", **changes), noise(), fake=True)
    assert heat is not None and heat.map.max() > 0
    assert heat.map.shape == ((4, 4) if changes else (2, 2))
    assert ("attention rollout" in heat.method) == bool(changes)


def test_a_network_without_places_has_no_heat() -> None:
    whole = untrained(cut="input")
    tail = Tail(nn.Flatten(), nn.Linear(3 * 64 * 64, 2), ((0.5,) * 3, (0.5,) * 3))
    assert heat_of(with_tails(whole, tail), noise(), fake=True) is None


def test_channels_last_maps_are_maps() -> None:
    """A body that hands on (1, H, W, C), as Swin does, with channel 0 alone read."""

    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(x, 16).permute(0, 2, 3, 1)

    class Head(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.zeros(len(x)), x[..., 0].sum(dim=(1, 2))], dim=1)

    body = nn.Sequential(Last(), nn.Identity())
    bundle = with_tails(untrained(cut="input"), Tail(body, Head(), ((0.0,) * 3, (1.0,) * 3), channels_last=False))
    square = np.zeros((64, 64, 3), np.uint8)
    square[:16, 16:32, 0] = 255
    heat = heat_of(bundle, square, fake=True)
    assert heat is not None and heat.map.shape == (4, 4) and heat.map[0, 1] == 1 and heat.map.sum() == 1
