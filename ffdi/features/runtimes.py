"""Run a frozen prefix fast: ONNX Runtime on the CPU, torch on CUDA.

A runtime maps (B, H, W, 3) uint8 images to (B, ...) features, float32 or on CUDA already in the dtype that is kept, is
safe to call from several threads, and gives an image the same feature whatever the other images of its batch are: on
the CPU every image runs alone (as fast there as in batches), on CUDA the batch shape is fixed and the last batch
padded. Threads belong to the caller: on the CPU one call uses one thread, so that decoding and inference never compete
for a core.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.console import Console
from ffdi.errors import ExportError, FfdiError, ParamsError, ShardError, first_cause, one_line, placed
from ffdi.features.backbone import Backbone
from ffdi.features.batching import BatchedModel, BatchOptions, FloatFeatures, Images
from ffdi.features.devices import describe_cuda, device_line, has_cuda, repeating, set_up_device
from ffdi.features.fused_attention import attention_as_one_operator
from ffdi.features.keep import TokenGrid
from ffdi.files import cache_folders, canonical_json, in_cache, replacing, sha256_file, write_json

if TYPE_CHECKING:  # with the graph exported, ONNX Runtime needs no torch, whose import takes seconds
    from ffdi.features.networks import FrozenPrefix

CUDA_BATCH = 64
_MOST_ERROR = 0.01  # of ONNX Runtime's features, relative to torch's: float32 in another order stays far below


@dataclass(frozen=True)
class Runtime:
    """`run` computes features; hand it `batch` images at once. `maker` says what computes, for the provenance.

    `maker["batch"]` is lowered when the device runs out of memory; `batches` holds the sizes that have computed rows.
    """

    batch: int
    run: Callable[[Images], FloatFeatures]
    maker: dict[str, Any] = field(default_factory=dict)
    batches: set[int] = field(default_factory=set)

    @property
    def made_by(self) -> tuple[dict[str, Any], ...]:
        """What has computed the rows until now: `maker` for each size of batch."""
        return tuple(self.maker | {"batch": size} for size in sorted(self.batches)) or (self.maker,)


@dataclass(frozen=True)
class Graph:
    """An exported prefix: its ONNX file, the shape of one image's features, and where tokens have their places."""

    file: Path
    shape: tuple[int, ...]
    tokens: TokenGrid | None = None


_PLAIN = {"precision": "float32", "compile": False, "decoder": "pillow", "memory_format": "contiguous"}


def runtime_name(backbone: Backbone) -> str:
    """The name of what computes a backbone's prefix on this machine, as the fingerprint has it.

    `auto` is torch where CUDA is, and onnxruntime elsewhere. `torch-cuda` without a suffix means channels last, as it
    did before there was a choice. Raises ParamsError for a setting of CUDA alone where there is none.
    """
    cuda = has_cuda()
    chosen = ("torch" if cuda else "onnxruntime") if backbone.runtime == "auto" else backbone.runtime
    if not (chosen == "torch" and cuda):
        for key, plain in _PLAIN.items():
            if (set_to := getattr(backbone, key)) != plain:
                where = f"here it is {chosen} on the CPU: leave it out"
                raise ParamsError(f"{key}: {set_to} needs runtime torch on CUDA; {where}")
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
    """The runtime of a backbone's prefix: that of runtime_name, or `name`, when rows are added to those that it made.

    `load` is called when the prefix itself is needed; the prefix is not changed or moved. The console is warned when a
    batch is halved because memory ran out. Raises ParamsError as runtime_name does, ShardError when `name` cannot run
    here.
    """
    if name is None:
        name = runtime_name(backbone)
    elif name.startswith("torch-cuda") and not has_cuda():
        raise ShardError(
            f"features of {backbone.name} were made by {name}, which cannot run here ({device_line()}): go on where "
            "CUDA is, or run extract again here"
        )
    maker: dict[str, Any] = {"runtime": name, "precision": backbone.precision, "torch": version("torch")}
    if name.startswith("onnxruntime"):
        graph = exported_graph(backbone, weights_sha256, load)
        maker |= {"onnxruntime": version("onnxruntime"), "batch": 1}
        return Runtime(1, _onnx_session(graph.file), maker)
    if name.startswith("torch-cuda"):
        return _torch_cuda(backbone, load(), name, maker, console)
    return Runtime(1, _torch_cpu(load()), maker | {"batch": 1})


