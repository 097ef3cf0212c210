"""Run a frozen prefix fast: ONNX Runtime on the CPU, torch on CUDA.

A runtime maps (B, H, W, 3) uint8 images to (B, ...) features, float32 or on CUDA already in the dtype that is kept, is
safe to call from several threads, and gives an image the same feature whatever stands beside it: on the CPU every image
runs alone (as fast there as in batches), on CUDA the batch shape is fixed and the last batch padded. Threads belong to the caller: on the CPU one call is one
thread's work, so that decoding and inference never fight for a core.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.console import Console
from ffdi.errors import ParamsError, ShardError
from ffdi.features.backbone import Backbone
from ffdi.features.batching import Features, Images, InBatches
from ffdi.features.devices import device_facts, device_line, has_cuda, repeating, set_up_device
from ffdi.files import cache_folders, canonical_json, in_cache, replacing, write_json

if TYPE_CHECKING:  # with the graph exported, ONNX Runtime needs no torch, whose import takes seconds
    from ffdi.features.networks import FrozenPrefix

CUDA_BATCH = 64


@dataclass(frozen=True)
class Runtime:
    """`batch` is how many images to hand to `run` at once; `facts` say what computes, for the provenance.

    `facts["batch"]` is lowered when the device's memory runs out; `batches` are the sizes that have computed rows.
    """

    batch: int
    run: Callable[[Images], Features]
    facts: dict[str, Any] = field(default_factory=dict)
    batches: set[int] = field(default_factory=set)

    @property
    def made_by(self) -> tuple[dict[str, Any], ...]:
        """What computed the rows until now: `facts`, for each size of batch."""
        return tuple(self.facts | {"batch": size} for size in sorted(self.batches)) or (self.facts,)


@dataclass(frozen=True)
class Graph:
    """An exported prefix: its ONNX file and the shape of one image's features."""

    file: Path
    shape: tuple[int, ...]


_PLAIN = {"precision": "float32", "compile": False, "decoder": "pillow", "memory_format": "contiguous"}


def runtime_name(backbone: Backbone) -> str:
    """What computes a backbone's prefix here, as the fingerprint has it: `auto` is torch on CUDA, else onnxruntime.

    `torch-cuda` alone has its channels last, as it had before there was a choice. Raises ParamsError for a reduced
    precision, compilation, a memory format or a GPU's decoder without CUDA.
    """
    cuda = has_cuda()
    chosen = ("torch" if cuda else "onnxruntime") if backbone.runtime == "auto" else backbone.runtime
    if not (chosen == "torch" and cuda):
        for key, plain in _PLAIN.items():
            if (value := getattr(backbone, key)) != plain:
                raise ParamsError(f"{key}: {value} needs runtime torch on CUDA; here it is {chosen} on the CPU")
        return f"{chosen}-cpu"
    layout = "" if backbone.memory_format == "channels_last" else "-contiguous"
    return f"torch-cuda{layout}{'-compiled' if backbone.compile else ''}"


def runtime_line(name: str) -> str:
    """The device of a runtime and why, on one line."""
    line = device_line()
    if name.startswith("torch-cuda") or not line.startswith("cuda"):
        return line
    return f"cpu: runtime {name.removesuffix('-cpu')} is asked for (not used: {line.removeprefix('cuda: ')})"


def open_runtime(
    backbone: Backbone,
    weights_sha256: str,
    load: Callable[[], FrozenPrefix],
    name: str | None = None,
    console: Console = Console(),
) -> Runtime:
    """The runtime of a backbone's prefix: that of runtime_name, or `name`, which made the rows that are to be joined.

    `load` is called where the prefix itself is needed, which stays as and where it is. The console is warned when a batch
    is halved because memory ran out. Raises ParamsError as runtime_name does, ShardError when `name` cannot run here.
    """
    if name is None:
        name = runtime_name(backbone)
    elif name.startswith("torch-cuda") and not has_cuda():
        raise ShardError(
            f"features of {backbone.name} were made by {name}, which cannot run here ({device_line()}): go on where "
            "CUDA is, or run extract again here"
        )
    facts: dict[str, Any] = {"runtime": name, "precision": backbone.precision, "torch": version("torch")}
    if name.startswith("onnxruntime"):
        graph = cached_graph(backbone, weights_sha256) or export_graph(backbone, weights_sha256, load())
        facts |= {"onnxruntime": version("onnxruntime"), "batch": 1}
        return Runtime(1, _onnx_session(graph.file), facts)
    if name.startswith("torch-cuda"):
        return _torch_cuda(backbone, load(), name, facts, console)
    return Runtime(1, _torch_cpu(load()), facts | {"batch": 1})


