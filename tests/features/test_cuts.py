"""The cut: prefix and body together are the network, in eval mode and in train mode, and share nothing with it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from fake_cuda import FakeCuda
from torch import Tensor, nn
from torchvision import models

from ffdi.errors import ParamsError
from ffdi.features.cuts import cut_network
from ffdi.features.networks import FrozenPrefix, build_network, without_classifier

# network, cut, image size (224 where the network allows no other), shape of one crossing tensor
CUTS = [
    ("torchvision:mobilenet_v2", "features.16", 224, (160, 7, 7)),
    ("torchvision:wide_resnet50_2", "layer4", 224, (1024, 14, 14)),
    ("torchvision:resnet18", "layer3", 64, (128, 8, 8)),
    ("torchvision:efficientnet_b1", "features.6", 64, (112, 4, 4)),
    ("torchvision:convnext_tiny", "features.5", 64, (384, 4, 4)),
    ("torchvision:swin_t", "features.5", 64, (384, 4, 4)),
    ("timm:tf_efficientnet_lite0", "blocks.5", 224, (112, 14, 14)),
    ("timm:vit_tiny_patch16_224", "blocks.6", 224, (197, 192)),  # tokens, class token first
    ("timm:swin_tiny_patch4_window7_224", "layers.2", 224, (192, 28, 28)),
    ("timm:vit_tiny_r_s16_p8_224", "patch_embed.proj", 224, (64, 56, 56)),  # after its CNN
    ("timm:vit_tiny_r_s16_p8_224", "blocks.6", 224, (50, 192)),
]


def pointers(module: nn.Module) -> set[int]:
    return {t.data_ptr() for t in module.state_dict().values() if t.numel()}


@pytest.mark.parametrize("headless", [False, True], ids=["classifier", "headless"])
@pytest.mark.parametrize(("name", "cut", "size", "shape"), CUTS, ids=[f"{c[0]}-{c[1]}" for c in CUTS])
def test_tail_of_prefix_is_the_network(name: str, cut: str, size: int, shape: tuple[int, ...], headless: bool) -> None:
    torch.manual_seed(0)
    network = build_network(name).eval()
    if headless:
        network = without_classifier(network, name)
    prefix, body = cut_network(network, cut, size)
    assert prefix is not None
    with torch.inference_mode():
        for batch in (1, 2):  # a traced graph could have frozen a batch size
            images = torch.randn(batch, 3, size, size)
            crossing = prefix(images)
            assert crossing.shape == (batch, *shape)
            torch.testing.assert_close(body.eval()(crossing), network(images), rtol=0, atol=0)


TIMM = {"drop_rate": 0.3, "drop_path_rate": 0.3}
RANDOM: list[tuple[str, str, int, dict[str, Any]]] = [
    ("torchvision:mobilenet_v2", "features.16", 64, {"dropout": 0.3}),
    ("torchvision:efficientnet_b1", "features.6", 64, {"dropout": 0.3, "stochastic_depth_prob": 0.3}),
    ("torchvision:convnext_tiny", "features.5", 64, {"stochastic_depth_prob": 0.3}),
    ("torchvision:swin_t", "features.5", 64, {"dropout": 0.3, "attention_dropout": 0.3}),
    ("timm:vit_tiny_patch16_224", "blocks.6", 224, TIMM),
    ("timm:vit_tiny_r_s16_p8_224", "patch_embed.proj", 224, TIMM),
    ("timm:vit_tiny_r_s16_p8_224", "blocks.6", 224, TIMM),
    ("timm:swin_tiny_patch4_window7_224", "layers.2", 224, TIMM),
    # Its dropout is a function call with training=self.training: a graph of eval mode alone would lose it.
    ("timm:tf_efficientnet_lite0", "blocks.5", 64, TIMM),
    ("timm:convnext_atto", "stages.2", 64, TIMM),
    ("timm:resnet26", "layer4", 64, TIMM),
]


@pytest.mark.parametrize(("name", "cut", "size", "rates"), RANDOM, ids=[f"{c[0]}-{c[1]}" for c in RANDOM])
def test_in_train_mode_the_tail_is_as_random_as_the_uncut_network(
    name: str, cut: str, size: int, rates: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    source, _, model = name.partition(":")
    network = timm.create_model(model, **rates) if source == "timm" else models.get_model(model, weights=None, **rates)
    prefix, body = cut_network(network, cut, size)
    assert prefix is not None
    with torch.no_grad():
        crossing = prefix(torch.randn(4, 3, size, size))

    def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        """From the cut on the uncut network sees the same tensor and the same stream of random numbers."""
        torch.manual_seed(7)
        return (crossing.permute(0, 2, 3, 1).contiguous() if "swin" in name else crossing,)

    network.get_submodule(cut).register_forward_pre_hook(enter)
    expected = network.train()(torch.randn(4, 3, size, size))
    torch.manual_seed(7)
    torch.testing.assert_close(body.train()(crossing), expected, rtol=0, atol=0)
    for key, value in body.state_dict().items():  # running statistics moved alike
        assert torch.equal(value, network.state_dict()[key.removeprefix("network.")]), key
    torch.manual_seed(8)
    assert not torch.equal(body(crossing), expected)


def test_functional_dropout_beyond_the_cut_is_on_in_train_mode_alone() -> None:
    _, body = cut_network(timm.create_model("tf_efficientnet_lite0", drop_rate=0.9), "blocks.6", 64)
    body.eval()
    crossing = torch.randn(1, 192, 2, 2)
    with torch.no_grad():
        assert torch.equal(body(crossing), body(crossing))
        body.network.eval()
        body.training = True  # every module in eval mode: only the function call's dropout is left
        assert not torch.equal(body(crossing), body(crossing))


def test_the_body_holds_tail_weights_alone_under_the_networks_names() -> None:
    network = build_network("torchvision:mobilenet_v2")
    prefix, body = cut_network(network, "features.16", 64)
    assert prefix is not None
    tail = ("features.16.", "features.17.", "features.18.", "classifier.")
    names = set(network.state_dict())
    assert set(body.state_dict()) == {f"network.{n}" for n in names if n.startswith(tail)}
    assert {k.removeprefix("network.") for k in body.state_dict()} | set(prefix.state_dict()) == names


def test_prefix_body_and_network_share_no_tensor() -> None:
    network = build_network("torchvision:resnet18")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    prefix, body = cut_network(network, "layer3", 64)
    assert prefix is not None
    assert not pointers(prefix) & pointers(body)
    assert not (pointers(prefix) | pointers(body)) & pointers(network)
    assert network.training, "cutting put the network in another mode"
    for p in body.parameters():
        p.data.fill_(1.0)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_the_prefix_is_frozen_and_the_body_is_not() -> None:
    prefix, body = cut_network(build_network("torchvision:resnet18"), "layer3", 64)
    assert prefix is not None
    assert not any(p.requires_grad for p in prefix.parameters())
    assert not any(m.training for m in prefix.modules())
    assert all(p.requires_grad for p in body.parameters())


def test_a_copied_body_is_independent() -> None:
    """Every fold gets a deep copy: its graphs must run the copy's own modules."""
    _, body = cut_network(build_network("torchvision:resnet18"), "layer4", 64)
    twin = copy.deepcopy(body).eval()
    x = torch.randn(1, 256, 2, 2)
    with torch.no_grad():
        before = body.eval()(x)
        for p in twin.parameters():
            p.zero_()
        assert torch.equal(body(x), before)
        assert not torch.equal(twin(x), before)


