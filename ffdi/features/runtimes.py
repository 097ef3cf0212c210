"""Run a frozen prefix fast: ONNX Runtime on the CPU, torch on CUDA.

A runtime maps (B, H, W, 3) uint8 images to (B, ...) float32 features, is safe to call from several threads, and gives
an image the same feature whatever stands beside it: on the CPU every image runs alone (as fast there as in batches),
on CUDA the batch shape is fixed and the last batch padded. Threads belong to the caller: on the CPU one call is one
thread's work, so that decoding and inference never fight for a core.
"""

from __future__ import annotations

import hashlib
import json
import queue
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ffdi.errors import FfdiError, ParamsError
from ffdi.features.devices import has_cuda, set_up_device
from ffdi.features.spec import Backbone
from ffdi.files import cache_folder, canonical_json, replacing, write_json

if TYPE_CHECKING:  # with the graph exported, ONNX Runtime needs no torch, whose import takes seconds
    import torch

    from ffdi.features.backbones import FrozenPrefix

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Say = Callable[[str], None]
CUDA_BATCH = 64


@dataclass(frozen=True)
class Runtime:
    """`batch` is how many images to hand to `run` at once; `facts` say what computes, for the provenance.

    `facts["batch"]` is lowered when the device's memory runs out.
    """

    batch: int
    run: Callable[[Images], Features]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """An exported prefix: its ONNX file and the shape of one image's features."""

    file: Path
    shape: tuple[int, ...]


def runtime_name(backbone: Backbone) -> str:
    """What computes a backbone's prefix here, as the fingerprint has it: `auto` is torch on CUDA, else onnxruntime.

    Raises ParamsError for a reduced precision, compilation or a GPU's decoder without CUDA.
    """
    cuda = has_cuda()
    chosen = ("torch" if cuda else "onnxruntime") if backbone.runtime == "auto" else backbone.runtime
    if not (chosen == "torch" and cuda):
        for key, plain in (("precision", "float32"), ("compile", False), ("decoder", "pillow")):
            if (value := getattr(backbone, key)) != plain:
                raise ParamsError(f"{key}: {value} needs runtime torch on CUDA; here it is {chosen} on the CPU")
    return f"{chosen}-{'cuda' if cuda and chosen == 'torch' else 'cpu'}{'-compiled' if backbone.compile else ''}"


def open_runtime(
    backbone: Backbone, weights_sha256: str, load: Callable[[], FrozenPrefix], say: Say = lambda line: None
) -> Runtime:
    """The runtime of a backbone's prefix; `load` is called where the prefix itself is needed.

    Raises ParamsError as runtime_name does. `say` is told when a batch is halved for want of memory.
    """
    name = runtime_name(backbone)
    facts: dict[str, Any] = {"runtime": name, "precision": backbone.precision, "torch": version("torch")}
    if name.startswith("onnxruntime"):
        graph = cached_graph(backbone, weights_sha256) or export_graph(backbone, weights_sha256, load())
        facts |= {"onnxruntime": version("onnxruntime"), "batch": 1}
        return Runtime(1, _onnx_session(graph.file), facts)
    if name.startswith("torch-cuda"):
        import torch

        set_up_device("cuda")
        facts |= {"batch": CUDA_BATCH, "device": torch.cuda.get_device_name()}
        model: Any = load().to("cuda", getattr(torch, backbone.precision)).to(memory_format=torch.channels_last)
        run = InBatches(torch.compile(model) if backbone.compile else model, "cuda", facts, say)
        run(np.zeros((1, backbone.image_size, backbone.image_size, 3), np.uint8))  # compile before threads call
        return Runtime(CUDA_BATCH, run, facts)
    return Runtime(1, _torch_cpu(load()), facts | {"batch": 1})


def _each_alone(one: Callable[[Images], Features]) -> Callable[[Images], Features]:
    return lambda images: np.concatenate([one(images[i : i + 1]) for i in range(len(images))])


def _torch_cpu(prefix: FrozenPrefix) -> Callable[[Images], Features]:
    import torch

    def one(images: Images) -> Features:
        with torch.inference_mode():
            return prefix(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    return _each_alone(one)


class InBatches:
    """Run a model on a device in batches of one shape, `facts["batch"]`, the last padded with black images.

    Each of `slots` callers at a time has a stream and pinned buffers of its own, so that one's copies overlap another's
    computing, and memory is bounded however many threads call. When the device's memory runs out, the batch is halved
    for good, which is said and stands in `facts`.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], torch.Tensor],
        device: str,
        facts: dict[str, Any],
        say: Say,
        slots: int = 2,
    ) -> None:
        import torch

        self._model, self._device, self._facts, self._say = model, device, facts, say
        self._cuda = device == "cuda"
        self._slots: queue.Queue[Any] = queue.Queue()
        for _ in range(slots):
            self._slots.put(torch.cuda.Stream() if self._cuda else None)

    def __call__(self, images: Images) -> Features:
        import torch

        parts: list[Features] = []
        while (done := sum(map(len, parts))) < len(images):
            batch = int(self._facts["batch"])
            try:
                parts.append(self._one_batch(images[done : done + batch], batch))
            except torch.OutOfMemoryError as error:
                self._halve(batch, error)
        return np.concatenate(parts)

    def _one_batch(self, images: Images, batch: int) -> Features:
        import torch

        stream = self._slots.get()
        try:
            padded = torch.zeros((batch, *images.shape[1:]), dtype=torch.uint8, pin_memory=self._cuda)
            padded[: len(images)] = torch.from_numpy(images)
            with torch.inference_mode(), torch.cuda.stream(stream) if self._cuda else nullcontext():
                features = self._model(padded.to(self._device, non_blocking=True))[: len(images)].float()
                out = torch.empty(features.shape, pin_memory=self._cuda)
                out.copy_(features, non_blocking=True)
            if self._cuda:
                stream.synchronize()
            return out.numpy()
        finally:
            self._slots.put(stream)

    def _halve(self, batch: int, error: Exception) -> None:
        import torch

        if batch == 1:
            raise FfdiError(f"out of memory on {self._device} with a batch of one image") from error
        if self._cuda:
            torch.cuda.empty_cache()
        if self._facts["batch"] == batch:  # else another thread has halved it already
            self._facts["batch"] = batch // 2
            self._say(f"out of memory on {self._device}: batch halved to {batch // 2}")


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
    file = _graph_file(backbone, weights_sha256)
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

    size, file = backbone.image_size, _graph_file(backbone, weights_sha256)
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    program = torch.onnx.export(prefix, (example,), dynamo=True, input_names=["images"], verbose=False)
    assert program is not None
    body = program.model_proto.SerializeToString()
    with replacing(file) as temporary:
        temporary.write_bytes(body)
    onnx.checker.check_model(str(file))
    shape = prefix.feature_shape(size)
    write_json(file.with_suffix(".json"), {"sha256": hashlib.sha256(body).hexdigest(), "shape": list(shape)})
    return Graph(file, shape)


def _graph_file(b: Backbone, weights_sha256: str) -> Path:
    """Its name is the hash of all that decides the graph; timm and torchvision hold the networks' code."""
    makers = {name: version(name) for name in ("torch", "onnxscript", "timm", "torchvision")}
    facts = [b.network, b.cut, weights_sha256, list(b.mean), list(b.std), b.image_size]
    return cache_folder() / f"{hashlib.sha256(canonical_json({'prefix': facts, 'by': makers})).hexdigest()}.onnx"
