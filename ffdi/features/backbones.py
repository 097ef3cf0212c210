"""Build a network by name and cut it in two: a frozen prefix and a trainable tail body.

A cut is a module: all before it is the prefix, all from it on is the body, and `body(prefix(x)) == network(x)`. The
network is traced with every module that does not contain the cut as a leaf, so only the few forward functions around
the cut are traced and nothing inside a layer can fail to trace or freeze its train-mode behaviour.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ffdi.errors import ParamsError

INPUT = "input"  # the cut of an empty prefix


@dataclass(frozen=True)
class Backbone:
    """All that decides a feature but the weights' bytes; the fields are those of params.yaml."""

    name: str
    network: str
    weights: str
    cut: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    view_count: int
    view_policy: tuple[dict[str, Any], ...]
    view_seed: int
    dtype: str
    runtime: str
    precision: str

    def cache_key(self, weights_sha256: str) -> str:
        """What names the exported graph of this backbone's prefix."""
        return f"{self.network} {self.cut} {weights_sha256} {self.mean} {self.std}"


def build_network(name: str) -> nn.Module:
    """`torchvision:NAME` or `timm:NAME`, with random weights; ParamsError lists close names."""
    source, _, model = name.partition(":")
    known: list[str]
    if source == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        if model in known:
            return models.get_model(model, weights=None)  # type: ignore[no-any-return]
    elif source == "timm":
        import timm

        known = timm.list_models()
        if model in known:
            network: nn.Module = timm.create_model(model, pretrained=False)
            return network
    else:
        raise ParamsError(f"network {name!r}: begins with neither torchvision: nor timm:")
    near = difflib.get_close_matches(model, known, n=5) or known[:5]
    raise ParamsError(f"network {name!r} does not exist in {source}; close names: {', '.join(near)}")


def without_classifier(network: nn.Module, name: str) -> nn.Module:
    """The network giving pooled features (B, D): its last linear layer, and a dropout right before it, give way to the head.

    Heads bring their own dropout. Changes `network` and returns it.
    """
    if name.startswith("timm:"):
        network.reset_classifier(0)  # type: ignore[operator]
        return network
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ParamsError(f"network {name!r} has no linear classifier to replace")
    parent_path, _, last = linear[-1].rpartition(".")
    parent = network.get_submodule(parent_path)
    setattr(parent, last, nn.Identity())
    if isinstance(parent, nn.Sequential) and last.isdigit() and int(last):
        before = str(int(last) - 1)
        if isinstance(getattr(parent, before, None), nn.Dropout):
            setattr(parent, before, nn.Identity())
    return network


def cut_network(network: nn.Module, at: str) -> tuple[fx.GraphModule | None, Body]:
    """(prefix, body): the prefix (None for `input`) is in eval mode without gradients; the body shares no tensor with it.

    Raises ParamsError when `at` is no module, is not called exactly once, or when more than one tensor crosses the cut.
    """
    if at == INPUT:
        return None, Body(copy.deepcopy(network))
    _refuse_unknown(network, at)
    was_training = network.training
    try:
        evaluating, training = (_trace(network.train(mode), at) for mode in (False, True))
    finally:
        network.train(was_training)
    prefix_graph, body_graph = _halves(evaluating, at)
    prefix = fx.GraphModule(copy.deepcopy(network), prefix_graph, class_name="Prefix")
    body = Body(copy.deepcopy(network), evaluating=body_graph, training=_halves(training, at)[1])
    return prefix.eval().requires_grad_(False), body


