"""The two sides of a cut in a traced graph: what the prefix computes, and what the body computes from one tensor."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_leaves

from ffdi.errors import ParamsError
from ffdi.features.backbone import INPUT
from ffdi.features.layout import Layout, layout_of
from ffdi.features.recording import BATCHES, Recording
from ffdi.features.tracing import RANDOM, TracedGraph, changes_in_place

CONSTANT = "_constant"  # and a number: the names of the buffers for what does not depend on pixels


class Sides:
    """What stands before and beyond a cut; ParamsError unless exactly one tensor with pixels crosses it."""

    def __init__(self, traced: TracedGraph, cut: str) -> None:
        self.traced, self.cut = traced, cut
        calls = traced.entering.get(cut, [])
        if len(calls) != 1:
            raise ParamsError(f"the network calls this module {len(calls)} times; a cut is called once")
        entering = list(dict.fromkeys(node for node in calls[0] if traced.has_pixels(node)))
        if len(entering) != 1:
            raise ParamsError(f"{len(entering)} tensors enter this module; a cut is crossed by one")
        self.crossing = entering[0]
        if self.crossing.op == "placeholder":
            raise ParamsError(f"nothing comes before it; the empty prefix is `cut: {INPUT}`")
        self.before = _ancestors([self.crossing])
        self.beyond = self._beyond()

    def layout(self, recording: Recording, *, class_token: bool) -> Layout:
        """How the crossing tensor is stored; ParamsError where that cannot be told.

        `recording` knows the tensor with all that the network's other modules tell of it.
        """
        two, three = self.traced.values[self.crossing]
        seen = next((t for t in recording.entered[self.cut] if t.shape == two.shape), two)
        return layout_of(seen, three, class_token=class_token)

    @property
    def shape(self) -> torch.Size:
        """The shape of the crossing tensor of two images."""
        return self.traced.values[self.crossing][0].shape  # type: ignore[no-any-return]

    @property
    def begins_with(self) -> str:
        """The first module beyond the cut. With a shortcut this may not be the cut module.

        Modules that are called twice are skipped, because their position is ambiguous.
        """
        calls = [n.target for n in self.traced.graph.nodes if n.op == "call_module"]
        after = itertools.dropwhile(lambda n: n is not self.crossing, self.traced.graph.nodes)
        return next(str(n.target) for n in after if n in self.beyond and calls.count(n.target) == 1)

    def _beyond(self) -> set[fx.Node]:
        """The nodes of the body; ParamsError when the network's output is no tensor, or needs more than the crossing one."""
        graph = self.traced.graph
        output = next(n for n in graph.nodes if n.op == "output")
        value = self.traced.values.get(output.args[0], (None,))[0] if isinstance(output.args[0], fx.Node) else None
        if not isinstance(value, Tensor):
            raise ParamsError("the network returns more than one tensor")
        later = itertools.dropwhile(lambda n: n is not self.crossing, graph.nodes)
        needed = _needed(self.traced, [output, *(n for n in later if _changes_state(n))], self.crossing, self.before)
        if self.crossing not in needed:
            raise ParamsError("the network's output does not depend on it")
        return needed - {self.crossing}


def prefix_graph(root: nn.Module, crossings: list[tuple[Sides, Layout]], *, single: bool) -> fx.Graph:
    """The graph from images to the stored features of the cut, or to the list of those of several cuts.

    All sides are of one traced graph. Constants become buffers of `root`.
    """
    traced = crossings[0][0].traced
    image = next(n for n in traced.graph.nodes if n.op == "placeholder")
    part = _Part(traced, root, image)
    part.copy(_needed(traced, [sides.crossing for sides, _ in crossings], image))
    stored = []
    for sides, layout in crossings:
        node = part.copied[sides.crossing]
        stored.append(_permuted(part.graph, node, layout.order) if layout.moves else node)
    part.graph.output(stored[0] if single else stored)
    return part.graph


def body_graph(root: nn.Module, sides: Sides, layout: Layout, *, written: bool) -> fx.Graph:
    """The graph from stored features to the network's output. `written`: they are copied, for what changes them in place."""
    part = _Part(sides.traced, root, sides.crossing)
    if layout.moves:
        part.entry = _permuted(part.graph, part.entry, layout.back)
    if written:
        part.entry = part.graph.call_method("clone", (part.entry,))
    part.copy(sides.beyond)
    return part.graph


def _permuted(graph: fx.Graph, node: fx.Node, order: tuple[int, ...]) -> fx.Node:
    return graph.call_method("contiguous", (graph.call_method("permute", (node, *order)),))


