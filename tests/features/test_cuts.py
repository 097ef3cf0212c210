"""The cut: prefix and body together are the network, in eval mode and in train mode, and share nothing with it."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import timm
import torch
from fake_cuda import FakeCuda
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from ffdi.errors import ParamsError
from ffdi.features.cuts import Cut, cut_network, list_cuts
from ffdi.features.networks import FrozenPrefix, build_network, without_classifier

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
    ("timm:vit_tiny_r_s16_p8_224", "patch_embed.proj", 224, (64, 56, 56)),  # after its CNN
    ("timm:vit_tiny_r_s16_p8_224", "blocks.6", 224, (50, 192)),
]


@functools.cache
def cuts_of(name: str, size: int) -> list[Cut]:
    return list_cuts(build_network(name), size)


def pointers(module: nn.Module) -> set[int]:
    return {t.data_ptr() for t in module.state_dict().values() if t.numel()}


@pytest.mark.parametrize("headless", [False, True], ids=["classifier", "headless"])
@pytest.mark.parametrize(("name", "cut", "size", "shape"), CUTS, ids=[f"{c[0]}-{c[1]}" for c in CUTS])
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
        cut_network(built, cut)
    assert repr(cut) in str(error.value) and "\n" not in str(error.value)
    named = set(str(error.value).partition(" cuts: ")[2].split(", "))
    assert named <= {"input", *(c.name for c in cuts_of(f"torchvision:{network}", 64))}


LISTED = [  # network, image size, every how manieth module is tried
    ("torchvision:resnet18", 64, 3),
    ("torchvision:mobilenet_v2", 64, 17),
    ("torchvision:shufflenet_v2_x0_5", 64, 17),
    ("timm:tf_efficientnet_lite0", 64, 23),
    ("timm:convnext_atto", 64, 13),
    ("timm:vit_tiny_r_s16_p8_224", 224, 23),
    ("timm:swin_tiny_patch4_window7_224", 224, 31),
]


@pytest.mark.parametrize(("name", "size", "step"), LISTED, ids=[c[0] for c in LISTED])
def test_the_listed_cuts_are_those_that_are_taken(name: str, size: int, step: int) -> None:
    network = build_network(name).eval()
    cuts = {c.name: c for c in cuts_of(name, size)}
    shares = [c.flops_before for c in cuts.values()]
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1
    images = torch.zeros(1, 3, size, size)
    with torch.inference_mode(), FlopCounterMode(display=False) as whole:
        network(images)
    modules = [path for path, _ in network.named_modules() if path]
    tried = {*modules[1::step], *list(cuts)[1 :: 2 * step]}
    assert tried & set(cuts) and tried - set(cuts)
    for path in tried:
        try:
            prefix, _ = cut_network(network, path)
        except ParamsError:
            assert path not in cuts
            continue
        assert prefix is not None
        with torch.inference_mode(), FlopCounterMode(display=False) as before:
            assert prefix(images).shape == (1, *cuts[path].shape), path
        share = before.get_total_flops() / whole.get_total_flops()
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
    assert (cuts["layer4"].bytes("float16"), cuts["layer4"].bytes("float32")) == (8192, 16384)


def test_an_image_size_that_the_network_refuses_is_said() -> None:
    with pytest.raises(ParamsError, match="image size 64: the network refuses it: Input height"):
        list_cuts(build_network("timm:vit_tiny_patch16_224"), 64)


class Pyramid(nn.Module):
    """Hands on a list, which a trace takes for a tensor; then adds a tensor that it makes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.levels, self.head = Levels(), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.levels(x)
        x = x[-1] if isinstance(x, list) else x
        return self.head(x) + torch.ones(3, 1, 1)  # type: ignore[no-any-return]


class Levels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.only = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.only(self.stem(x))]


def test_a_cut_that_a_list_crosses_is_not_listed() -> None:
    assert [c.name for c in list_cuts(Pyramid(), 8)] == ["levels.only"]
    prefix, _ = cut_network(Pyramid(), "head")
    assert prefix is not None
    with pytest.raises(ParamsError, match=r"image size 8: the prefix refuses it: .*list"):
        FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3).feature_shape(8)


def test_a_tensor_that_the_network_makes_moves_with_the_body() -> None:
    _, body = cut_network(Pyramid(), "levels.only")
    assert set(body.state_dict()) == {f"network.{m}.{p}" for m in ("levels.only", "head") for p in ("weight", "bias")}
    assert body.double()(torch.zeros(1, 3, 2, 2).double()).dtype == torch.float64
    assert all(t.dtype == torch.float64 for t in body.buffers())
    assert list(body.buffers())


def test_cutting_leaves_the_network_as_it_was() -> None:
    network = build_network("timm:tf_efficientnet_lite0")
    network.bn1.eval()  # type: ignore[union-attr, operator]
    modes = [m.training for m in network.modules()]
    before, attributes = copy.deepcopy(network.state_dict()), set(vars(network))
    with pytest.raises(ParamsError):
        cut_network(network, "conv_stem")
    cut_network(network, "bn1.act")  # traces through a batch norm that counts its batches
    assert [m.training for m in network.modules()] == modes and set(vars(network)) == attributes
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_module_that_is_never_called_is_no_cut() -> None:
    network = build_network("torchvision:resnet18")
    network.spare = nn.Linear(1, 1)
    with pytest.raises(ParamsError, match="0 times"):
        cut_network(network, "spare")


@pytest.mark.parametrize(
    ("name", "cut"), [("timm:vit_tiny_patch16_224", "blocks.6"), ("timm:swin_tiny_patch4_window7_224", "layers.2")]
)
def test_no_part_of_a_transformer_stays_behind_on_the_cpu(name: str, cut: str, fake_cuda: FakeCuda) -> None:
    """Tables of positions, masks and windows are made at the cut, or on the way: all on the device."""
    network = without_classifier(build_network(name), name)
    prefix, body = cut_network(network, cut)
    assert prefix is not None
    frozen, device = FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3).to("cuda"), torch.device("cuda:0")
    body.to("cuda")
    images = torch.zeros(1, 224, 224, 3, dtype=torch.uint8).to("cuda")
    with torch.no_grad():
        features = frozen(images)
        assert features.device == body.eval()(features).device == body.train()(features).device == device
