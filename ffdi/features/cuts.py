"""Cut a network in two: a frozen prefix and a trainable tail body.

A cut is a module: everything before it is the prefix, it and everything after it is the body, and `body(prefix(x)) ==
network(x)`. When the network is traced, every module that does not contain the cut is a leaf. So only the few forward
functions around the cut are traced: nothing inside a layer can fail to trace, or lose its behaviour in train mode.
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ffdi.errors import ParamsError, one_line
from ffdi.features.backbone import INPUT


@dataclass(frozen=True)
class Cut:
    """A place where the network can be cut. `shape` is the shape of the crossing tensor for one image, without batch axis."""

    name: str
    shape: tuple[int, ...]
    flops_before: float  # share of the forward pass, 0..1

    def bytes(self, dtype: str) -> int:
        """Bytes of one image's crossing tensor; `dtype` is a name such as float16."""
        return math.prod(self.shape) * getattr(torch, dtype).itemsize  # type: ignore[no-any-return]


def list_cuts(network: nn.Module, image_size: int) -> list[Cut]:
    """Every cut except `input`, in order of execution, a module before its parts; ParamsError when the size does not fit.

    These are the names that `cut_network` accepts, without those where a list of tensors crosses, which no trace shows.
    """
    traced = _Traced(network)
    cuts = {name: traced.sides(name)[0] for name in traced.names if traced.is_cut(name)}
    # On the meta device nothing is computed, and attention uses no fused path that hides its FLOPs and its modules.
    on_meta = traced.network.to("meta").eval().requires_grad_(False)
    counter = FlopCounterMode(display=False)
    flops: dict[str, int] = {}  # before each module, in order of execution
    entering: dict[str, list[Tensor]] = {}
    lists: set[str] = set()  # modules that do not return a single tensor

    def enter(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        flops.setdefault(name, counter.get_total_flops())
        entering[name] = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]

    def leave(name: str, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if not isinstance(result, Tensor):
            lists.add(name)

    for name in traced.names:
        module = on_meta.get_submodule(name)
        module.register_forward_pre_hook(functools.partial(enter, name), with_kwargs=True)
        module.register_forward_hook(functools.partial(leave, name))
    try:
        with torch.inference_mode(), torch.device("meta"), counter:  # also for tensors that the network creates
            on_meta(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # the network's code may raise anything
        raise ParamsError(f"image size {image_size}: the network refuses it: {one_line(error)}") from error
    total = max(counter.get_total_flops(), 1)
    return [
        Cut(name, tuple(entering[name][0].shape[1:]), flops[cuts[name].begins_with] / total)
        for name in flops
        if name in cuts and len({id(t) for t in entering[name]}) == 1 and cuts[name].crossing.target not in lists
    ]


def cut_network(network: nn.Module, at: str, image_size: int) -> tuple[fx.GraphModule | None, Body]:
    """(prefix, body) for images of `image_size` pixels: the prefix (None for `input`) is in eval mode without gradients; the body shares no tensor with it.

    Raises ParamsError, with the nearest cuts, when `at` is not a module, is not called exactly once, or when more than
    one tensor crosses the cut.
    """
    if at == INPUT:
        return None, Body(copy.deepcopy(network))
    traced = _Traced(network)
    evaluating, training = traced.sides(at)
    copied = traced.network.train(network.training)
    prefix = fx.GraphModule(copied, evaluating.prefix(), class_name="Prefix")
    body = Body(copy.deepcopy(copied), evaluating=evaluating.body(), training=training.body())
    return prefix.eval().requires_grad_(False), body


def several_cuts(network: nn.Module, cuts: tuple[str, ...], image_size: int) -> nn.Module:
    """One frozen prefix for several cuts: (B, 3, S, S) images -> the list of the features at each cut, as cut_network has them.

    Raises ParamsError as cut_network does; `input` is none of these cuts.
    """
    return _SeveralPrefixes([cut_network(network, cut, image_size)[0] for cut in cuts])


class _SeveralPrefixes(nn.Module):
    def __init__(self, prefixes: Iterable[nn.Module | None]) -> None:
        super().__init__()
        self.prefixes = nn.ModuleList(p for p in prefixes if p is not None)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [prefix(x) for prefix in self.prefixes]


class Body(nn.Module):
    """The part of a network from the cut on. Its state uses the network's module names.

    Forward: (B, C, H, W) crossing tensor -> the network's output. It is traced once for each mode, because a call such
    as `F.dropout(x, training=self.training)` near the cut becomes a constant in the graph.
    """

    def __init__(
        self, network: nn.Module, *, evaluating: fx.Graph | None = None, training: fx.Graph | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self._modes: dict[bool, Callable[[nn.Module, Tensor], Tensor]] | None = None
        if evaluating is not None and training is not None:
            self._modes = {False: _compiled(evaluating), True: _compiled(training)}
            _prune(network, {n.target for g in (evaluating, training) for n in g.nodes if n.op in _OWNED})

    def forward(self, x: Tensor) -> Tensor:
        if self._modes is None:
            return self.network(x)  # type: ignore[no-any-return]
        return self._modes[self.training](self.network, x)


_OWNED = ("call_module", "get_attr")


class _Traced:
    """A copy of a network, because tracing may leave constants in it, with its graphs. Sibling cuts share a graph per mode."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network)
        self.names = [name for name, _ in network.named_modules() if name]
        self._graph = functools.cache(self._trace)

    def sides(self, cut: str) -> tuple[_Sides, _Sides]:
        """The two sides in eval mode and in train mode; ParamsError names the nearest cuts when `cut` is not a cut."""
        if cut not in self.names:
            near = [*self._close(cut), INPUT]
            raise ParamsError(f"cut {cut!r} is no module of the network; close cuts: {', '.join(near)}")
        try:
            return self._sides(cut, False), self._sides(cut, True)
        except ParamsError as error:
            raise ParamsError(f"cut {cut!r}: {error}; nearest cuts: {', '.join(self._beside(cut))}") from error

    def is_cut(self, name: str) -> bool:
        try:
            return bool(self._sides(name, False) and self._sides(name, True))
        except ParamsError:
            return False

    def _sides(self, cut: str, training: bool) -> _Sides:
        graph = self._graph(cut.rpartition(".")[0], training)
        if isinstance(graph, str):
            raise ParamsError(graph)
        return _Sides(graph, cut)

    def _trace(self, parent: str, training: bool) -> fx.Graph | str:
        """The graph for a cut at any child of `parent`, or the reason why there is none."""
        self.network.train(training)
        # Optional arguments, such as an attention mask, keep their defaults: traced, they would be tensors that cross.
        optional = list(inspect.signature(self.network.forward).parameters.values())[1:]
        defaults = {p.name: p.default for p in optional if p.default is not p.empty}
        try:
            graph = _Tracer(parent).trace(self.network, defaults)
        except Exception as error:  # the network's code may raise anything when it gets a proxy instead of a tensor
            return f"the code around it cannot be traced: {one_line(error)}"
        for name, constant in [(n, v) for n, v in vars(self.network).items() if isinstance(v, Tensor)]:
            delattr(self.network, name)  # a plain attribute would stay behind when the body moves to another device
            self.network.register_buffer(name, constant, persistent=False)
        return graph

    def _close(self, name: str) -> list[str]:
        close = difflib.get_close_matches(name, self.names, n=len(self.names), cutoff=0.5)
        family = [n for n in self.names if n.partition(".")[0] == name.partition(".")[0]]
        return self._first_cuts(dict.fromkeys([*close, *family, *self.names]), 5)

    def _beside(self, name: str) -> list[str]:
        """Two cuts before and two after a module, in the order in which the network defines its modules."""
        at = self.names.index(name)
        before = self._first_cuts(reversed(self.names[:at]), 2)[::-1]
        return (before or [INPUT]) + self._first_cuts(self.names[at + 1 :], 2)

    def _first_cuts(self, names: Iterable[str], count: int) -> list[str]:
        return list(itertools.islice(filter(self.is_cut, names), count))  # lazily, because each name may need a trace


class _Tracer(fx.Tracer):
    def __init__(self, parent: str) -> None:
        super().__init__()
        self.parent = parent

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not f"{self.parent}.".startswith(f"{module_qualified_name}.")


class _Sides:
    """The nodes of a graph before and beyond a cut; ParamsError unless exactly one tensor crosses it."""

    def __init__(self, graph: fx.Graph, cut: str) -> None:
        self.graph = graph
        calls = [n for n in graph.nodes if n.op == "call_module" and n.target == cut]
        if len(calls) != 1:
            raise ParamsError(f"the network calls this module {len(calls)} times; a cut is called once")
        inputs = calls[0].all_input_nodes
        before = _ancestors(inputs)
        if len(inputs) != 1 or not any(n.op == "placeholder" for n in before):
            raise ParamsError(f"{len(inputs)} tensors enter this module; a cut is crossed by one")
        self.crossing = inputs[0]
        if self.crossing.op == "placeholder":
            raise ParamsError(f"nothing comes before it; the empty prefix is `cut: {INPUT}`")
        live = _ancestors(n for n in graph.nodes if n.op == "output")
        self.before = [n for n in graph.nodes if n in before]
        self.beyond = [n for n in graph.nodes if n in live and n not in before]
        for node in self.beyond:
            if any(s in before and s is not self.crossing and s.op != "get_attr" for s in node.all_input_nodes):
                raise ParamsError(f"{node.name} beyond it also uses what comes before: more than one tensor crosses")

    @property
    def begins_with(self) -> str:
        """The first module beyond the cut. With a shortcut this may not be the cut module.

        Modules that are called twice are skipped, because their position is ambiguous.
        """
        calls = [n.target for n in self.graph.nodes if n.op == "call_module"]
        beyond = set(self.beyond)
        after = itertools.dropwhile(lambda n: n is not self.crossing, self.graph.nodes)
        return next(str(n.target) for n in after if n in beyond and calls.count(n.target) == 1)

    def prefix(self) -> fx.Graph:
        prefix = fx.Graph()
        prefix.output(_copy(self.before, prefix, {})[self.crossing])
        return prefix

    def body(self) -> fx.Graph:
        body = fx.Graph()
        sources = {source for node in self.beyond for source in node.all_input_nodes}
        weights = [n for n in self.before if n in sources and n.op == "get_attr"]  # used on both sides
        _copy(weights + self.beyond, body, {self.crossing: body.placeholder("x")})
        return body


def _copy(nodes: Iterable[fx.Node], graph: fx.Graph, copied: dict[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
    """Copy nodes to the end of `graph`. `copied` maps their inputs from elsewhere; it is extended and returned."""
    for node in nodes:
        copied[node] = graph.node_copy(node, lambda n: copied[n])
    return copied


def _ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    ancestors: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in ancestors:
            ancestors.add(node)
            waiting.extend(node.all_input_nodes)
    return ancestors


def _compiled(graph: fx.Graph) -> Callable[[nn.Module, Tensor], Tensor]:
    """The graph as a function of (root module, x). A GraphModule would copy the modules and lose the shared names."""
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<tail body>", "exec"), scope)  # source code that torch.fx generated from the graph
    return scope["forward"]  # type: ignore[no-any-return]


def _prune(network: nn.Module, used: set[str]) -> None:
    """Remove every module, parameter and buffer that the graphs do not use, so that the state holds the tail alone."""

    def keep(path: str) -> bool:
        return not path or any(path == u or path.startswith(u + ".") or u.startswith(path + ".") for u in used)

    owned = [p for p, _ in (*network.named_modules(), *network.named_parameters(), *network.named_buffers())]
    for path in owned:
        parent, _, leaf = path.rpartition(".")
        if not keep(path) and keep(parent):
            owner = network.get_submodule(parent)
            for registry in (owner._modules, owner._parameters, owner._buffers):
                registry.pop(leaf, None)