def _torch_cuda(b: Backbone, prefix: FrozenPrefix, name: str, facts: dict[str, Any], console: Console) -> Runtime:
    """On a copy of the prefix, for whoever else has it counts on it as it was."""
    import torch

    device, machine = set_up_device("cuda"), device_facts()
    facts |= {"batch": CUDA_BATCH, "device": machine.pop("gpu"), **machine}
    reduced = getattr(torch, b.precision) if b.precision in ("float16", "bfloat16") else torch.float32
    model: Any = copy.deepcopy(prefix).to(device, reduced)
    if "-contiguous" not in name:
        model = model.to(memory_format=torch.channels_last)
    compiled = name.endswith("-compiled")
    if compiled:
        model = torch.compile(model)
    torch.cuda.synchronize()  # the batches' own streams do not wait for the one that has laid out the weights
    kept = torch.float32 if b.dtype == "float32" else torch.float16
    run = InBatches(model, device, facts, console.warn, precision=b.precision, kept=kept, compiled=compiled)
    with repeating(remedy="set runtime: onnxruntime"):  # learn its memory, and compile, before threads call
        run(np.zeros((1, b.image_size, b.image_size, 3), np.uint8))
    run.batches.clear()
    return Runtime(CUDA_BATCH, run, facts, run.batches)


def _each_alone(one: Callable[[Images], Features]) -> Callable[[Images], Features]:
    return lambda images: np.concatenate([one(images[i : i + 1]) for i in range(len(images))])


def _torch_cpu(prefix: FrozenPrefix) -> Callable[[Images], Features]:
    import torch

    def one(images: Images) -> Features:
        with torch.inference_mode():
            return prefix(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    return _each_alone(one)


def _onnx_session(model: Path) -> Callable[[Images], Features]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the callers' threads share the cores
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return _each_alone(lambda images: session.run(None, {"images": images})[0])


def cached_graph(backbone: Backbone, weights_sha256: str) -> Graph | None:
    """The graph that an earlier run exported, if it is there and whole."""
    for folder in cache_folders():
        file = folder / _graph_name(backbone, weights_sha256)
        try:
            facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            if hashlib.sha256(file.read_bytes()).hexdigest() == facts["sha256"]:
                return Graph(file, tuple(facts["shape"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
    return None


def export_graph(backbone: Backbone, weights_sha256: str, prefix: FrozenPrefix) -> Graph:
    """Export the prefix for one (1, S, S, 3) uint8 image into the user's cache: once for its key, exporter and runtime."""
    import onnx
    import torch

    size, name = backbone.image_size, _graph_name(backbone, weights_sha256)
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    program = torch.onnx.export(prefix, (example,), dynamo=True, input_names=["images"], verbose=False)
    assert program is not None
    body = program.model_proto.SerializeToString()
    shape = prefix.feature_shape(size)

    def keep(folder: Path) -> Graph:
        file = folder / name
        with replacing(file) as temporary:
            temporary.write_bytes(body)
        onnx.checker.check_model(str(file))
        write_json(file.with_suffix(".json"), {"sha256": hashlib.sha256(body).hexdigest(), "shape": list(shape)})
        return Graph(file, shape)

    return in_cache(keep)


def _graph_name(b: Backbone, weights_sha256: str) -> str:
    """Its name is the hash of all that decides the graph; timm and torchvision hold the networks' code."""
    makers = {name: version(name) for name in ("torch", "onnxscript", "timm", "torchvision")}
    facts = [b.network, b.cut, weights_sha256, list(b.mean), list(b.std), b.image_size]
    return f"{hashlib.sha256(canonical_json({'prefix': facts, 'by': makers})).hexdigest()}.onnx"
