"""Run a frozen prefix fast: ONNX Runtime on the CPU, torch on CUDA.

A runtime maps (B, H, W, 3) uint8 images to (B, C, h, w) float32 features, is safe to call from several threads, and
gives an image the same feature whatever stands beside it: on the CPU every image runs alone (as fast there as in
batches), on CUDA the batch shape is fixed and the last batch padded.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ffdi.errors import ParamsError
from ffdi.features.backbones import FrozenPrefix
from ffdi.files import cache_folder, canonical_json, replacing

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Runtime:
    """`name` goes into the fingerprint; `batch` is how many images to hand over at once; `run` computes them."""

    name: str
    batch: int
    run: Callable[[Images], Features]


def choose_runtime(runtime: str) -> str:
    """`auto` -> torch where CUDA is, else onnxruntime."""
    return ("torch" if torch.cuda.is_available() else "onnxruntime") if runtime == "auto" else runtime


def open_runtime(prefix: FrozenPrefix, *, runtime: str, precision: str, image_size: int, cache_key: str) -> Runtime:
    """A runtime for `prefix`; `cache_key` names its network, cut and weights, for the exported graph is kept on disk.

    Raises ParamsError for a reduced precision without CUDA.
    """
    chosen = choose_runtime(runtime)
    if precision != "float32" and not (chosen == "torch" and torch.cuda.is_available()):
        raise ParamsError(
            f"precision {precision}: only torch on CUDA reduces precision; here it is {chosen} on the CPU"
        )
    if chosen == "onnxruntime":
        return Runtime("onnxruntime-cpu", 1, _onnx_session(prefix, image_size, cache_key))
    if torch.cuda.is_available():
        return Runtime(f"torch-cuda-{precision}", 64, _cuda(prefix, getattr(torch, precision), batch=64))
    return Runtime("torch-cpu", 1, _torch_cpu(prefix))


def _each_alone(one: Callable[[Images], Features]) -> Callable[[Images], Features]:
    return lambda images: np.concatenate([one(images[i : i + 1]) for i in range(len(images))])


def _torch_cpu(prefix: FrozenPrefix) -> Callable[[Images], Features]:
    def one(images: Images) -> Features:
        with torch.inference_mode():
            return prefix(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    return _each_alone(one)


def _cuda(prefix: FrozenPrefix, dtype: torch.dtype, batch: int) -> Callable[[Images], Features]:
    model = prefix.to("cuda", dtype).to(memory_format=torch.channels_last)
    lock = threading.Lock()

    def run(images: Images) -> Features:
        padded = np.zeros((batch, *images.shape[1:]), np.uint8)
        padded[: len(images)] = images
        pinned = torch.from_numpy(padded).pin_memory()
        with lock, torch.inference_mode():
            features = model(pinned.to("cuda", non_blocking=True))
            return features[: len(images)].float().cpu().numpy()  # type: ignore[no-any-return]

    return run


def _onnx_session(prefix: FrozenPrefix, image_size: int, cache_key: str) -> Callable[[Images], Features]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the callers' threads share the cores; one image is one thread's work
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = exported(prefix, image_size, cache_key)
    session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return _each_alone(lambda images: session.run(None, {"images": images})[0])


def exported(prefix: FrozenPrefix, image_size: int, cache_key: str) -> Path:
    """The prefix as an ONNX file for one (1, S, S, 3) uint8 image; exported once per key and version of the exporter."""
    import onnx
    import onnxscript

    key = {"prefix": cache_key, "size": image_size, "torch": torch.__version__, "onnxscript": onnxscript.__version__}
    file = cache_folder() / f"{hashlib.sha256(canonical_json(key)).hexdigest()}.onnx"
    if not _is_whole(file):
        example = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)
        program = torch.onnx.export(prefix, (example,), dynamo=True, input_names=["images"], verbose=False)
        assert program is not None
        body = program.model_proto.SerializeToString()
        with replacing(file) as temporary:
            temporary.write_bytes(body)
        onnx.checker.check_model(str(file))
        with replacing(file.with_suffix(".sha256")) as temporary:
            temporary.write_text(hashlib.sha256(body).hexdigest())
    return file


def _is_whole(file: Path) -> bool:
    digest = file.with_suffix(".sha256")
    return digest.exists() and file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == digest.read_text()