def _torch_cuda(b: Backbone, prefix: FrozenPrefix, name: str, maker: dict[str, Any], console: Console) -> Runtime:
    """Torch on CUDA, with a copy of the prefix: its other users rely on the original as it is."""
    import torch

    device, machine = set_up_device("cuda"), describe_cuda()
    maker |= {"batch": CUDA_BATCH, "device": machine.pop("gpu"), **machine}
    reduced = getattr(torch, b.precision) if b.precision in ("float16", "bfloat16") else torch.float32
    model: Any = copy.deepcopy(prefix).to(device, reduced)
    if "-contiguous" not in name:
        model = model.to(memory_format=torch.channels_last)
    compiled = name.endswith("-compiled")
    if compiled:
        model = torch.compile(model)
    torch.cuda.synchronize()  # the streams of the batches do not wait for the one that copied the weights
    kept = torch.float32 if b.dtype == "float32" else torch.float16
    options = BatchOptions(precision=b.precision, kept=kept, compiled=compiled)
    run = BatchedModel(model, device, maker, console.warn, options)
    with repeating(remedy="set runtime: onnxruntime"):  # learn its memory, and compile, before threads call
        run(np.zeros((1, b.pixels.size, b.pixels.size, 3), np.uint8))
    run.batches.clear()
    return Runtime(CUDA_BATCH, run, maker, run.batches)


def _each_alone(one: Callable[[Images], FloatFeatures]) -> Callable[[Images], FloatFeatures]:
    return lambda images: np.concatenate([one(images[i : i + 1]) for i in range(len(images))])


def _torch_cpu(prefix: FrozenPrefix) -> Callable[[Images], FloatFeatures]:
    import torch

    def one(images: Images) -> FloatFeatures:
        with torch.inference_mode():
            return prefix(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    return _each_alone(one)


def _onnx_session(model: Path | bytes) -> Callable[[Images], FloatFeatures]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the callers' threads share the cores
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(
        str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]
    )
    return _each_alone(lambda images: session.run(None, {"images": images})[0])


def cached_graph(backbone: Backbone, weights_sha256: str) -> Graph | None:
    """The graph that an earlier run exported, if it is there and its hash is right."""
    for file, described in _descriptions(backbone, weights_sha256):
        with suppress(OSError, KeyError, TypeError):
            state = file.stat()
            if _digest(file, state.st_size, state.st_mtime_ns) == described["sha256"]:
                shape = tuple(described["shape"])
                tokens = described["tokens"] if len(shape) == 2 else None  # KeyError: an older ffdi did not ask
                return Graph(file, shape, tokens and TokenGrid(**tokens))
    return None


@lru_cache
def _digest(file: Path, size: int, changed_ns: int) -> str:
    """The sha256 of a file that has this size and was changed at this time: a run asks for a graph several times."""
    return sha256_file(file)


