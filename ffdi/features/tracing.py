"""The graph of a network around a cut, traced with values: what depends on the image's size alone is a plain number.

Every module that does not contain the cut is a leaf, so only the few forward functions around the cut are traced:
nothing inside a layer can fail to trace, or lose its behaviour in train mode. torch.fx's tracer knows no values; this one
has each of them for two batches (see recording.py). So shapes are numbers, unless they count images, a list is a list,
and a condition has an answer. A tensor that depends on pixels has no values and is on the meta device; any other tensor
has its values.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_leaves, tree_map

from ffdi.features.axes import NEW
from ffdi.features.recording import BATCHES, Recording, ShapeAlone, images_on_meta

CPU = torch.device("cpu")
Values = tuple[Any, Any]  # of a node, for each of BATCHES


@dataclass(frozen=True)
class TracedGraph:
    """What a trace found: the graph, the values of its nodes, those that are weights, which are what a file of weights
    holds, and the nodes that enter each module, call by call."""

    graph: fx.Graph
    values: dict[fx.Node, Values]
    weights: set[fx.Node]
    entering: dict[str, list[list[fx.Node]]]

    def has_pixels(self, node: fx.Node) -> bool:
        """Whether a node is a tensor that depends on the pixels, or holds one."""
        return _is_meta(self.values.get(node))


def trace(
    network: nn.Module,
    parents: Collection[str],
    blind: Collection[str],
    recorded: tuple[Recording, Recording],
    image_size: int,
) -> TracedGraph:
    """The graph of a network with `parents`, the modules that contain them and those that are `blind` to pixels opened.

    It may leave constants in the network.
    """
    tracer = _Tracer(parents, blind, recorded, image_size)
    # Optional arguments, such as an attention mask, keep their defaults: traced, they would be tensors that cross.
    optional = list(inspect.signature(network.forward).parameters.values())[1:]
    with torch.no_grad(), _recorded_calls(tracer):
        graph = tracer.trace(network, {p.name: p.default for p in optional if p.default is not p.empty})
    for name, constant in [(n, v) for n, v in vars(network).items() if isinstance(v, Tensor)]:
        delattr(network, name)  # a plain attribute would stay behind when a part moves to another device
        network.register_buffer(name, constant, persistent=False)
    return TracedGraph(graph, tracer.values, tracer.weights, tracer.entering)


class _Value(fx.Proxy):
    """A value that the graph must compute. Its shape, and whatever else is known of it, is there to be asked."""

    tracer: _Tracer

    def __getattr__(self, name: str) -> Any:
        if callable(getattr(self.tracer.values[self.node][0], name)):
            return super().__getattr__(name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __iter__(self) -> Iterator[Any]:
        return iter([self[at] for at in range(len(self))])  # type: ignore[index]

    def __len__(self) -> int:
        first, second = (len(value) for value in self.tracer.values[self.node])
        if first != second:
            raise TypeError("it counts the images of a batch")
        return first

    def __bool__(self) -> bool:
        first, second = (bool(value) for value in self.tracer.values[self.node])
        if first != second:
            raise TypeError("it asks for the number of images in a batch")
        return first


class _Tracer(fx.Tracer):
    def __init__(
        self,
        parents: Collection[str],
        blind: Collection[str],
        recorded: tuple[Recording, Recording],
        image_size: int,
    ) -> None:
        super().__init__()
        self.proxy_buffer_attributes = True
        self.parents, self.blind, self.recorded, self.image_size = parents, blind, recorded, image_size
        self.values: dict[fx.Node, Values] = {}
        self.weights: set[fx.Node] = set()
        self.entering: dict[str, list[list[fx.Node]]] = defaultdict(list)
        self.calls: dict[str, int] = defaultdict(int)
        self.computing = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        opened = any(f"{parent}.".startswith(f"{module_qualified_name}.") for parent in self.parents)
        return not opened and module_qualified_name not in self.blind

    def proxy(self, node: fx.Node) -> _Value:
        return _Value(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        return attr_val if self.computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.computing:
            return forward(*args, **kwargs)
        given = [a.node for a in tree_leaves((args, kwargs)) if isinstance(a, fx.Proxy)]
        self.entering[self.path_of_module(m)].append(given)
        return super().call_module(m, forward, args, kwargs)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        value = self._known(proxy.node, self._values(proxy.node))
        if changes_in_place(proxy.node) and isinstance(value, _Value) and isinstance(args[0], _Value):
            args[0].node = value.node  # what is changed in place is from here on the changed one
        return value

    def _known(self, node: fx.Node, values: Values) -> Any:
        """What the network's code gets for a value: the value itself where it is known."""
        first, second = values
        self.values[node] = values
        if isinstance(first, (tuple, list)):
            parts = [self._part(node, at, pair) for at, pair in enumerate(zip(first, second, strict=True))]
            if isinstance(first, list):
                return parts
            if hasattr(first, "_fields"):
                return type(first)(*parts)
            plain = isinstance(first, torch.Size) and not any(isinstance(p, fx.Proxy) for p in parts)
            return torch.Size(parts) if plain else tuple(parts)
        if isinstance(first, dict):
            return {key: self._part(node, key, (value, second[key])) for key, value in first.items()}
        if isinstance(first, torch.device):
            return CPU
        if not isinstance(first, (Tensor, torch.dtype)) and first == second:
            return first
        return _Value(node, self)

    def _part(self, node: fx.Node, key: Any, values: Values) -> Any:
        if not isinstance(values[0], (Tensor, tuple, list, dict)) and values[0] == values[1]:
            return values[0]
        part = self.create_node("call_function", operator.getitem, (node, key), {})
        return self._known(part, values)

    def _values(self, node: fx.Node) -> Values:
        """The value of a node for each of BATCHES."""
        if node.op == "placeholder":
            if any(n.op == "placeholder" and n is not node for n in self.graph.nodes):
                return (node.args[0] if node.args else None,) * 2
            return tuple(images_on_meta(batch, self.image_size) for batch in BATCHES)  # type: ignore[return-value]
        with self._computing():
            if node.op == "get_attr":
                return (self._attribute(node),) * 2
            given = [map_aggregate((node.args, node.kwargs), functools.partial(self._value, at)) for at in range(2)]
            if node.op == "call_module":
                return self._returned(str(node.target), given)
            return tuple(_computed(node, *args) for args in given)

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """Within it, modules and functions are called as if nothing were traced."""
        before, self.computing = self.computing, True
        try:
            yield
        finally:
            self.computing = before

    def _attribute(self, node: fx.Node) -> Any:
        """The value of a parameter, a buffer or another attribute."""
        path, _, name = str(node.target).rpartition(".")
        owner = self.root.get_submodule(path)
        if name in owner._parameters or (name in owner._buffers and name not in owner._non_persistent_buffers_set):
            self.weights.add(node)
        value = getattr(owner, name)
        return value.data if isinstance(value, Tensor) else value

    def _value(self, at: int, argument: Any) -> Any:
        if not isinstance(argument, fx.Node):
            return argument
        if argument not in self.values:  # a constant, which is a node without a proxy
            self.values[argument] = self._values(argument)
        return self.values[argument][at]

    def _returned(self, path: str, given: list[Any]) -> Values:
        call = self.calls[path]
        self.calls[path] += 1
        if any(_is_meta(argument) for argument in tree_leaves(given)):
            return tuple(r.returned[path][call] for r in self.recorded)
        # No tensor with pixels enters: what it returns is computed, by a copy, since its state may change.
        module = copy.deepcopy(self.root.get_submodule(path))
        return tuple(module(*args, **kwargs) for args, kwargs in given)


