"""What the axes of every tensor of a network mean, told by the functions that make it: no network is asked for its layout.

While `AxisNames` is active, every torch function names the axes of what it returns. Convolutions say where channels,
rows and columns are, linear layers and norms where channels are; functions that only move, split or join axes carry the
names along; a function that has no rule leaves the names of what it returns unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

BATCH, CHANNEL, ROW, COLUMN, UNKNOWN = "batch", "channel", "row", "column", "unknown"


@dataclass(frozen=True)
class Places:
    """The axis of tokens: so many that are no places, then rows x columns of places."""

    prefix: int
    rows: int
    columns: int


Axis = str | Places
Axes = tuple[Axis, ...]


def name_axes(tensor: Tensor, axes: Axes) -> None:
    """Say what the axes of a tensor are; places that its length contradicts are unknown."""
    tensor.ffdi_axes = tuple(  # type: ignore[attr-defined]
        UNKNOWN if isinstance(axis, Places) and axis.prefix + axis.rows * axis.columns != length else axis
        for axis, length in zip(axes, tensor.shape)
    )


def axes_of(tensor: Tensor) -> Axes:
    """What is known of the axes of a tensor."""
    axes: Axes = getattr(tensor, "ffdi_axes", ())
    return axes if len(axes) == tensor.ndim else (UNKNOWN,) * tensor.ndim


def name_pixels(tensor: Tensor) -> None:
    """Say that the values of a tensor depend on pixels."""
    tensor.ffdi_pixels = True  # type: ignore[attr-defined]


def has_pixels(tensor: Tensor) -> bool:
    """Whether a tensor is known to depend on pixels."""
    return getattr(tensor, "ffdi_pixels", False)


# What makes a new tensor of the shape, the dtype and the device of another, whose values it does not read.
NEW = {f"{kind}_like" for kind in ("zeros", "ones", "empty", "full")} | {
    f"new_{kind}" for kind in ("zeros", "ones", "empty", "full", "tensor")
}


class AxisNames(TorchFunctionMode):
    """Names the axes of the tensors that torch functions return, and whether pixels are in them, from what they take."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if name not in NEW and any(map(has_pixels, tensors)):
            for made in [args[0]] if name == "__setitem__" else _tensors(out):
                name_pixels(made)
        if tensors and name != "__get__":
            every = _tensors(out)
            for axes, made in zip(_named(func, args, kwargs or {}, tensors, every), every):
                name_axes(made, axes)
        return out


def _tensors(out: Any) -> list[Tensor]:
    return [out] if isinstance(out, Tensor) else [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def _named(
    func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], tensors: list[Tensor], made: list[Tensor]
) -> Iterable[Axes]:
    """The axes of the tensors `made` by a function, from those that it was given."""
    name, source, axes = func.__name__.strip("_"), tensors[0], axes_of(tensors[0])
    if not made:
        return ()
    if name in _ON_MAPS and made[0].ndim > 2:
        _read(source, 1)
        return [(axes[0], CHANNEL, *axes[2:]) if t.ndim == len(axes) else axes_of(t) for t in made]
    if name in _ON_LAST:
        _read(source, -1)
        return [(*axes[:-1], CHANNEL) if t.ndim == len(axes) else axes_of(t) for t in made]
    if name == "layer_norm":
        if len(kwargs["normalized_shape"] if "normalized_shape" in kwargs else args[1]) > 1:
            return [axes]
        _read(source, -1)
        return [(*axes[:-1], CHANNEL)]
    if name in _MOVING:
        return [_moved(func, args, kwargs, source)]
    if name in _REGROUPING:
        return [regrouped(tuple(source.shape), axes, tuple(made[0].shape))]
    if name == "getitem":
        return [_indexed(axes, tuple(source.shape), args[1]) for _ in made]
    if name in _SPLITTING:
        along = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        return _split(made, axes, tuple(source.shape), along)
    if name == "stack":
        at = kwargs.get("dim", args[1] if len(args) > 1 else 0) % made[0].ndim
        return [(*axes[:at], UNKNOWN, *axes[at:])]
    if name in ("cat", "concat", "concatenate"):
        return [_joined(tensors, made[0])]
    if name in ("matmul", "bmm", "rmatmul") and len(tensors) > 1 and min(t.ndim for t in tensors) > 1:
        return [(*(UNKNOWN,) * (made[0].ndim - len(axes)), *axes[:-1], axes_of(tensors[1])[-1])]
    if name == "scaled_dot_product_attention":
        return [(*axes[:-1], axes_of(tensors[2])[-1])]
    if name in _OF_THE_FIRST:
        return [axes if t.ndim == len(axes) else axes_of(t) for t in made]
    if name in _WITHOUT_RULE:
        return [(UNKNOWN,) * t.ndim for t in made]
    return [_broadcast(tensors, t) for t in made]


