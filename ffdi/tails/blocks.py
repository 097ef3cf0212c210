"""The blocks of a body, in order of execution: what `trainable: {last: N}` counts, and `lr_decay` goes by."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ffdi.features.cuts import Body
from ffdi.tails.modes import judging

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def is_norm(module: nn.Module) -> bool:
    """Whether it is a normalisation layer with parameters: every such class of torch, torchvision and timm says so."""
    inner = any(_has_parameters(child) for child in module.children())
    return "norm" in type(module).__name__.lower() and _has_parameters(module) and not inner


def blocks_in_order(tail: nn.Module, example: Tensor) -> list[tuple[str, ...]]:
    """The blocks of a tail's body in order of execution, each as the names of its modules.

    A block is a member of a stack: a bottleneck of a ResNet, an inverted residual, a transformer's block, a patch
    embedding, or a layer that stands alone. A norm that stands alone belongs to the block before it, and so the last one
    to the last block. What is never called is no block. `example` (1, ...) are features of one image; the tail is
    unchanged.
    """
    body = tail.get_submodule("body")
    path, network = ("body.network", body.network) if isinstance(body, Body) else ("body", body)
    names = list(_blocks(path, network, levels=2))  # the network, and its own containers
    order = list(_first_calls(tail, example))
    places = {name: min((at for at, called in enumerate(order) if _is_in(called, name)), default=-1) for name in names}
    blocks: list[tuple[str, ...]] = []
    for name in sorted((name for name in names if places[name] >= 0), key=places.__getitem__):
        norms_so_far = bool(blocks) and all(_only_norms(tail.get_submodule(part)) for part in blocks[-1])
        if blocks and (_only_norms(tail.get_submodule(name)) or norms_so_far):
            blocks[-1] += (name,)
        else:
            blocks.append((name,))
    return blocks


def _blocks(path: str, module: nn.Module, levels: int = 0) -> Iterator[str]:
    """The names of the blocks in a module, in the order of their definition; it is one itself, or it is divided.

    What is divided: `levels` levels of containers, a container of more than plain layers, and a stage, which holds a stack
    of blocks.
    """
    inner = [(name, child) for name, child in module.named_children() if _has_parameters(child)]
    container = isinstance(module, _CONTAINERS) and not all(_is_layer(child) for _, child in inner)
    if inner and (levels or container or any(_is_stack(child) for _, child in inner)):
        for name, child in inner:
            yield from _blocks(f"{path}.{name}", child, max(0, levels - 1) if isinstance(child, _CONTAINERS) else 0)
    elif _has_parameters(module):
        yield path


def _is_stack(module: nn.Module) -> bool:
    """Whether it is a container of modules with a forward function of their own."""
    members = [child for child in module.children() if _has_parameters(child)]
    return (
        isinstance(module, _CONTAINERS)
        and bool(members)
        and not any(_is_layer(member) or isinstance(member, _CONTAINERS) for member in members)
    )


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _is_layer(module: nn.Module) -> bool:
    """Whether it is one layer: a module with parameters of its own alone, or with norms around such a one."""
    return sum(not is_norm(part) for part in _with_parameters(module)) <= 1


def _only_norms(module: nn.Module) -> bool:
    return all(is_norm(part) for part in _with_parameters(module))


def _with_parameters(module: nn.Module) -> Iterator[nn.Module]:
    """The modules, in and below it, that have parameters of their own."""
    return (part for part in module.modules() if any(True for _ in part.parameters(recurse=False)))


def _is_in(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def _first_calls(tail: nn.Module, example: Tensor) -> dict[str, None]:
    """The modules of the body in the order of their first calls."""
    first: dict[str, None] = {}

    def called(name: str, module: nn.Module, inputs: object) -> None:
        first.setdefault(name)

    modules = [(name, module) for name, module in tail.named_modules() if name.startswith("body")]
    hooks = [module.register_forward_pre_hook(partial(called, name)) for name, module in modules]
    try:
        with judging(tail), torch.no_grad():  # what a network caches in inference mode could not be used in training
            tail(example)
    finally:
        for hook in hooks:
            hook.remove()
    return first