class Body(nn.Module):
    """The part of a network from the cut on; keeps the network's own module names in its state.

    Forward: (B, C, H, W) crossing tensor -> the network's output. Traced once per mode, for a function such as
    `F.dropout(x, training=self.training)` around the cut is a constant in either graph.
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


class _Tracer(fx.Tracer):
    def __init__(self, cut: str) -> None:
        super().__init__()
        self.cut = cut

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self.cut.startswith(module_qualified_name + ".")


def _trace(network: nn.Module, cut: str) -> fx.Graph:
    # Optional arguments (an attention mask, say) keep their defaults: traced, they would be tensors that cross the cut.
    optional = list(inspect.signature(network.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in optional if p.default is not p.empty}
    try:
        return _Tracer(cut).trace(network, defaults)
    except (fx.proxy.TraceError, TypeError, AttributeError, RuntimeError) as error:
        raise ParamsError(
            f"cut {cut!r}: the code around it cannot be traced: {' '.join(str(error).split())}"
        ) from error


def _halves(graph: fx.Graph, cut: str) -> tuple[fx.Graph, fx.Graph]:
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == cut]
    if len(calls) != 1:
        raise ParamsError(f"cut {cut!r}: the network calls this module {len(calls)} times; a cut is called once")
    inputs = calls[0].all_input_nodes
    before = _ancestors(inputs)
    if len(inputs) != 1 or not any(n.op == "placeholder" for n in before):
        raise ParamsError(f"cut {cut!r}: {len(inputs)} tensors enter this module; a cut is crossed by one")
    crossing = inputs[0]
    if crossing.op == "placeholder":
        raise ParamsError(f"cut {cut!r}: nothing comes before it; the empty prefix is `cut: {INPUT}`")
    live = _ancestors(n for n in graph.nodes if n.op == "output")
    beyond = [n for n in graph.nodes if n in live and n not in before]
    for node in beyond:
        if any(s in before and s is not crossing and s.op != "get_attr" for s in node.all_input_nodes):
            raise ParamsError(
                f"cut {cut!r}: {node.name} beyond it also uses what comes before: more than one tensor crosses"
            )

    prefix = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in (n for n in graph.nodes if n in before):
        copied[node] = prefix.node_copy(node, lambda n: copied[n])
    prefix.output(copied[crossing])

    body = fx.Graph()
    moved = {crossing: body.placeholder("x")}
    used = {source for node in beyond for source in node.all_input_nodes if source.op == "get_attr"}
    for node in (n for n in graph.nodes if n in used or n in beyond):
        moved[node] = body.node_copy(node, lambda n: moved[n])
    return prefix, body


def _ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found


def _compiled(graph: fx.Graph) -> Callable[[nn.Module, Tensor], Tensor]:
    """The graph as a function (root module, x): GraphModule would copy the modules and lose the shared names."""
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<tail body>", "exec"), scope)  # source that torch.fx made from the graph
    return scope["forward"]  # type: ignore[no-any-return]


def _prune(network: nn.Module, used: set[str]) -> None:
    """Remove every module, parameter and buffer that the graphs do not reach, so that the state is the tail's alone."""

    def keep(path: str) -> bool:
        return not path or any(path == u or path.startswith(u + ".") or u.startswith(path + ".") for u in used)

    owned = [p for p, _ in (*network.named_modules(), *network.named_parameters(), *network.named_buffers())]
    for path in owned:
        parent, _, leaf = path.rpartition(".")
        if not keep(path) and keep(parent):
            owner = network.get_submodule(parent)
            for registry in (owner._modules, owner._parameters, owner._buffers):
                registry.pop(leaf, None)


def _refuse_unknown(network: nn.Module, at: str) -> None:
    names = [name for name, _ in network.named_modules() if name]
    if at in names:
        return
    stem = re.split(r"\.", at)[0]
    near = difflib.get_close_matches(at, names, n=5, cutoff=0.5) or [n for n in names if n.startswith(stem)][:5]
    raise ParamsError(f"cut {at!r} is no module of the network; close names: {', '.join(near or names[:5])}, {INPUT}")


class FrozenPrefix(nn.Module):
    """Normalisation and prefix in one: (B, H, W, 3) uint8 RGB -> (B, C, h, w) float features, no gradients.

    Normalisation is (v / 255 - mean) / std per channel, so that it cannot drift from the weights.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, prefix: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.prefix = prefix
        self.register_buffer("scale", (1 / (255 * torch.tensor(std))).view(1, 3, 1, 1))
        self.register_buffer("shift", (-torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return self.prefix(x)  # type: ignore[no-any-return]

    def feature_shape(self, image_size: int) -> tuple[int, int, int]:
        """(C, h, w) of one image's features; ParamsError when they are no map."""
        with torch.inference_mode():
            shape = tuple(self(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)).shape[1:])
        if len(shape) != 3:
            raise ParamsError(f"the tensor that crosses the cut has shape {shape}, not (C, H, W)")
        return shape
