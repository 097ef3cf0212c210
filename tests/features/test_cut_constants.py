"""What depends on the image's size alone is no tensor that crosses a cut: it is on both sides, and follows them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ffdi.errors import ParamsError
from ffdi.features.cuts import cut_network, list_cuts, several_cuts
from ffdi.features.keep import TokenGrid
from ffdi.features.networks import headless_network

DINO: tuple[str, dict[str, Any]] = ("vit_small_patch16_dinov3", {"img_size": 64, "depth": 3, "drop_path_rate": 0.5})


def network(name: str, **args: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **args).eval()


class Rotary(nn.Module):
    """Blocks that all take a table: a buffer that files do not hold, a weight, a new tensor, and the number of images."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.rand(3, 1, 1), persistent=False)
        self.learned, self.scale = nn.Parameter(torch.rand(3, 1, 1)), Scale()
        self.blocks = nn.ModuleList(Rotated() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        images, _, rows, columns = x.shape
        places = torch.arange(rows * columns, device=x.device, dtype=x.dtype).reshape(rows, columns)
        table = torch.sin(self.frequencies * places).expand(images, -1, -1, -1)
        table = table + torch.zeros(1).expand(images).reshape(images, 1, 1, 1)  # nothing of the graph, but the images
        learned = (self.learned * places).expand(images, -1, -1, -1)
        made = torch.zeros(images, 3, rows, columns, device=x.device) + learned
        for block in self.blocks:
            x = block(x, table, made * self.scale(x))
        return x.flatten(1)


class Scale(nn.Module):
    """Takes a tensor for its dtype and its device alone, as rotary embeddings do that are modules of their own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((x.shape[0], 1, 1, 1), 0.5, dtype=x.dtype, device=x.device)


class Rotated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, table: Tensor, made: Tensor) -> Tensor:
        return self.mix(x) * table + made  # type: ignore[no-any-return]


def test_constants_are_computed_once_and_what_is_learned_is_not() -> None:
    rotary = Rotary().eval()
    prefix, body = cut_network(rotary, "blocks.2", 8)
    assert prefix is not None
    with torch.no_grad():
        for batch in (1, 2, 5):
            x = torch.randn(batch, 3, 8, 8)
            assert torch.equal(body.eval()(prefix(x)), rotary(x))
    for side, block in ((prefix, ("blocks.0", "blocks.1")), (body, ("network.blocks.2",))):
        learned = "network.learned" if side is body else "learned"
        assert set(side.state_dict()) == {learned, *(f"{b}.mix.{p}" for b in block for p in ("weight", "bias"))}
    assert any(torch.equal(b, table_of(rotary)) for b in body.buffers() if b.shape == (3, 8, 8))
    body.train()(prefix(torch.randn(2, 3, 8, 8))).sum().backward()
    gradient = body.network.learned.grad
    assert isinstance(gradient, Tensor) and gradient.abs().sum() > 0  # as in the uncut network


def table_of(rotary: Rotary) -> Tensor:
    return torch.sin(rotary.frequencies * torch.arange(64.0).reshape(8, 8))


def test_a_cut_is_the_same_in_inference_mode() -> None:
    with torch.inference_mode():
        assert [c.name for c in list_cuts(Rotary(), 8)] == ["blocks.1", "blocks.1.mix", "blocks.2", "blocks.2.mix"]
        prefix, body = cut_network(Rotary().eval(), "blocks.1", 8)
        assert prefix is not None and body.eval()(prefix(torch.zeros(2, 3, 8, 8))).shape == (2, 192)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_constants_follow_their_side(device: str) -> None:
    """On the meta device nothing is left of the device that traced, and in double precision nothing of its dtype."""
    prefix, body = cut_network(Rotary().eval(), "blocks.1", 8)
    assert prefix is not None
    with torch.no_grad():
        features = prefix.to(device, torch.float64)(torch.empty(2, 3, 8, 8, device=device, dtype=torch.float64))
        for mode in (False, True):
            out = body.to(device, torch.float64).train(mode)(features)
            assert (out.dtype, out.device.type) == (torch.float64, device)


def test_blocks_of_dinov3_are_cuts_and_its_tail_is_as_random_as_the_network() -> None:
    name, args = DINO
    whole = network(name, **args)
    cuts = {c.name: c for c in list_cuts(whole, 64)}
    assert {f"blocks.{at}" for at in range(3)} <= set(cuts)
    assert cuts["blocks.2"].shape == (21, 384)
    assert cuts["blocks.2"].tokens == TokenGrid(5, 4, 4)  # a class token, four registers, 4x4 patches
    prefix, body = cut_network(whole, "blocks.1", 64)
    assert prefix is not None and prefix.tokens == TokenGrid(5, 4, 4)
    with torch.no_grad():
        features = prefix(torch.randn(4, 3, 64, 64))

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> tuple[tuple[Tensor], Any]:
        torch.manual_seed(7)
        return (features,), kwargs

    whole.get_submodule("blocks.1").register_forward_pre_hook(enter, with_kwargs=True)
    for mode in (False, True):
        expected = whole.train(mode)(torch.randn(4, 3, 64, 64))
        torch.manual_seed(7)
        torch.testing.assert_close(body.train(mode)(features), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("eva02_tiny_patch14_224", "blocks.1.norm2"),
        ("vit_medium_patch16_rope_reg1_gap_256", "blocks.1.norm2"),
        ("vit_small_patch16_rope_mixed_224", "blocks.1"),
    ],
)
def test_tails_of_vits_with_rotary_embeddings_train(name: str, cut: str) -> None:
    size = 56 if "14" in name else 64
    whole = network(name, img_size=size, depth=2)
    prefix, body = cut_network(whole, cut, size)
    assert prefix is not None
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(body.eval()(prefix(images)), whole(images), rtol=0, atol=0)
    twin = copy.deepcopy(body).train().to(torch.float32)  # moved, as a tail is: timm's rotary embeddings hook into that
    twin(prefix(images).clone().requires_grad_(True)).sum().backward()
    assert all(p.grad is not None for p in twin.parameters())


def test_several_cuts_are_the_single_ones_in_one_pass() -> None:
    whole = network(DINO[0], **DINO[1])
    cuts = ("blocks.2", "blocks.1", "blocks.1.norm2", "fc_norm")  # in any order, one within another
    several = several_cuts(whole, cuts, 64)
    images, calls = torch.randn(2, 3, 64, 64), []
    several.get_submodule("blocks.0").register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        for cut, found in zip(cuts, several(images), strict=True):
            assert torch.equal(found, cut_network(whole, cut, 64)[0](images)), cut  # type: ignore[misc]
    assert len(calls) == 1
    assert several.tokens == [TokenGrid(5, 4, 4)] * 3 + [None]
    assert not any(p.requires_grad for p in several.parameters())
    with pytest.raises(ParamsError, match=r"cut 'blocks.7' is no module"):
        several_cuts(whole, ("blocks.1", "blocks.7"), 64)


def test_several_cuts_are_stored_channels_first() -> None:
    whole = headless_network("timm:test_mambaout").eval()
    several, images = several_cuts(whole, ("stages.1", "stages.2.blocks"), 32), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        first, second = several(images)
    assert (first.shape[2:], second.shape[2:]) == ((8, 8), (2, 2)) and first.shape[1] < second.shape[1]


class Odd(nn.Module):
    """Its last convolution takes what a rectifier changes in place; in train mode it may return more than one tensor."""

    def __init__(self, *, auxiliary: bool = False) -> None:
        super().__init__()
        self.stem, self.act, self.last = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)
        self.auxiliary = auxiliary

    def forward(self, x: Tensor) -> Any:
        x = self.last(self.act(self.stem(x)))
        return (x, x) if self.auxiliary and self.training else x


def test_a_tail_leaves_its_features_as_they_are_and_has_a_gradient() -> None:
    _, body = cut_network(Odd(), "act", 8)
    features = torch.randn(2, 4, 8, 8).requires_grad_(True)
    before = features.detach().clone()
    (gradient,) = torch.autograd.grad(body(features).sum(), features)
    assert torch.equal(features, before) and gradient.abs().sum() > 0


def test_more_than_one_tensor_in_train_mode_is_refused() -> None:
    assert not list_cuts(Odd(auxiliary=True), 8)
    with pytest.raises(ParamsError, match="in train mode the network returns more than one tensor"):
        cut_network(Odd(auxiliary=True), "last", 8)


class Windows(nn.Module):
    """Cuts each map of 8x8 places into four, which take the place of images, and puts them together again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        windows = x.reshape(x.shape[0], 4, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 4, 4)
        whole = self.inner(windows).reshape(-1, 2, 2, 4, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
        return self.last(whole)  # type: ignore[no-any-return]


def test_what_has_no_row_for_each_image_is_no_cut() -> None:
    assert [c.name for c in list_cuts(Windows(), 8)] == ["last"]
    with pytest.raises(ParamsError, match="its input 4x4x4 of 2 images has no row for each image"):
        cut_network(Windows(), "inner", 8)
