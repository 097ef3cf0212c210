"""The cut: prefix and body together are the network, in eval mode and in train mode, and share nothing with it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ffdi.errors import ParamsError
from ffdi.features.backbones import FrozenPrefix, build_network, cut_network, without_classifier

# network, cut, image size (224 where the network allows no other), shape of one crossing tensor
CUTS = [
    ("torchvision:mobilenet_v2", "features.16", 224, (160, 7, 7)),
    ("torchvision:wide_resnet50_2", "layer4", 224, (1024, 14, 14)),
    ("torchvision:resnet18", "layer3", 64, (128, 8, 8)),
    ("torchvision:efficientnet_b1", "features.6", 64, (112, 4, 4)),
    ("torchvision:convnext_tiny", "features.5", 64, (384, 4, 4)),
    ("torchvision:swin_t", "features.5", 64, (4, 4, 384)),
    ("timm:tf_efficientnet_lite0", "blocks.5", 224, (112, 14, 14)),
    ("timm:vit_tiny_patch16_224", "blocks.6", 224, (197, 192)),  # tokens, class token first
    ("timm:swin_tiny_patch4_window7_224", "layers.2", 224, (28, 28, 192)),
]


def pointers(module: nn.Module) -> set[int]:
    return {t.data_ptr() for t in module.state_dict().values() if t.numel()}


@pytest.mark.parametrize("headless", [False, True], ids=["classifier", "headless"])
@pytest.mark.parametrize(("name", "cut", "size", "shape"), CUTS, ids=[c[0].partition(":")[2] for c in CUTS])
def test_tail_of_prefix_is_the_network(name: str, cut: str, size: int, shape: tuple[int, ...], headless: bool) -> None:
    torch.manual_seed(0)
    network = build_network(name).eval()
    if headless:
        network = without_classifier(network, name)
    prefix, body = cut_network(network, cut)
    assert prefix is not None
    with torch.inference_mode():
        for batch in (1, 2):  # a traced graph could have frozen a batch size
            images = torch.randn(batch, 3, size, size)
            crossing = prefix(images)
            assert crossing.shape == (batch, *shape)
            torch.testing.assert_close(body.eval()(crossing), network(images), rtol=0, atol=0)


RANDOM = [
    pytest.param("convnext_atto", "stages.2", 64, id="convnext"),
    pytest.param("vit_tiny_patch16_224", "blocks.6", 224, id="vit"),
    # Its dropout is a function call with training=self.training: a graph of eval mode alone would lose it.
    pytest.param("tf_efficientnet_lite0", "blocks.5", 64, id="efficientnet"),
]


@pytest.mark.parametrize(("name", "cut", "size"), RANDOM)
def test_in_train_mode_the_tail_is_as_random_as_the_uncut_network(name: str, cut: str, size: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, drop_rate=0.3, drop_path_rate=0.3)
    prefix, body = cut_network(network, cut)
    assert prefix is not None
    with torch.no_grad():
        crossing = prefix(torch.randn(4, 3, size, size))

    def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        """From the cut on the uncut network sees the same tensor and the same stream of random numbers."""
        torch.manual_seed(7)
        return (crossing,)

    network.get_submodule(cut).register_forward_pre_hook(enter)
    expected = network.train()(torch.randn(4, 3, size, size))
    torch.manual_seed(7)
    torch.testing.assert_close(body.train()(crossing), expected, rtol=0, atol=0)
    for key, value in body.state_dict().items():  # running statistics moved alike
        assert torch.equal(value, network.state_dict()[key.removeprefix("network.")]), key
    torch.manual_seed(8)
    assert not torch.equal(body(crossing), expected)


def test_functional_dropout_beyond_the_cut_is_on_in_train_mode_alone() -> None:
    _, body = cut_network(timm.create_model("tf_efficientnet_lite0", drop_rate=0.9), "blocks.6")
    body.eval()
    crossing = torch.randn(1, 192, 2, 2)
    with torch.no_grad():
        assert torch.equal(body(crossing), body(crossing))
        body.network.eval()
        body.training = True  # every module in eval mode: only the function call's dropout is left
        assert not torch.equal(body(crossing), body(crossing))


def test_the_body_holds_tail_weights_alone_under_the_networks_names() -> None:
    network = build_network("torchvision:mobilenet_v2")
    prefix, body = cut_network(network, "features.16")
    assert prefix is not None
    tail = ("features.16.", "features.17.", "features.18.", "classifier.")
    names = set(network.state_dict())
    assert set(body.state_dict()) == {f"network.{n}" for n in names if n.startswith(tail)}
    assert {k.removeprefix("network.") for k in body.state_dict()} | set(prefix.state_dict()) == names


def test_prefix_body_and_network_share_no_tensor() -> None:
    network = build_network("torchvision:resnet18")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    prefix, body = cut_network(network, "layer3")
    assert prefix is not None
    assert not pointers(prefix) & pointers(body)
    assert not (pointers(prefix) | pointers(body)) & pointers(network)
    assert network.training, "cutting put the network in another mode"
    for p in body.parameters():
        p.data.fill_(1.0)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_the_prefix_is_frozen_and_the_body_is_not() -> None:
    prefix, body = cut_network(build_network("torchvision:resnet18"), "layer3")
    assert prefix is not None
    assert not any(p.requires_grad for p in prefix.parameters())
    assert not any(m.training for m in prefix.modules())
    assert all(p.requires_grad for p in body.parameters())


def test_a_copied_body_is_independent() -> None:
    """Every fold gets a deep copy: its graphs must run the copy's own modules."""
    _, body = cut_network(build_network("torchvision:resnet18"), "layer4")
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
    prefix, body = cut_network(network, "input")
    x = torch.randn(1, 3, 32, 32)
    assert prefix is None
    with torch.inference_mode():
        assert torch.equal(body.eval()(x), network(x))
    assert not pointers(body) & pointers(network)


