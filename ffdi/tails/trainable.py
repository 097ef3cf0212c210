"""What training may change in a tail, and how fast: the rest is byte for byte what it was.

The head always trains. Of the body, `trainable` of a recipe names what does; a name is that of the network
(`blocks.11.attn.qkv.weight`).
"""

from __future__ import annotations

import copy
import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ffdi.errors import ParamsError
from ffdi.tails.blocks import is_norm
from ffdi.tails.recipe import Recipe, Trainable

Blocks = Callable[[], list[tuple[str, ...]]]  # blocks_in_order of the tail, asked for where they are needed
_BODY = ("body.network.", "body.")  # all else of a tail is its head, with its norm


@dataclass(frozen=True)
class Trained:
    """What training changes in a tail: the tensors of its state that are named in `names`.

    `still` are the modules of which nothing trains. They stay in eval mode: a frozen BatchNorm would otherwise learn the
    statistics of its batches.
    """

    names: frozenset[str]
    still: tuple[nn.Module, ...]

    def train_mode(self, tail: nn.Module) -> None:
        """Put the tail in train mode, except for what is still."""
        tail.train()
        for module in self.still:
            module.eval()

    def state(self, tail: nn.Module) -> dict[str, Tensor]:
        """The tensors that training changes, by their names in the tail's state; they are not copied."""
        return {name: value.detach() for name, value in tail.state_dict().items() if name in self.names}


def trained_part(tail: nn.Module, recipe: Recipe, blocks: Blocks) -> Trained:
    """Take the gradient from everything that `recipe.trainable` freezes; `blocks` gives the blocks of the tail's body.

    A parameter that the network itself has frozen stays so. ParamsError when the choice names nothing in this tail.
    """
    if recipe.trainable == "all":
        _refuse_without_effect(tail, recipe)
        return Trained(frozenset(tail.state_dict()), ())
    parameters = {name: p for name, p in _body_parameters(tail).items() if p.requires_grad}
    try:
        chosen = _chosen(tail, recipe.trainable, parameters, blocks)
    except ParamsError as error:
        raise ParamsError(f"recipe {recipe.name}: trainable: {error}") from None
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
    _refuse_without_effect(tail, recipe)
    still = _still(tail.get_submodule("body"))
    fixed = {id(t) for module in still for t in (*module.parameters(), *module.buffers())}
    fixed |= {id(p) for p in tail.get_submodule("body").parameters() if not p.requires_grad}
    state = tail.state_dict(keep_vars=True)
    return Trained(frozenset(n for n, t in state.items() if not n.startswith("body.") or id(t) not in fixed), still)


def parameter_groups(tail: nn.Module, recipe: Recipe, blocks: Blocks) -> list[dict[str, Any]]:
    """Groups for an optimizer over what trains: `params`, the `scale` of their learning rate, and their `weight_decay`.

    `lr_decay` is layer-wise (ELECTRA: Clark et al., ICLR 2020; BEiT: Bao et al., ICLR 2022): the head has the full rate,
    the n-th last block of the body lr_decay^n of it. What belongs to no block, such as position embeddings, has the rate
    of the first block. With `decayed: weights`, only the matrices and kernels of layers decay: norms, biases, scales,
    position embeddings and tokens do not.
    """
    scales = _scales(tail, recipe.lr_decay, blocks()) if recipe.lr_decay != 1 else {}
    decayed = _layer_weights(tail) if recipe.optimizer.decayed == "weights" else None
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in tail.named_parameters():
        if parameter.requires_grad:
            scale = scales.get(name, 1.0)
            decay = recipe.optimizer.weight_decay if decayed is None or name in decayed else 0.0
            group = groups.setdefault((scale, decay), {"params": [], "scale": scale, "weight_decay": decay})
            group["params"].append(parameter)
    return list(groups.values())


def copy_sharing(tail: nn.Module, own: Collection[str]) -> Any:
    """A copy of `tail` that has the tensors named in `own` to itself, and all others of its state in common with it."""
    common = {id(t): t for name, t in tail.state_dict(keep_vars=True).items() if name not in own}
    return copy.deepcopy(tail, common)