# Functions of maps (B, C, H, W); the rest have their channels last. Interpolation, padding and pooling keep the raster.
_ON_MAPS = {
    *("conv1d", "conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "interpolate"),
    *("pixel_shuffle", "pixel_unshuffle", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
    *("lp_pool2d", "boolean_dispatch", "fn", "_max_pool2d", "channel_shuffle"),
}
_ON_LAST = {"linear", "lstm", "gru", "rms_norm"}
_MOVING = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint", "mean", "sum", "amax"}
_REGROUPING = {"reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "ravel"}
_SPLITTING = {"split", "chunk", "split_with_sizes", "tensor_split", "unbind", "narrow", "select"}
_OF_THE_FIRST = {"pad", "multi_head_attention_forward", "cumsum", "expand", "expand_as"}
_WITHOUT_RULE = {
    *("einsum", "mm", "addmm", "baddbmm", "addbmm", "roll", "flip", "rot90", "sort", "argsort", "topk", "gather"),
    *("scatter", "index_select", "take_along_dim", "unfold", "fold", "matmul", "bmm", "rmatmul", "repeat"),
    *("repeat_interleave", "tile", "grid_sample", "as_strided"),
}


def _read(tensor: Tensor, at: int) -> None:
    """A function takes the channels of a tensor from an axis: so they are there, unless they are known to be elsewhere."""
    axes = list(axes_of(tensor))
    if CHANNEL not in axes:
        axes[at] = CHANNEL
        name_axes(tensor, tuple(axes))


def _broadcast(tensors: list[Tensor], made: Tensor) -> Axes:
    """The axes of an elementwise result; all unknown where the shapes do not broadcast to that of the result."""
    try:
        fits = torch.broadcast_shapes(*(t.shape for t in tensors)) == made.shape
    except RuntimeError:
        fits = False
    if not fits and tensors[0].shape != made.shape:
        return (UNKNOWN,) * made.ndim
    axes: list[Axis] = [UNKNOWN] * made.ndim
    for tensor in tensors if fits else tensors[:1]:
        for at, axis in enumerate(reversed(axes_of(tensor)), 1):
            if axes[-at] == UNKNOWN and tensor.shape[-at] == made.shape[-at]:
                axes[-at] = axis
    return tuple(axes)


_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


def _moved(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], source: Tensor) -> Axes:
    """The axes after a function that moves or removes axes: it is asked on a tensor whose axes differ in length."""
    axes = axes_of(source)
    probe = torch.empty(_PRIMES[: source.ndim], device="meta")
    try:
        shape = func(probe, *args[1:], **kwargs).shape
    except (RuntimeError, TypeError, AttributeError, IndexError):
        return ()
    return tuple(axes[_PRIMES.index(n)] if n > 1 else UNKNOWN for n in shape)


def regrouped(old: tuple[int, ...], axes: Axes, new: tuple[int, ...]) -> Axes:
    """The axes after a reshape from `old` to `new`: axes that are split or joined, in order, keep what they can."""
    named: list[Axis] = [UNKNOWN] * len(new)
    lasts, nexts = ([i for i, n in enumerate(shape) if n != 1] for shape in (old, new))
    while lasts and nexts:
        taken, made = [lasts.pop(0)], [nexts.pop(0)]
        while (a := math.prod(old[i] for i in taken)) != (b := math.prod(new[i] for i in made)):
            if not (lasts if a < b else nexts):
                return tuple(named)
            (taken if a < b else made).append((lasts if a < b else nexts).pop(0))
        for i, axis in zip(made, _regroup([(axes[i], old[i]) for i in taken], [new[i] for i in made])):
            named[i] = axis
    return tuple(named)


def _regroup(taken: list[tuple[Axis, int]], sizes: list[int]) -> list[Axis]:
    """What becomes of some axes, each with its length, that a reshape makes into axes of these lengths."""
    axes = [axis for axis, _ in taken]
    if len(sizes) == 1:
        if axes == [ROW, COLUMN]:
            return [Places(0, *(length for _, length in taken))]
        channels = CHANNEL in axes and set(axes) <= {CHANNEL, UNKNOWN}
        return [axes[0] if len(axes) == 1 else CHANNEL if channels else UNKNOWN]
    if len(axes) > 1:
        return [UNKNOWN] * len(sizes)
    if isinstance(axes[0], Places):
        grid = (0, *sizes) == (axes[0].prefix, axes[0].rows, axes[0].columns)
        return [ROW, COLUMN] if grid else [UNKNOWN] * len(sizes)
    # The first factor of rows counts rows as well, coarser ones; the others are places within them.
    return [CHANNEL] * len(sizes) if axes[0] == CHANNEL else [axes[0], *[UNKNOWN] * (len(sizes) - 1)]


def _indexed(axes: Axes, shape: tuple[int, ...], key: Any) -> Axes:
    """The axes after `tensor[key]`; unknown where a tensor or a list indexes."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if not all(isinstance(k, (int, slice)) or k is None or k is Ellipsis for k in keys):
        return ()
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(axes) - sum(k is not None for k in keys) + 1)
    named: list[Axis] = []
    left, sizes = list(axes), list(shape)
    for k in keys:
        if k is None:
            named.append(UNKNOWN)
            continue
        axis, size = left.pop(0), sizes.pop(0)
        if isinstance(k, slice):
            start, stop, step = k.indices(size)
            named.append(_part(axis, start, stop, size) if step == 1 or not isinstance(axis, Places) else UNKNOWN)
    return (*named, *left)


def _part(axis: Axis, start: int, stop: int, size: int) -> Axis:
    """What an axis is between two of its indices."""
    if (start, stop) == (0, size) or not isinstance(axis, Places):
        return axis
    return Places(axis.prefix - start, axis.rows, axis.columns) if start <= axis.prefix and stop == size else UNKNOWN


def _split(made: list[Tensor], axes: Axes, shape: tuple[int, ...], along: int) -> Iterable[Axes]:
    """The axes of the pieces of a tensor along one axis."""
    if made[0].ndim == len(shape) - 1:  # unbind, select: that axis is gone
        along %= len(shape)
        return [(*axes[:along], *axes[along + 1 :])] * len(made)
    changed = [i for i, n in enumerate(shape) if made[0].shape[i] != n]
    if len(made) == 1 or len(changed) != 1:
        return [tuple(a if t.shape[i] == shape[i] else UNKNOWN for i, a in enumerate(axes)) for t in made]
    at, start, named = changed[0], 0, []
    for piece in made:
        axis = _part(axes[at], start, start + piece.shape[at], shape[at])
        named.append((*axes[:at], axis, *axes[at + 1 :]))
        start += piece.shape[at]
    return named


def _joined(tensors: list[Tensor], made: Tensor) -> Axes:
    """The axes of a concatenation: tokens that are put before places are no places."""
    known = [axes_of(t) for t in tensors]
    named: list[Axis] = []
    for at in range(made.ndim):
        axes = [axes[at] for axes in known if len(axes) == made.ndim]
        axis = next((a for a in axes if a != UNKNOWN), UNKNOWN)
        if tensors[0].shape[at] != made.shape[at] and isinstance(axis, Places):
            before = sum(t.shape[at] for t in tensors[: axes.index(axis)])
            after = sum(t.shape[at] for t in tensors[axes.index(axis) + 1 :])
            axis = UNKNOWN if after else Places(axis.prefix + before, axis.rows, axis.columns)
        named.append(axis if axis not in (ROW, COLUMN) or tensors[0].shape[at] == made.shape[at] else UNKNOWN)
    return tuple(named)