def _descriptions(backbone: Backbone, weights_sha256: str) -> Iterator[tuple[Path, Any]]:
    """The place of the graph in each cache where an earlier run described it, and what it wrote."""
    name = _graph_name(backbone, weights_sha256)
    for folder in cache_folders():
        try:
            described = json.loads((folder / name).with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        yield folder / name, described


def exported_graph(backbone: Backbone, weights_sha256: str, load: Callable[[], FrozenPrefix]) -> Graph:
    """The graph of the prefix, exported into the user's cache where it is not there yet.

    Raises ExportError when the prefix does not export to ONNX, or when ONNX Runtime gives other features than torch. The
    cache remembers that, too.
    """
    if graph := cached_graph(backbone, weights_sha256):
        return graph
    if reason := refused_export(backbone, weights_sha256):
        raise _no_graph(backbone, reason)
    prefix, size, name = load(), backbone.pixels.size, _graph_name(backbone, weights_sha256)
    with placed(backbone.place):
        shape = prefix.feature_shape(size)  # ParamsError when the size does not fit, which no cache remembers
    try:
        body = _export(prefix, size)
        _refuse_other_features(body, prefix, size)
    except Exception as error:  # the exporter may raise anything
        cause = first_cause(error)
        reason = one_line(cause)[:200]
        if isinstance(cause, MemoryError) or "can't allocate" in reason:  # the next time there may be enough
            what = f"memory ran out while {backbone.network} cut at {backbone.cut_name} was exported to ONNX ({reason})"
            raise FfdiError(f"backbones.{backbone.name}: {what}: set runtime: torch") from error
        in_cache(partial(_remember, name, {"refused": reason}))
        raise _no_graph(backbone, reason) from error

    def keep(folder: Path) -> Graph:
        file = folder / name
        with replacing(file) as temporary:
            temporary.write_bytes(body)
        about: dict[str, Any] = {"sha256": hashlib.sha256(body).hexdigest(), "shape": list(shape)}
        if len(shape) == 2:
            about["tokens"] = asdict(prefix.tokens) if prefix.tokens else None
        _remember(name, about, folder)
        return Graph(file, shape, prefix.tokens)

    return in_cache(keep)


def refused_export(backbone: Backbone, weights_sha256: str) -> str | None:
    """Why the prefix did not export to ONNX in an earlier run, if it did not."""
    for _, described in _descriptions(backbone, weights_sha256):
        with suppress(KeyError, TypeError):
            return str(described["refused"])
    return None


def _remember(name: str, description: dict[str, Any], folder: Path) -> None:
    write_json((folder / name).with_suffix(".json"), description)


def _no_graph(backbone: Backbone, reason: str) -> ExportError:
    what = f"the prefix of {backbone.network} cut at {backbone.cut_name} does not run on ONNX Runtime ({reason})"
    return ExportError(f"backbones.{backbone.name}: {what}: set runtime: torch")


def _export(prefix: FrozenPrefix, size: int) -> bytes:
    """The ONNX graph of the prefix for one (1, S, S, 3) uint8 image."""
    import onnx
    import torch

    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    options: dict[str, Any] = {"custom_translation_table": attention_as_one_operator(), "verbose": False}
    program = torch.onnx.export(prefix, (example,), dynamo=True, input_names=["images"], **options)
    assert program is not None
    body: bytes = program.model_proto.SerializeToString()
    onnx.checker.check_model(body)
    return body


def _refuse_other_features(body: bytes, prefix: FrozenPrefix, size: int) -> None:
    """ValueError when the graph's features of a picture of noise are not those of the prefix."""
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    due, given = _torch_cpu(prefix)(image), _onnx_session(body)(image)
    error = np.linalg.norm(given - due) / max(float(np.linalg.norm(due)), 1e-30)
    if np.isfinite(due).all() and not error <= _MOST_ERROR:
        raise ValueError(f"its features are not those of torch, relative error {error:.2g}")


def _graph_name(b: Backbone, weights_sha256: str) -> str:
    """The hash of all that decides the graph, which includes the packages with the networks' code and the exporter."""
    makers = {name: version(name) for name in ("torch", "onnxscript", "timm", "torchvision")}
    prefix: list[Any] = [b.network, b.cut, weights_sha256, list(b.pixels.mean), list(b.pixels.std), b.pixels.size]
    if len(b.cuts) > 1:
        prefix.append(b.keep)  # pools the features of several cuts in the graph itself
    if b.network_args:
        prefix.append(dict(b.network_args))
    made = {"prefix": prefix, "by": makers, "attention": "one operator", "features": "channels first"}
    return f"{hashlib.sha256(canonical_json(made)).hexdigest()}.onnx"