def load_trained(tail: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the trained tensors of a tail; what they leave out stays. RuntimeError when they are not of this tail."""
    tail.load_state_dict(tail.state_dict() | dict(state))


def _refuse_without_effect(tail: nn.Module, recipe: Recipe) -> None:
    """ParamsError for a setting that needs a body that trains, where there is none."""
    wanted = [*(["lr_decay"] if recipe.lr_decay != 1 else []), *(["loss"] if recipe.loss.wanted else [])]
    if wanted and not any(p.requires_grad for p in _body_parameters(tail).values()):
        raise ParamsError(
            f"recipe {recipe.name}: {wanted[0]}: has no effect: nothing trains before the head of this tail"
        )


def _body_parameters(tail: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in tail.named_parameters() if name.startswith("body.")}


def _chosen(tail: nn.Module, trainable: Trainable, parameters: Mapping[str, nn.Parameter], blocks: Blocks) -> set[str]:
    """The names of the parameters of the body that train."""
    match trainable:
        case "head":
            return set()
        case "norms":
            norms = [f"{name}." for name, module in tail.named_modules() if is_norm(module)]
            chosen = {name for name in parameters if name.startswith(tuple(norms))}
            if not chosen:
                raise ParamsError("norms: the body has none at this cut: cut earlier, or train `head`")
            return chosen
        case {"last": count}:
            return _in_last_blocks(blocks(), int(count), parameters)
        case _:
            return {name for pattern in trainable for name in _matches(pattern, parameters)}


def _in_last_blocks(blocks: Sequence[tuple[str, ...]], count: int, parameters: Iterable[str]) -> set[str]:
    if count > len(blocks):
        found = f": {', '.join(_public(block[0]) for block in blocks)}" if blocks else ""
        raise ParamsError(f"last: {count}: the body has {len(blocks)} blocks at this cut{found}")
    inside = tuple(f"{module}." for block in blocks[len(blocks) - count :] for module in block)
    return {name for name in parameters if name.startswith(inside)}


def _matches(pattern: str, parameters: Iterable[str]) -> list[str]:
    """The parameters whose name, or that of a module around them, matches; ParamsError with near names for none."""
    public = {name: _public(name) for name in parameters}
    found = [name for name, known in public.items() if any(map(_matcher(pattern), _with_parents(known)))]
    if not found:
        names = dict.fromkeys(part for known in public.values() for part in _with_parents(known))
        near = difflib.get_close_matches(pattern, names, 4, 0.5) or list(names)[:4]
        close = f"; near names: {', '.join(near)}" if near else ": at this cut it has none"
        raise ParamsError(f"{pattern!r} matches no parameter of the body{close}")
    return found


def _matcher(pattern: str) -> Callable[[str], bool]:
    return lambda name: fnmatch.fnmatchcase(name, pattern)


def _with_parents(name: str) -> list[str]:
    """A name and those of the modules around it: a.b.c, a.b, a."""
    parts = name.split(".")
    return [".".join(parts[:size]) for size in range(len(parts), 0, -1)]


def _public(name: str) -> str:
    """A name of the tail as the network has it."""
    for start in _BODY:
        if name.startswith(start):
            return name.removeprefix(start)
    return name


def _still(body: nn.Module) -> tuple[nn.Module, ...]:
    """The outermost modules that have parameters or buffers, none of which trains.

    A module without any, such as dropout, is as the module around it.
    """
    stateful = any(True for _ in (*body.parameters(), *body.buffers()))
    if stateful and not any(p.requires_grad for p in body.parameters()):
        return (body,)
    return tuple(still for child in body.children() for still in _still(child))


def _scales(tail: nn.Module, decay: float, blocks: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """The share of the learning rate of every parameter of the body."""
    scales = dict.fromkeys(_body_parameters(tail), decay ** len(blocks))
    for number, block in enumerate(blocks):
        inside = tuple(f"{module}." for module in block)
        scales |= {name: decay ** (len(blocks) - number) for name in scales if name.startswith(inside)}
    return scales


def _layer_weights(tail: nn.Module) -> set[str]:
    """The names of the matrices and kernels of layers."""
    return {
        f"{path}.{name}" if path else name
        for path, module in tail.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("weight") and parameter.ndim > 1 and not is_norm(module)
    }
