"""Cut a network in two: a frozen prefix and a trainable tail body.

A cut is a module: everything before it is the prefix, it and everything after it is the body, and `body(prefix(x)) ==
network(x)`. One tensor crosses the cut. It is stored channels first: where the network's own tensor is not, the prefix
ends with a permutation and the body begins with its inverse.
"""

from __future__ import annotations

import copy
import difflib
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn

from ffdi.errors import ParamsError, one_line
from ffdi.features.backbone import INPUT
from ffdi.features.keep import TokenGrid
from ffdi.features.layout import Layout
from ffdi.features.recording import Recording, on_meta, record
from ffdi.features.sides import CONSTANT, Sides, body_graph, prefix_graph
from ffdi.features.tracing import TracedGraph, trace


@dataclass(frozen=True)
class Cut:
    """A place where the network can be cut. `shape` is that of one image's features, `tokens` what their rows are.

    `flops_before` is the prefix's share of the forward pass, 0..1.
    """

    name: str
    shape: tuple[int, ...]
    flops_before: float
    tokens: TokenGrid | None = None


def list_cuts(network: nn.Module, image_size: int) -> list[Cut]:
    """Every name that `cut_network` accepts except `input`, in order of execution, a module before its parts.

    Raises ParamsError when the network refuses the image size.
    """
    traced = _Traced(network, image_size)
    recording, _ = record(traced.twin, image_size, training=False, count=True)
    cuts = []
    for name in recording.flops:
        if name and traced.is_cut(name):
            (sides, _), layout = traced.sides(name)
            share = recording.flops[sides.begins_with] / max(recording.total, 1)
            cuts.append(Cut(name, layout.shape, share, layout.tokens))
    return cuts


def cut_network(network: nn.Module, at: str, image_size: int) -> tuple[fx.GraphModule | None, Body]:
    """(prefix, body) for images of `image_size` pixels: the prefix (None for `input`) is in eval mode without gradients; the
    body shares no tensor with it. `prefix.tokens` says what the rows of (L, C) features are, where that is known.

    What depends on the image's size alone, such as rotary embeddings, is a constant on both sides. Raises ParamsError,
    with the nearest cuts, when `at` is not a module, is not called exactly once, or when more than one tensor crosses
    the cut.
    """
    if at == INPUT:
        return None, Body(copy.deepcopy(network))
    traced = _Traced(network, image_size)
    (evaluating, training), layout = traced.sides(at)
    root, written = traced.network, traced.is_written(at)
    prefix = prefix_graph(root, [(evaluating, layout)], single=True)
    bodies = [body_graph(root, sides, layout, written=written) for sides in (evaluating, training)]
    root.train(network.training)
    body = Body(copy.deepcopy(root), evaluating=bodies[0], training=bodies[1])
    return _frozen(root, prefix, layout.tokens), body


def several_cuts(network: nn.Module, cuts: Sequence[str], image_size: int) -> nn.Module:
    """One frozen prefix for several cuts: (B, 3, S, S) images -> the list of the features at each cut, in one pass.

    They equal those of the prefixes of cut_network; its `tokens` are a list. Raises ParamsError as cut_network does;
    `input` is none of these cuts.
    """
    traced = _Traced(network, image_size)
    layouts = [traced.sides(cut)[1] for cut in cuts]
    graph = traced.graph(frozenset(cut.rpartition(".")[0] for cut in cuts), False)
    if isinstance(graph, str):
        raise ParamsError(f"cuts {', '.join(cuts)}: {graph}")
    crossings = [(Sides(graph, cut), layout) for cut, layout in zip(cuts, layouts, strict=True)]
    graph_of_all = prefix_graph(traced.network, crossings, single=False)
    return _frozen(traced.network, graph_of_all, [layout.tokens for layout in layouts])


def _frozen(root: nn.Module, graph: fx.Graph, tokens: TokenGrid | list[TokenGrid | None] | None) -> fx.GraphModule:
    prefix = fx.GraphModule(root, graph, class_name="Prefix").eval().requires_grad_(False)
    prefix.tokens = tokens  # type: ignore[assignment]
    return prefix


