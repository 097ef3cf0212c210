"""The cuts that are listed are those that a network can be cut at; what is no cut is refused with the nearest ones."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ffdi.errors import ParamsError
from ffdi.features.cuts import Cut, cut_network, list_cuts
from ffdi.features.feature_spec import stored_bytes
from ffdi.features.networks import build_network


@functools.cache
def cuts_of(name: str, size: int) -> list[Cut]:
    return list_cuts(build_network(name), size)


@pytest.mark.parametrize(
    ("network", "cut", "says"),
    [
        ("mobilenet_v2", "feature.16", r"close cuts: features\.16, .*, input$"),
        ("mobilenet_v2", "zzz", r"close cuts: features.*, input$"),
        ("resnet18", "layer3.7.conv9", r"close cuts: .*layer3\.\d\.conv1"),  # and layer3.1.conv2 is none
        ("resnet18", "layer4.0.relu", r"2 times.*; nearest cuts: layer4\.0, layer4\.0\.conv1, layer4\.0\.downsample, "),
        ("resnet18", "conv1", r"nothing comes before it.*; nearest cuts: input, bn1, relu$"),
        # inside a residual block
        ("resnet18", "layer1.0.conv2", r"more than one tensor crosses; nearest cuts: .*layer1\.0.*, layer1\.1, "),
    ],
)
def test_what_is_no_cut_is_refused_with_the_nearest_cuts(network: str, cut: str, says: str) -> None:
    built = build_network(f"torchvision:{network}")
    with pytest.raises(ParamsError, match=says) as error:
        cut_network(built, cut, 64)
    assert repr(cut) in str(error.value) and "\n" not in str(error.value)
    named = set(str(error.value).partition(" cuts: ")[2].split(", "))
    assert named <= {"input", *(c.name for c in cuts_of(f"torchvision:{network}", 64))}


LISTED = [  # network, image size, every how manieth module is tried
    ("torchvision:resnet18", 64, 7),
    ("torchvision:mobilenet_v2", 64, 41),
    ("torchvision:shufflenet_v2_x0_5", 64, 41),
    ("timm:tf_efficientnet_lite0", 64, 61),
    ("timm:convnext_atto", 64, 37),
    ("timm:vit_tiny_r_s16_p8_224", 224, 53),
    ("timm:swin_tiny_patch4_window7_224", 224, 71),
]


@pytest.mark.parametrize(("name", "size", "step"), LISTED, ids=[c[0] for c in LISTED])
def test_the_listed_cuts_are_those_that_are_taken(name: str, size: int, step: int) -> None:
    network = build_network(name).eval()
    cuts = {c.name: c for c in cuts_of(name, size)}
    shares = [c.flops_before for c in cuts.values()]
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1
    images = torch.zeros(1, 3, size, size)
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        network(images)
    modules = [path for path, _ in network.named_modules() if path]
    tried = {*modules[1::step], *list(cuts)[1::step]}
    assert tried & set(cuts) and tried - set(cuts)
    for path in tried:
        try:
            prefix, _ = cut_network(network, path, size)
        except ParamsError:
            assert path not in cuts
            continue
        assert prefix is not None
        with torch.inference_mode(), FlopCounterMode(display=False) as before:
            assert prefix(images).shape == (1, *cuts[path].shape), path
        share = before.get_total_flops() / counted.get_total_flops()
        assert cuts[path].flops_before == pytest.approx(share), path


def test_cuts_are_listed_in_order_of_execution() -> None:
    cuts = {c.name: c for c in cuts_of("torchvision:resnet18", 64)}
    names = list(cuts)
    assert names[:6] == ["bn1", "relu", "maxpool", "layer1", "layer1.0", "layer1.0.conv1"]
    assert names[-2:] == ["avgpool", "fc"]
    assert cuts["fc"].flops_before < 1 == pytest.approx(cuts["fc"].flops_before, abs=0.01)
    assert "layer4.0.relu" not in names  # called twice
    # A shortcut begins with what enters its block: nothing of the block is in the prefix.
    assert cuts["layer2.0.downsample"].flops_before == cuts["layer2.0"].flops_before
    assert cuts["layer4"].shape == (256, 4, 4)
    assert [stored_bytes(cuts["layer4"].shape, dtype) for dtype in ("float16", "float32")] == [8192, 16384]


def test_an_image_size_that_the_network_refuses_is_said() -> None:
    with pytest.raises(ParamsError, match="image size 64: the network refuses it: Input height"):
        list_cuts(build_network("timm:vit_tiny_patch16_224"), 64)


class Pyramid(nn.Module):
    """Hands on a list of tensors; then adds a tensor that it makes itself."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels, self.join, self.head = Levels(levels), Join(), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.join(self.levels(x))) + torch.ones(3, 1, 1)  # type: ignore[no-any-return]


class Levels(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.each = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(count))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        return [level(x) for level in self.each]


class Join(nn.Module):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return torch.stack(xs).sum(0)


def test_a_cut_that_a_list_crosses_is_not_listed_unless_one_tensor_is_in_it() -> None:
    assert [c.name for c in list_cuts(Pyramid(2), 8)] == ["levels.each.0", "levels.each.1", "head"]
    with pytest.raises(ParamsError, match="2 tensors enter this module"):
        cut_network(Pyramid(2), "join", 8)
    assert [c.name for c in list_cuts(Pyramid(1), 8)] == ["levels.each.0", "join", "head"]
    network, x = Pyramid(1).eval(), torch.randn(2, 3, 8, 8)
    prefix, body = cut_network(network, "join", 8)
    assert prefix is not None
    with torch.no_grad():
        assert torch.equal(body.eval()(prefix(x)), network(x))


def test_a_tensor_that_the_network_makes_moves_with_the_body() -> None:
    _, body = cut_network(Pyramid(1), "levels.each.0", 8)
    modules = ("levels.each.0", "head")
    assert set(body.state_dict()) == {f"network.{m}.{p}" for m in modules for p in ("weight", "bias")}
    assert body.double()(torch.zeros(1, 3, 2, 2).double()).dtype == torch.float64
    assert all(t.dtype == torch.float64 for t in body.buffers())
    assert list(body.buffers())