def changes_in_place(node: fx.Node) -> bool:
    """Whether a node is a method that changes its tensor."""
    name = str(node.target)
    return node.op == "call_method" and name.endswith("_") and not name.endswith("__")


def _is_meta(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in tree_leaves(value))


def _computed(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a function or a method; on the meta device if one of its arguments is there."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name in NEW:  # a new tensor has no pixels in it
        kwargs = kwargs | {"device": CPU}
    elif _is_meta((args, kwargs)):
        args, kwargs = tree_map(_to_meta, (args, kwargs))
    elif changes_in_place(node):
        args = (args[0].clone(), *args[1:])  # the state of the network stays
    function: Any = getattr(args[0], name) if node.op == "call_method" else node.target
    with ShapeAlone() if _is_meta(args) else contextlib.nullcontext():
        return function(*(args[1:] if node.op == "call_method" else args), **kwargs)


def _to_meta(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument if argument.is_meta else argument.to("meta")
    return torch.device("meta") if isinstance(argument, torch.device) else argument


_FACTORIES = ("arange", "zeros", "ones", "empty", "full", "linspace", "eye", "tensor", "as_tensor")
RANDOM = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")
_METHODS = ("expand", "repeat", "tile", "view", "reshape", "repeat_interleave", "to")


@contextlib.contextmanager
def _recorded_calls(tracer: _Tracer) -> Iterator[None]:
    """Functions that make tensors, and methods of constants, are in the graph if they are given a value of it, or draw."""
    with contextlib.ExitStack() as patches:
        for owner, names in ((torch, (*_FACTORIES, *RANDOM)), (Tensor, _METHODS)):
            for name in names:
                patches.enter_context(patch.object(owner, name, _recorded(owner, name, tracer)))
        yield


def _recorded(owner: Any, name: str, tracer: _Tracer) -> Callable[..., Any]:
    function = getattr(owner, name)
    kind, target = ("call_method", name) if owner is Tensor else ("call_function", function)

    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        given = not tracer.computing and any(isinstance(a, fx.Proxy) for a in tree_leaves((args, kwargs)))
        if given or (name in RANDOM and not tracer.computing):
            return tracer.create_proxy(kind, target, args, kwargs)
        return function(*args, **kwargs)

    return recorded
