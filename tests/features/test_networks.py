"""Networks by name, without their classifier, frozen with their normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ffdi.errors import ParamsError
from ffdi.features.cuts import cut_network
from ffdi.features.networks import FrozenPrefix, build_network, without_classifier


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


@pytest.mark.parametrize(
    ("name", "cut", "shape"),
    [("torchvision:resnet18", "fc", (512,)), ("timm:vit_tiny_patch16_224", "blocks.6", (197, 192))],
    ids=["vector", "tokens"],
)
def test_features_need_not_be_maps(name: str, cut: str, shape: tuple[int, ...]) -> None:
    prefix = cut_network(build_network(name), cut, 224)[0]
    assert prefix is not None
    assert FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3).feature_shape(224) == shape
