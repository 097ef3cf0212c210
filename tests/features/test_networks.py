"""Networks by name, without their classifier, frozen with their normalisation."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from ffdi.errors import ParamsError
from ffdi.features.cuts import cut_network
from ffdi.features.networks import FrozenPrefix, build_network, headless_network, without_classifier


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
    with pytest.raises(ParamsError, match="no linear classifier"):
        without_classifier(nn.Sequential(nn.Conv2d(3, 4, 1)), "torchvision:none")


def test_of_squeezenets_convolution_the_pooling_is_left() -> None:
    network = build_network("torchvision:squeezenet1_1").eval()
    headless = without_classifier(copy.deepcopy(network), "torchvision:squeezenet1_1")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(headless(images), network.features(images).mean((2, 3)))  # type: ignore[operator]
    assert not [key for key in headless.state_dict() if key.startswith("classifier")]


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_auxiliary_classifiers_go_as_well_and_pixels_are_as_the_weights_want_them(name: str) -> None:
    """Built as torchvision builds it with its weights; in train mode it gives one tensor, as in eval mode."""
    network = headless_network(f"torchvision:{name}")
    assert not [key for key in network.state_dict() if "aux" in key.lower()]
    theirs = models.get_model(name, weights=None, transform_input=True, init_weights=False)
    theirs.load_state_dict(network.state_dict(), strict=False)
    theirs.fc = nn.Identity()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        pooled = network.eval()(images)
        torch.testing.assert_close(pooled, theirs.eval()(images))
        assert network.train()(images).shape == pooled.shape
    assert not [m for m in network.modules() if isinstance(m, nn.Dropout)]


def test_mnasnet_loads_from_a_plain_state() -> None:
    network = headless_network("torchvision:mnasnet0_5")
    for twin in (network, copy.deepcopy(network)):
        twin.load_state_dict(dict(network.state_dict()))
    twin.layers[0].weight.data += 1  # type: ignore[index, union-attr, operator]
    twin.load_state_dict(dict(network.state_dict()))  # of the copy itself, not of the network that it is a copy of
    assert torch.equal(twin.state_dict()["layers.0.weight"], network.state_dict()["layers.0.weight"])


def test_arguments_reach_the_network() -> None:
    network = build_network("timm:vit_tiny_patch16_224", {"img_size": [32, 32], "depth": 1, "global_pool": "avg"})
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 1000) and len(network.blocks) == 1  # type: ignore[arg-type]
    assert build_network("torchvision:mobilenet_v2", {"width_mult": 0.35}).last_channel == 1280
    assert not build_network("torchvision:inception_v3", {"transform_input": False}).transform_input


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        (
            "timm:vit_tiny_patch16_224",
            {"img_siz": 64},
            r"network_args: img_siz: timm:vit_tiny_patch16_224 takes no such ",
        ),
        (
            "timm:vit_tiny_patch16_224",
            {"img_size": "a"},
            r"network_args: {img_size: 'a'}: .* refuses .*takes img_size, ",
        ),
        (
            "timm:resnet10t",
            {"img_size": 64},
            r"network_args: img_size: timm:resnet10t takes .*it takes .*output_stride",
        ),
        (
            "torchvision:resnet18",
            {"image_size": 64},
            r"image_size: torchvision:resnet18 takes no such .* takes .*groups",
        ),
        ("timm:vit_tiny_patch16_224", {"num_classes": 2}, "network_args: num_classes: ffdi sets it itself"),
        ("timm:vit_tiny_patch16_224", {"depth": None}, "network_args: depth: null has no effect"),
        ("timm:resnet10t.in1k", {}, r"write `network: timm:resnet10t` and `weights: timm:in1k`"),
    ],
)
def test_a_wrong_argument_is_named_with_those_that_the_network_takes(
    name: str, args: dict[str, object], says: str
) -> None:
    with pytest.raises(ParamsError, match=says) as caught:
        build_network(name, args)
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_be_built_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> nn.Module:
        raise ImportError("needs\nanother package")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ParamsError, match="network 'timm:resnet18' cannot be built: needs another package"):
        build_network("timm:resnet18")


def test_normalisation_is_that_of_the_params() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
    frozen = FrozenPrefix(nn.Identity(), mean, std)
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    expected = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(frozen(images), expected)


@pytest.mark.parametrize(
    ("name", "cut", "shape"),
    [("torchvision:resnet18", "fc", (512,)), ("timm:vit_tiny_patch16_224", "blocks.6", (197, 192))],
    ids=["vector", "tokens"],
)
def test_features_need_not_be_maps(name: str, cut: str, shape: tuple[int, ...]) -> None:
    prefix = cut_network(build_network(name), cut, 224)[0]
    assert prefix is not None
    assert FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3).feature_shape(224) == shape
