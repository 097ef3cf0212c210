"""A network run once without computing anything: what each of its modules takes and returns, for two images and for three.

Everything runs on the meta device, where tensors have a shape and no values. Two sizes of a batch tell the numbers that
depend on it from those that depend on the image's size alone.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ffdi.errors import ParamsError, one_line
from ffdi.features.axes import BATCH, CHANNEL, COLUMN, ROW, AxisNames, has_pixels, name_axes, name_pixels
from ffdi.features.networks import OTHER_SIZE

BATCHES = (2, 3)


@dataclass
class Recording:
    """One run. `returned`: what each module returned, call by call. `entered`: the tensors that it was given. `written`:
    modules whose input is changed in place, by themselves or later. `blind`: modules that are given pixels and return a
    tensor that does not depend on them, where axes are named. `flops`: the number of operations before each module,
    and in all of them (`total`)."""

    returned: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    entered: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    written: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    flops: dict[str, int] = field(default_factory=dict)
    total: int = 0


def on_meta(network: nn.Module) -> nn.Module:
    """A copy of a network on the meta device, without gradients; its weights are not copied on the way."""
    memo: dict[int, Any] = {}
    with torch.inference_mode(False):  # whose tensors do not tell that they are changed in place
        for module in network.modules():
            for tensor in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
                if isinstance(tensor, nn.Parameter):
                    memo[id(tensor)] = nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
                elif isinstance(tensor, Tensor):
                    memo[id(tensor)] = tensor.detach().to("meta")
        return copy.deepcopy(network, memo)


def images_on_meta(batch: int, image_size: int) -> Tensor:
    """Images without values, (batch, 3, image_size, image_size)."""
    images = torch.empty(batch, 3, image_size, image_size, device="meta")
    name_axes(images, (BATCH, CHANNEL, ROW, COLUMN))
    name_pixels(images)
    return images


def record(network: nn.Module, image_size: int, *, training: bool, count: bool = False) -> tuple[Recording, Recording]:
    """A network `on_meta` run on the images of BATCHES. ParamsError when it refuses them.

    The first run in eval mode says what the axes of its tensors are, and counts operations on wish.
    """
    network.train(training)
    counter = FlopCounterMode(display=False) if count else None
    try:
        with torch.inference_mode(False):
            first = _record(network, image_size, BATCHES[0], counter, named=not training)
            second = _record(network, image_size, BATCHES[1])
    except Exception as error:  # the network's code may raise anything
        raise ParamsError(
            f"image size {image_size}: the network refuses it: {one_line(error)}: {OTHER_SIZE}"
        ) from error
    return first, second


def _record(
    network: nn.Module, image_size: int, batch: int, counter: FlopCounterMode | None = None, *, named: bool = False
) -> Recording:
    recording = Recording()
    versions: list[tuple[str, Tensor, int]] = []

    def enter(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recording.flops.setdefault(name, counter.get_total_flops() if counter else 0)
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                recording.entered[name].append(tensor)
                versions.append((name, tensor, tensor._version))

    def leave(name: str, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        recording.returned[name].append(result)
        given, made = ([t for t in tree_leaves(some) if isinstance(t, Tensor)] for some in (args, result))
        if named and any(map(has_pixels, given)) and not all(map(has_pixels, made)):
            recording.blind.add(name)

    hooks = []
    for name, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(functools.partial(enter, name), with_kwargs=True))
        hooks.append(module.register_forward_hook(functools.partial(leave, name)))
    # Attention without values takes no fused path, which would hide its operations and its modules.
    names = AxisNames() if named else contextlib.nullcontext()
    try:
        with torch.no_grad(), torch.device("meta"), counter or _LinearShape(), ShapeAlone(), names:
            network(images_on_meta(batch, image_size))
    finally:
        for hook in hooks:
            hook.remove()
    recording.written = {name for name, tensor, version in versions if tensor._version != version}
    recording.total = counter.get_total_flops() if counter else 0
    return recording


class ShapeAlone(TorchFunctionMode):
    """Functions that keep the shape, and count no operations, need not be asked: torch takes milliseconds for some."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "lstm":
            return _lstm(*args)
        if name not in _KEEP_SHAPE or not args:
            return func(*args, **kwargs)
        at = _KEEP_SHAPE[name]
        in_place = kwargs.get("inplace", len(args) > at > 0 and args[at])
        return args[0].zero_() if in_place else torch.empty_like(args[0])


def _lstm(x: Tensor, state: tuple[Tensor, Tensor], weights: list[Tensor], *more: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What torch.lstm returns, with its operations; torch itself goes through the steps one by one, which takes a minute."""
    for weight in weights:
        if weight.ndim == 2:
            nn.functional.linear(x.new_empty(*x.shape[:2], weight.shape[1]), weight)
    directions = 2 if more[4] else 1  # has_biases, num_layers, dropout, train, bidirectional
    return x.new_empty(*x.shape[:2], directions * state[0].shape[-1]), *state


class _LinearShape(TorchFunctionMode):
    """The same for linear layers, where their operations are not counted."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not nn.functional.linear or kwargs or args[0].shape[-1] != args[1].shape[1]:
            return func(*args, **(kwargs or {}))
        return args[0].new_empty(*args[0].shape[:-1], args[1].shape[0])


# Each with the place of its argument `inplace`, if it has one.
_KEEP_SHAPE = {
    **dict.fromkeys(("batch_norm", "layer_norm", "group_norm", "gelu", "sigmoid", "tanh", "softmax"), 0),
    **dict.fromkeys(("relu", "relu6", "silu", "mish", "hardswish", "hardsigmoid"), 1),
    **{"leaky_relu": 2, "elu": 2, "hardtanh": 3, "dropout": 3},
}