class Body(nn.Module):
    """The part of a network from the cut on. Its state uses the network's module names.

    Forward: (B, ...) stored features -> the network's output. It is traced once for each mode, because a call such as
    `F.dropout(x, training=self.training)` near the cut becomes a constant in the graph.
    """

    def __init__(
        self, network: nn.Module, *, evaluating: fx.Graph | None = None, training: fx.Graph | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self._modes: dict[bool, Callable[[nn.Module, Tensor], Tensor]] | None = None
        if evaluating is not None and training is not None:
            self._modes = {False: _compiled(evaluating), True: _compiled(training)}
            _prune(network, {str(n.target) for g in (evaluating, training) for n in g.nodes if n.op in _OWNED})

    def forward(self, x: Tensor) -> Tensor:
        if self._modes is None:
            return self.network(x)  # type: ignore[no-any-return]
        return self._modes[self.training](self.network, x)


_OWNED = ("call_module", "get_attr")


class _Traced:
    """A copy of a network, because tracing may leave constants in it, with its graphs. Sibling cuts share a graph per mode."""

    def __init__(self, network: nn.Module, image_size: int) -> None:
        self.network, self.twin, self.image_size = copy.deepcopy(network).eval(), on_meta(network), image_size
        self.names = [name for name, _ in network.named_modules() if name]
        own = [name.rpartition(".")[2] for name, _ in network.named_parameters()]
        self.class_token = any(name.startswith(("cls_token", "class_token")) for name in own)
        self.graph = functools.cache(self._trace)
        self._recordings = functools.cache(self._record)

    def sides(self, cut: str) -> tuple[tuple[Sides, Sides], Layout]:
        """The sides in eval mode and in train mode, and how features are stored; ParamsError names the nearest cuts."""
        if cut not in self.names:
            near = [*self._close(cut), INPUT]
            raise ParamsError(f"cut {cut!r} is no module of the network; close cuts: {', '.join(near)}")
        self.recorded(False)  # whose error is about the image size
        try:
            return self._sides(cut)
        except ParamsError as error:
            raise ParamsError(f"cut {cut!r}: {error}; nearest cuts: {', '.join(self._beside(cut))}") from error

    def is_cut(self, name: str) -> bool:
        try:
            return bool(self._sides(name))
        except ParamsError:
            return False

    def is_written(self, cut: str) -> bool:
        """Whether the tensor that enters a module is changed in place, in any mode."""
        return any(cut in recording.written for mode in (False, True) for recording in self.recorded(mode))

    def _sides(self, cut: str) -> tuple[tuple[Sides, Sides], Layout]:
        evaluating = self._side(cut, False)
        layout = evaluating.layout(self.recorded(False)[0], class_token=self.class_token)
        try:
            training = self._side(cut, True)
        except ParamsError as error:
            raise ParamsError(f"in train mode {error}") from error
        if training.shape != evaluating.shape:
            raise ParamsError("its input has another shape in train mode")
        return (evaluating, training), layout

    def _side(self, cut: str, training: bool) -> Sides:
        graph = self.graph(frozenset([cut.rpartition(".")[0]]), training)
        if isinstance(graph, str):
            raise ParamsError(graph)
        return Sides(graph, cut)

    def recorded(self, training: bool) -> tuple[Recording, Recording]:
        """The network's runs in a mode; ParamsError when it refuses the image size."""
        recorded = self._recordings(training)
        if isinstance(recorded, ParamsError):
            raise recorded
        return recorded

    def _record(self, training: bool) -> tuple[Recording, Recording] | ParamsError:
        """A refusal is kept as well: every parent of a cut would run the network again to hear it."""
        try:
            return record(self.twin, self.image_size, training=training)
        except ParamsError as error:
            return error

    def _trace(self, parents: frozenset[str], training: bool) -> TracedGraph | str:
        """The graph for a cut at any child of one of `parents`, or the reason why there is none."""
        try:
            recorded = self.recorded(training)
        except ParamsError as error:
            return str(error)
        if self.network.training != training:
            self.network.train(training)
        reason = ""
        for blind in dict.fromkeys((frozenset(self.recorded(False)[0].blind), frozenset[str]())):
            try:
                return trace(self.network, parents, blind, recorded, self.image_size)
            except Exception as error:  # the network's code may raise anything when it gets a proxy instead of a tensor
                reason = f"the code around it cannot be traced: {one_line(error)}"
        return reason

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


def _compiled(graph: fx.Graph) -> Callable[[nn.Module, Tensor], Tensor]:
    """The graph as a function of (root module, x). A GraphModule would copy the modules and lose the shared names."""
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<tail body>", "exec"), scope)  # source code that torch.fx generated from the graph
    return scope["forward"]  # type: ignore[no-any-return]


def _prune(network: nn.Module, used: set[str]) -> None:
    """Remove every module, parameter and buffer that the graphs do not use, so that the state holds the tail alone.

    In a module that stays, what its own code may still ask for stays as well: a parameter as None, a buffer outside the
    state.
    """

    def keep(path: str) -> bool:
        return not path or any(path == u or path.startswith(u + ".") or u.startswith(path + ".") for u in used)

    owned = [p for p, _ in (*network.named_modules(), *network.named_parameters(), *network.named_buffers())]
    for path in owned:
        parent, _, leaf = path.rpartition(".")
        if keep(path) or not keep(parent):
            continue
        owner = network.get_submodule(parent)
        if leaf in owner._parameters:
            owner._parameters[leaf] = None
        elif leaf in owner._buffers and not leaf.startswith((CONSTANT, "_tensor_constant")):
            owner._non_persistent_buffers_set.add(leaf)
        else:
            owner._modules.pop(leaf, None)
            owner._buffers.pop(leaf, None)
