"""How the tensor that crosses a cut is stored: channels first, (C, H, W) maps, (L, C) tokens or (C,) vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ffdi.errors import ParamsError
from ffdi.features.axes import CHANNEL, COLUMN, ROW, Places, axes_of
from ffdi.features.keep import TokenGrid


@dataclass(frozen=True)
class Layout:
    """`order`: the axes of the stored tensor, by their places in the network's tensor. `shape`: one image's features.

    `tokens` is what the rows of (L, C) features are, where that is known.
    """

    order: tuple[int, ...]
    shape: tuple[int, ...]
    tokens: TokenGrid | None = None

    @property
    def moves(self) -> bool:
        """Whether the stored tensor is another than the network's."""
        return self.order != tuple(range(len(self.order)))

    @property
    def back(self) -> tuple[int, ...]:
        """The permutation from the stored tensor to the network's."""
        return tuple(self.order.index(at) for at in range(len(self.order)))


def layout_of(two: Tensor, three: Tensor, *, class_token: bool) -> Layout:
    """The layout of a tensor as a network makes it of two images and of three.

    `class_token` says whether tokens that are no places begin with a class token. Raises ParamsError where the first
    axis is not the image's, or where nothing says which axis is the channel.
    """
    shape = tuple(two.shape[1:])
    if two.ndim < 2 or (two.shape[0], three.shape[0]) != (2, 3) or tuple(three.shape[1:]) != shape:
        raise ParamsError(f"its input {_said(two)} of 2 images has no row for each image")
    axes = axes_of(two)
    order = _order(two)
    stored = tuple(two.shape[at] for at in order[1:])
    if len(stored) == 3 and stored[1] != stored[2]:
        raise ParamsError(f"its input {_said(two)} is neither a square map, tokens nor a vector")
    places = axes[order[1]] if len(stored) == 2 else None
    grid = None
    if isinstance(places, Places) and places.rows * places.columns > 1:
        grid = TokenGrid(places.prefix, places.rows, places.columns, class_token and places.prefix > 0)
    return Layout(order, stored, grid)


def _order(tensor: Tensor) -> tuple[int, ...]:
    """The places of the batch, of what a kind of features stores next, and of its last axes."""
    if tensor.ndim == 2:
        return (0, 1)
    axes = axes_of(tensor)
    channels = [at for at, axis in enumerate(axes) if axis == CHANNEL and at]
    if tensor.ndim not in (3, 4) or len(channels) != 1:
        raise ParamsError(f"which axis of its input {_said(tensor)} holds the channels cannot be told")
    (channel,) = channels
    others = [at for at in range(1, tensor.ndim) if at != channel]
    if tensor.ndim == 3:
        return (0, *others, channel)
    if [axes[at] for at in others] == [COLUMN, ROW]:
        others.reverse()
    return (0, channel, *others)


def _said(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape[1:]))
