"""Run a model on a device in batches of one shape, from many threads: streams, pinned buffers, halved batches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ffdi.console import Say
from ffdi.errors import FfdiError
from ffdi.features.devices import precision_on

if TYPE_CHECKING:
    import torch

Images = npt.NDArray[np.uint8]
FloatFeatures = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class BatchOptions:
    """How a model computes its batches: how many at a time, in which precision, and in which dtype features are kept."""

    slots: int = 2
    precision: str = "float32"
    kept: torch.dtype | None = None  # float32
    compiled: bool = False


class BatchedModel:
    """Run a model on a device in batches of one size, `maker["batch"]`, the last one padded with black images.

    Each of `slots` callers at a time has its own stream and pinned buffers, so that the copies of one overlap the
    computation of another, and memory is bounded however many threads call. NumPy fills the buffers, because torch
    would keep a team of threads for each caller. Features leave the device as `kept`, an overflow as infinite. When the
    device runs out of memory, the batch is halved for the rest of the run: `warn` is told and `maker` changed.
    `batches` holds the sizes that computed rows. A `compiled` model is compiled for each size by one thread.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device | str,
        maker: dict[str, Any],
        warn: Say,
        options: BatchOptions = BatchOptions(),
    ) -> None:
        import torch

        self._model, self._device, self._maker, self._warn = model, torch.device(device), maker, warn
        self._precision, self._kept = options.precision, options.kept or torch.float32
        self.batches: set[int] = set()
        self._halving = threading.Lock()
        self._compiling = threading.Lock() if options.compiled else None
        self._compiled: set[tuple[int, ...]] = set()
        self._threads = torch.get_num_threads()
        self._slots: queue.Queue[_Slot] = queue.Queue()
        for _ in range(options.slots):
            self._slots.put(_Slot(self._device))

    def __call__(self, images: Images) -> FloatFeatures:
        import torch

        parts: list[FloatFeatures] = []
        while (done := sum(map(len, parts))) < len(images):
            batch = int(self._maker["batch"])
            try:
                parts.append(self._one_batch(images[done : done + batch], batch))
                self.batches.add(batch)
            except torch.OutOfMemoryError:
                exhausted = True
            else:
                exhausted = False
            if exhausted:  # after the except clause: the error's traceback keeps the activations
                self._halve(batch)
        return np.concatenate(parts)

    def _one_batch(self, images: Images, batch: int) -> FloatFeatures:
        slot = self._slots.get()
        try:
            padded = slot.images((batch, *images.shape[1:]))
            padded[: len(images)] = images
            padded[len(images) :] = 0
            with self._compiling_alone(padded.shape):
                return slot.run(self._computed, len(images))
        finally:
            self._slots.put(slot)

    def _computed(self, padded: torch.Tensor) -> torch.Tensor:
        with precision_on(self._device, self._precision):
            return self._model(padded).to(self._kept)

    @contextmanager
    def _compiling_alone(self, shape: tuple[int, ...]) -> Iterator[None]:
        """Let one thread at a time compile: Dynamo fails when two threads do, each at its first call with a shape.

        It compiles again when a thread's number of CPU threads differs from that of the first thread, so they are made
        equal.
        """
        import torch

        if self._compiling is None:
            yield
            return
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with self._compiling if shape not in self._compiled else nullcontext():
            yield
        self._compiled.add(shape)

    def _halve(self, batch: int) -> None:
        import torch

        if batch == 1:
            cure = "end what else uses it, or set runtime: onnxruntime, which computes on the CPU"
            raise FfdiError(f"out of memory on {self._device.type} with a batch of one image: {cure}")
        with self._halving:
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if self._maker["batch"] == batch:  # otherwise another thread has halved it already
                self._maker["batch"] = batch // 2
                self._warn(f"out of memory on {self._device.type}: batch halved to {batch // 2}")


class _Slot:
    """One caller's stream and pinned buffers, which are allocated again when the shape of the batch changes."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device, self._pinned = device, device.type == "cuda"
        self._stream = torch.cuda.Stream() if self._pinned else None
        self._images: torch.Tensor | None = None
        self._out: torch.Tensor | None = None

    def images(self, shape: tuple[int, ...]) -> Images:
        """The buffer that the batch is put into, (B, H, W, 3) uint8."""
        import torch

        if self._images is None or self._images.shape != shape:
            self._images = torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned)
        return self._images.numpy()

    def run(self, model: Callable[[torch.Tensor], torch.Tensor], count: int) -> FloatFeatures:
        """The features of the first `count` images of the buffer."""
        import torch

        assert self._images is not None
        with torch.inference_mode(), torch.cuda.stream(self._stream) if self._stream else nullcontext():
            features = model(self._images.to(self._device, non_blocking=True))
            if not self._pinned:
                out: FloatFeatures = features[:count].contiguous().numpy().copy()
                return out
            if self._out is None or self._out.shape != features.shape:
                self._out = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
            self._out.copy_(features, non_blocking=True)
        assert self._stream is not None
        self._stream.synchronize()
        out = self._out[:count].numpy().copy()
        return out