class _Part:
    """A graph that begins with one tensor, to which nodes of a traced graph are copied."""

    def __init__(self, traced: TracedGraph, root: nn.Module, begins: fx.Node) -> None:
        self.traced, self.root, self.begins = traced, root, begins
        self.graph = fx.Graph()
        self.entry = self.graph.placeholder("x")
        self.copied: dict[fx.Node, fx.Node] = {}

    def copy(self, needed: set[fx.Node]) -> None:
        """Copy nodes, in the order of the traced graph."""
        self.copied[self.begins] = self.entry
        for node in self.traced.graph.nodes:
            if node in needed and node not in self.copied:
                self.copied[node] = self._stand_in(node) or self._copy(node)

    def _stand_in(self, node: fx.Node) -> fx.Node | None:
        """What gives the same value without what comes before: the entry's number of images or dtype, or a constant."""
        match _stands_for(self.traced, node):
            case "images":
                each = self.traced.values[node][0] // BATCHES[0]
                return self._images if each == 1 else self.graph.call_function(operator.mul, (self._images, each))
            case "dtype":
                return self._attribute("dtype")
            case "constant":
                return self.graph.get_attr(_buffer(self.root, self.traced.values[node][0]))
        return None

    def _copy(self, node: fx.Node) -> fx.Node:
        arguments = (node.args, node.kwargs)
        device = self._device if any(isinstance(a, torch.device) for a in tree_leaves(arguments)) else None
        copied = self.graph.node_copy(node, lambda n: self.copied[n])
        if device:  # that of the machine that traces would stay in the graph
            copied.args, copied.kwargs = map_aggregate(
                (copied.args, copied.kwargs), lambda a: device if isinstance(a, torch.device) else a
            )
        return copied

    @cached_property
    def _images(self) -> fx.Node:
        return self.graph.call_method("size", (self.entry, 0))

    @cached_property
    def _device(self) -> fx.Node:
        return self._attribute("device")

    def _attribute(self, name: str) -> fx.Node:
        return self.graph.call_function(getattr, (self.entry, name))


def _buffer(root: nn.Module, value: Tensor) -> str:
    """The name of a buffer of `root` that holds a constant and is no part of its state."""
    made = [name for name in root._buffers if name.startswith(CONSTANT)]
    for name in made:
        known = root._buffers[name]
        if known is not None and known.dtype == value.dtype and torch.equal(known, value):
            return name
    name = f"{CONSTANT}{len(made)}"
    root.register_buffer(name, value.clone(), persistent=False)
    return name


def _needed(
    traced: TracedGraph, targets: Iterable[fx.Node], begins: fx.Node, before: Iterable[fx.Node] = ()
) -> set[fx.Node]:
    """The nodes that give `targets` from `begins`; ParamsError when they also need a tensor with pixels of `before`."""
    needed: set[fx.Node] = set()
    waiting = [(node, node) for node in targets]
    while waiting:
        node, user = waiting.pop()
        if node in needed:
            continue
        if node is not begins and node in before and traced.has_pixels(node):
            raise ParamsError(f"{user.name} beyond it also uses what comes before: more than one tensor crosses")
        needed.add(node)
        if node is not begins and not _stands_for(traced, node):
            waiting.extend((source, node) for source in node.all_input_nodes)
    return needed


def _stands_for(traced: TracedGraph, node: fx.Node) -> str | None:
    """What a node is on either side: the number of images times a constant, a tensor's dtype, or always the same tensor."""
    if node.op in ("output", "get_attr", "placeholder"):
        return None
    first, second = traced.values.get(node, (None, None))
    if isinstance(first, int) and first and first % BATCHES[0] == 0 and second * BATCHES[0] == first * BATCHES[1]:
        return "images"
    if isinstance(first, torch.dtype):
        return "dtype"
    if not isinstance(first, Tensor) or first.is_meta or first.shape != second.shape or not torch.equal(first, second):
        return None
    return "constant" if not any(_has_state(n, traced) for n in _ancestors([node])) else None


def _has_state(node: fx.Node, traced: TracedGraph) -> bool:
    """Whether a node is a weight, or a draw, or comes from a module, which may have weights."""
    name = str(getattr(node.target, "__name__", node.target)).strip("_")
    return (
        node in traced.weights
        or node.op == "call_module"
        or (name.removesuffix("_like") in (*RANDOM, "uniform", "dropout"))
    )


def _changes_state(node: fx.Node) -> bool:
    """Whether a node changes a tensor in place that nobody looks at later, such as a count of batches."""
    return changes_in_place(node) and not node.users


def _ancestors(nodes: Iterable[Any]) -> set[fx.Node]:
    ancestors: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in ancestors:
            ancestors.add(node)
            waiting.extend(node.all_input_nodes)
    return ancestors