def test_cut_input_is_an_empty_prefix() -> None:
    network = build_network("torchvision:resnet18").eval()
    prefix, body = cut_network(network, "input", 64)
    x = torch.randn(1, 3, 32, 32)
    assert prefix is None
    with torch.inference_mode():
        assert torch.equal(body.eval()(x), network(x))
    assert not pointers(body) & pointers(network)


def test_cutting_leaves_the_network_as_it_was() -> None:
    network = build_network("timm:tf_efficientnet_lite0")
    network.bn1.eval()  # type: ignore[union-attr, operator]
    modes = [m.training for m in network.modules()]
    before, attributes = copy.deepcopy(network.state_dict()), set(vars(network))
    with pytest.raises(ParamsError):
        cut_network(network, "conv_stem", 64)
    cut_network(network, "bn1.act", 64)  # traces through a batch norm that counts its batches
    assert [m.training for m in network.modules()] == modes and set(vars(network)) == attributes
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_module_that_is_never_called_is_no_cut() -> None:
    network = build_network("torchvision:resnet18")
    network.spare = nn.Linear(1, 1)
    with pytest.raises(ParamsError, match="0 times"):
        cut_network(network, "spare", 64)


@pytest.mark.parametrize(
    ("name", "cut"), [("timm:vit_tiny_patch16_224", "blocks.6"), ("timm:swin_tiny_patch4_window7_224", "layers.2")]
)
def test_no_part_of_a_transformer_stays_behind_on_the_cpu(name: str, cut: str, fake_cuda: FakeCuda) -> None:
    """Tables of positions, masks and windows are made at the cut, or on the way: all on the device."""
    network = without_classifier(build_network(name), name)
    prefix, body = cut_network(network, cut, 224)
    assert prefix is not None
    frozen, device = FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3).to("cuda"), torch.device("cuda:0")
    body.to("cuda")
    images = torch.zeros(1, 224, 224, 3, dtype=torch.uint8).to("cuda")
    with torch.no_grad():
        features = frozen(images)
        assert features.device == body.eval()(features).device == body.train()(features).device == device
