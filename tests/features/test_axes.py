"""What the axes of a tensor are is carried along by the functions that make it, and lost where nothing tells it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ffdi.errors import ParamsError
from ffdi.features.axes import BATCH, CHANNEL, COLUMN, ROW, UNKNOWN, AxisNames, Places, axes_of, name_axes, regrouped
from ffdi.features.keep import TokenGrid
from ffdi.features.layout import layout_of
from ffdi.features.recording import images_on_meta

B, C, Y, X, U = BATCH, CHANNEL, ROW, COLUMN, UNKNOWN
MAP = (B, C, Y, X)


@pytest.mark.parametrize(
    ("old", "axes", "new", "found"),
    [
        ((2, 6, 4, 4), MAP, (2, 6, 16), (B, C, Places(0, 4, 4))),
        ((2, 16, 6), (B, Places(0, 4, 4), C), (2, 4, 4, 6), (B, Y, X, C)),
        ((2, 17, 6), (B, Places(1, 4, 4), C), (2, 17, 2, 3), (B, Places(1, 4, 4), C, C)),
        ((2, 4, 4, 6), (B, Y, X, C), (2, 2, 2, 2, 2, 6), (B, Y, U, X, U, C)),  # windows of 2x2
        ((2, 2, 2, 2, 2, 6), (B, Y, X, U, U, C), (8, 4, 6), (U, U, C)),  # windows take the place of images
        ((2, 2, 2, 2, 2, 6), (B, Y, X, U, U, C), (2, 2, 2, 24), (B, Y, X, C)),  # patches are merged into channels
        ((2, 6, 4, 4), MAP, (2, 2, 3, 4, 4), (B, C, C, Y, X)),  # channels in groups
        ((2, 6, 1, 1), MAP, (2, 6), (B, C)),
        ((2, 6, 4, 4), MAP, (12, 16), (U, Places(0, 4, 4))),
    ],
)
def test_a_reshape_keeps_what_it_can(old: tuple[int, ...], axes: tuple, new: tuple[int, ...], found: tuple) -> None:  # type: ignore[type-arg]
    assert regrouped(old, axes, new) == found


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


MADE: list[tuple[Callable[[Tensor], Tensor], tuple[object, ...]]] = [
    (lambda x: x + torch.ones(3, 1, 1, device="meta"), MAP),
    (lambda x: nn.functional.pad(x, (0, 1, 0, 1)), MAP),
    (lambda x: x.permute(0, 2, 3, 1), (B, Y, X, C)),
    (lambda x: torch.roll(x, 1, 2), (U, U, U, U)),
    (lambda x: x + torch.roll(x, 1, 2), MAP),  # the shortcut tells it
    (lambda x: x.mean((2, 3)), (B, C)),
    (lambda x: x.mean((2, 3), keepdim=True), (B, C, U, U)),
    (tokens, (B, Places(0, 4, 4), C)),
    (lambda x: torch.cat([x.new_zeros(2, 2, 3), tokens(x)], 1), (B, Places(2, 4, 4), C)),
    (lambda x: torch.cat([tokens(x), x.new_zeros(2, 2, 3)], 1), (B, U, C)),  # places first: not what is stored
    (lambda x: torch.cat([x.new_zeros(2, 2, 3), tokens(x)], 1)[:, 1:], (B, Places(1, 4, 4), C)),
    (lambda x: torch.cat([x.new_zeros(2, 2, 3), tokens(x)], 1).split([2, 16], 1)[1], (B, Places(0, 4, 4), C)),
    (lambda x: tokens(x)[:, 0], (B, C)),
    (lambda x: tokens(x)[:, 1:], (B, U, C)),  # a part of the places
    (lambda x: nn.functional.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x)), (B, Places(0, 4, 4), C)),
    (lambda x: tokens(x) @ tokens(x).transpose(1, 2), (B, Places(0, 4, 4), Places(0, 4, 4))),
    (lambda x: torch.stack([x, x], 1), (B, U, C, Y, X)),
    (lambda x: nn.functional.linear(torch.roll(x, 1, 2), torch.ones(5, 4, device="meta")), (U, U, U, C)),
]


@pytest.mark.parametrize(("make", "found"), MADE)
def test_functions_name_what_they_return(make: Callable[[Tensor], Tensor], found: tuple[object, ...]) -> None:
    with AxisNames():
        assert axes_of(make(images_on_meta(2, 4))) == found


def crossing(axes: tuple, *shape: int) -> list[Tensor]:  # type: ignore[type-arg]
    made = [torch.empty(batch, *shape, device="meta") for batch in (2, 3)]
    for tensor in made:
        name_axes(tensor, axes)
    return made


@pytest.mark.parametrize(
    ("axes", "shape", "order", "stored", "grid"),
    [
        (MAP, (6, 4, 4), (0, 1, 2, 3), (6, 4, 4), None),
        ((B, Y, X, C), (4, 4, 6), (0, 3, 1, 2), (6, 4, 4), None),
        ((B, Y, X, C), (4, 4, 4), (0, 3, 1, 2), (4, 4, 4), None),  # no size tells it apart
        ((B, U, U, C), (4, 4, 6), (0, 3, 1, 2), (6, 4, 4), None),
        ((B, X, Y, C), (4, 4, 6), (0, 3, 2, 1), (6, 4, 4), None),
        ((B, Places(1, 4, 4), C), (17, 6), (0, 1, 2), (17, 6), TokenGrid(1, 4, 4)),
        ((B, C, Places(0, 4, 4)), (6, 16), (0, 2, 1), (16, 6), TokenGrid(0, 4, 4, class_token=False)),
        ((B, U, C), (17, 6), (0, 1, 2), (17, 6), None),
        ((B, C), (6,), (0, 1), (6,), None),
    ],
)
def test_features_are_stored_channels_first(
    axes: tuple,  # type: ignore[type-arg]
    shape: tuple[int, ...],
    order: tuple[int, ...],
    stored: tuple[int, ...],
    grid: TokenGrid | None,
) -> None:
    found = layout_of(*crossing(axes, *shape), class_token=True)
    assert (found.order, found.shape, found.tokens) == (order, stored, grid)
    x = torch.randn(2, *shape)
    assert torch.equal(x.permute(found.order).permute(found.back), x)


@pytest.mark.parametrize(
    ("axes", "shape", "says"),
    [
        ((B, U, U, U), (4, 4, 6), "which axis of its input 4x4x6 holds the channels cannot be told"),
        ((B, C, Places(0, 4, 4), C), (2, 16, 3), "cannot be told"),  # the heads of an attention
        ((B, C, Y, X), (6, 4, 8), "6x4x8 is neither a square map"),
        ((B, C, U, Y, X), (6, 2, 4, 4), "cannot be told"),
    ],
)
def test_a_layout_that_cannot_be_told_is_refused(axes: tuple, shape: tuple[int, ...], says: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ParamsError, match=says):
        layout_of(*crossing(axes, *shape), class_token=False)


def test_features_have_a_row_for_each_image() -> None:
    windows = [torch.empty(4 * batch, 6, 2, 2, device="meta") for batch in (2, 3)]
    with pytest.raises(ParamsError, match="has no row for each image"):
        layout_of(windows[0], windows[1], class_token=False)
