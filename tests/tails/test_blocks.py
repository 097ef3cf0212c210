"""What counts as a block of a body, in order of execution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ffdi.features.cuts import cut_network
from ffdi.features.networks import headless_network
from ffdi.tails.blocks import blocks_in_order, is_norm
from ffdi.tails.heads import Tail

IMAGE = torch.zeros(1, 3, 64, 64)


def blocks(network: str, cut: str = "input", size: int = 64) -> list[str]:
    """The blocks as the network names their modules."""
    prefix, body = cut_network(headless_network(network), cut, size)
    with torch.no_grad():
        features = IMAGE if prefix is None else prefix(IMAGE)
    found = blocks_in_order(Tail(body, nn.Flatten(), None), features)
    return ["+".join(name.removeprefix("body.network.") for name in block) for block in found]


@pytest.mark.parametrize(
    ("network", "cut", "due"),
    [
        ("torchvision:mobilenet_v2", "features.16", ["features.16", "features.17", "features.18"]),
        ("torchvision:resnet18", "layer3", ["layer3.0", "layer3.1", "layer4.0", "layer4.1"]),
        ("torchvision:mobilenet_v2", "features.17.conv.2", ["features.17", "features.18"]),  # what is left of a block
        ("timm:test_efficientnet", "blocks.3", ["blocks.3.0", "blocks.4.0", "conv_head+bn2"]),
        ("timm:test_resnet", "layer3", ["layer3.0", "layer4.0"]),
        ("timm:test_convnext", "stages.3", ["stages.3.downsample", "stages.3.blocks.0", "stages.3.blocks.1+head"]),
    ],
)
def test_the_blocks_of_networks(network: str, cut: str, due: list[str]) -> None:
    assert blocks(network, cut) == due


@pytest.mark.parametrize(
    ("network", "size", "count", "last"),
    [
        ("timm:test_vit", 160, 7, "blocks.5+norm"),
        pytest.param("torchvision:googlenet", 64, 12, "inception5b", marks=pytest.mark.long),  # parallel branches
        pytest.param(
            "torchvision:vit_b_32", 224, 13, "encoder.layers.encoder_layer_11+encoder.ln", marks=pytest.mark.long
        ),
        pytest.param("torchvision:swin_t", 224, 16, "features.7.1+norm", marks=pytest.mark.long),
        pytest.param("torchvision:vgg11_bn", 64, 10, "classifier.3", marks=pytest.mark.long),
        pytest.param("timm:vit_base_patch16_siglip_224", 224, 14, "attn_pool", marks=pytest.mark.long),
    ],
)
def test_whole_networks(network: str, size: int, count: int, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.IMAGE", torch.zeros(1, 3, size, size))
    found = [name for name in blocks(network, size=size) if not name.startswith("aux")]
    assert (len(found), found[-1]) == (count, last)


class _Odd(nn.Module):
    """Its layers run in another order than they are defined; a norm comes first, and one layer is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 3)
        self.first = nn.Linear(3, 3)
        self.begin = nn.LayerNorm(3)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(self.begin(x)))  # type: ignore[no-any-return]


def test_the_order_is_that_of_execution_and_the_tail_stays_as_it_was() -> None:
    tail = Tail(_Odd(), nn.Dropout(0.5), None)
    tail.body.first.eval()
    modes, state = [m.training for m in tail.modules()], torch.random.get_rng_state()
    assert blocks_in_order(tail, torch.zeros(1, 3)) == [("body.begin", "body.first"), ("body.last",)]
    assert modes == [m.training for m in tail.modules()]
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(m._forward_pre_hooks for m in tail.modules())


def test_norms_are_known_by_their_kind() -> None:
    from timm.layers import BatchNormAct2d, LayerNorm2d, RmsNorm
    from torchvision.ops import Conv2dNormActivation

    norms = [nn.LayerNorm(3), nn.BatchNorm2d(3), nn.GroupNorm(1, 3), BatchNormAct2d(3), LayerNorm2d(3), RmsNorm(3)]
    assert all(map(is_norm, norms))
    assert not any(
        map(is_norm, [nn.Linear(3, 3), Conv2dNormActivation(3, 3), nn.LayerNorm(3, elementwise_affine=False)])
    )