@pytest.mark.parametrize(
    ("network", "cut", "says"),
    [
        ("mobilenet_v2", "feature.16", "features.16"),
        ("mobilenet_v2", "zzz", "input"),
        ("resnet18", "layer1.0.relu", "2 times"),
        ("resnet18", "conv1", "nothing comes before it"),
        ("resnet18", "layer1.0.conv2", "more than one tensor crosses"),  # inside a residual block
    ],
)
def test_what_is_no_cut_is_refused(network: str, cut: str, says: str) -> None:
    with pytest.raises(ParamsError, match=says) as error:
        cut_network(build_network(f"torchvision:{network}"), cut)
    assert repr(cut) in str(error.value) and "\n" not in str(error.value)


def test_a_module_that_is_never_called_is_no_cut() -> None:
    network = build_network("torchvision:resnet18")
    network.spare = nn.Linear(1, 1)
    with pytest.raises(ParamsError, match="0 times"):
        cut_network(network, "spare")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torchvision:mobilnet_v2", "mobilenet_v2"),
        ("timm:tf_efficientnet_lite", "tf_efficientnet_lite0"),
        ("mobilenet_v2", "torchvision:"),
    ],
)
def test_an_unknown_network_lists_close_names(name: str, says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        build_network(name)


@pytest.mark.parametrize(
    ("name", "width"),
    [("torchvision:mobilenet_v2", 1280), ("torchvision:convnext_tiny", 768), ("timm:tf_efficientnet_lite0", 1280)],
)
def test_without_classifier_gives_pooled_features_and_no_dropout(name: str, width: int) -> None:
    network = without_classifier(build_network(name), name).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).flatten(1).shape == (1, width)
    assert not [m for m in network.modules() if isinstance(m, nn.Dropout)]


def test_a_network_without_a_linear_classifier_is_refused() -> None:
    name = "torchvision:squeezenet1_1"
    with pytest.raises(ParamsError, match="no linear classifier"):
        without_classifier(build_network(name), name)


def test_normalisation_is_that_of_the_params() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
    frozen = FrozenPrefix(nn.Identity(), mean, std)
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    expected = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(frozen(images), expected)


def test_features_that_are_no_map_are_refused() -> None:
    prefix, _ = cut_network(build_network("timm:vit_tiny_patch16_224"), "blocks.6")
    assert prefix is not None
    with pytest.raises(ParamsError, match=r"\(197, 192\), not \(C, H, W\)"):
        FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3).feature_shape(224)
