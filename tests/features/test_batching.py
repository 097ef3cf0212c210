"""A model on a device: batches of one shape, buffers, memory that runs out, one thread compiling."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda

from ffdi.errors import FfdiError
from ffdi.features.batching import BatchedModel, BatchOptions
from ffdi.features.runtimes import Runtime

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said here is said of the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


class Device:
    """A model on a device whose memory takes `most` images at once."""

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self.batches: list[int] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return images.permute(0, 3, 1, 2)[:, :1].to(torch.bfloat16)


def in_batches(device: Device, batch: int) -> tuple[BatchedModel, dict[str, Any], list[str]]:
    maker: dict[str, Any] = {"batch": batch}
    lines: list[str] = []
    return BatchedModel(device, "cpu", maker, lines.append), maker, lines


def test_every_batch_on_a_device_has_one_shape() -> None:
    device = Device()
    run, maker, lines = in_batches(device, 4)
    features = run(IMAGES)
    assert np.array_equal(features, IMAGES.transpose(0, 3, 1, 2)[:, :1].astype(np.float32))
    assert features.dtype == np.float32
    assert device.batches == [4, 4] and maker == {"batch": 4} and not lines


def test_out_of_memory_halves_the_batch_says_so_and_goes_on() -> None:
    device = Device(most=3)
    run, maker, lines = in_batches(device, 8)
    assert np.array_equal(run(IMAGES), IMAGES.transpose(0, 3, 1, 2)[:, :1].astype(np.float32))
    assert device.batches == [8, 4, 2, 2, 2] and maker == {"batch": 2}
    assert lines == ["out of memory on cpu: batch halved to 4", "out of memory on cpu: batch halved to 2"]


def test_a_device_without_room_for_one_image_is_a_clear_error() -> None:
    run, _, _ = in_batches(Device(most=0), 2)
    with pytest.raises(FfdiError, match="out of memory on cpu with a batch of one image"):
        run(IMAGES)


def test_each_size_of_batch_that_computed_rows_is_told() -> None:
    device = Device(most=8)
    maker: dict[str, Any] = {"batch": 8}
    run = BatchedModel(device, "cpu", maker, lambda line: None)
    runtime = Runtime(8, run, maker, run.batches)
    assert runtime.made_by == ({"batch": 8},)  # nothing computed: as it would be
    run(np.zeros((8, 4, 4, 3), np.uint8))
    device.most = 3
    run(np.zeros((8, 4, 4, 3), np.uint8))
    assert runtime.made_by == ({"batch": 2}, {"batch": 8})


def test_a_batch_s_memory_is_free_before_the_device_is_asked_for_more() -> None:
    """The error's traceback holds the frames that hold the activations: emptied under it, the cache keeps them."""
    alive: list[weakref.ref[torch.Tensor]] = []
    free: list[bool] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        activation = torch.zeros(1000)
        alive.append(weakref.ref(activation))
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return images[:, :1, :1, 0].float()

    run = BatchedModel(model, "cpu", {"batch": 4}, lambda line: free.append(alive[-1]() is None))
    run(np.zeros((4, 8, 8, 3), np.uint8))
    assert free == [True]


def test_buffers_are_kept_and_nothing_of_a_former_batch_stays(fake_cuda: FakeCuda) -> None:
    made: list[tuple[int, ...]] = []
    empty = torch.empty

    def counted(*shape: Any, **options: Any) -> torch.Tensor:
        if options.get("pin_memory"):
            made.append(tuple(shape[0]))
        return empty(*shape, **options)

    seen: list[torch.Tensor] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.cpu())
        return images[:, 0].float()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", counted)
        run = BatchedModel(model, "cuda", {"batch": 4}, lambda line: None, BatchOptions(slots=1))
        first = run(IMAGES[:4])
        again = run(IMAGES[4:])
    assert made == [(4, 64, 64, 3), (4, 64, 3)]  # one for images, one for features
    assert np.array_equal(first, IMAGES[:4, 0]) and np.array_equal(again, IMAGES[4:, 0])
    assert np.array_equal(seen[1][:2], IMAGES[4:]) and not seen[1][2:].any()


def test_features_leave_the_device_as_they_are_kept(fake_cuda: FakeCuda) -> None:
    def model(images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, :2, 0].float() * torch.tensor([1.0, 1e6], device=images.device)

    run = BatchedModel(model, "cuda", {"batch": 4}, lambda line: None, BatchOptions(kept=torch.float16))
    found = run(np.full((2, 4, 4, 3), 3, np.uint8))
    assert found.dtype == np.float16 and found.tolist() == [[3.0, math.inf]] * 2


def test_filling_the_buffers_takes_no_team_of_threads() -> None:
    """16 workers of a machine of 16 cores had 273 threads: each worker's torch kept a team of its own."""
    code = """
import re, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np, torch
from ffdi.features.batching import BatchedModel, BatchOptions
def threads(): return int(re.search(r"Threads:\\s+(\\d+)", open("/proc/self/status").read())[1])
torch.set_num_threads(16)
run = BatchedModel(lambda x: x[:, :2, :2, 0].float(), "cpu", {"batch": 64}, print, BatchOptions(slots=16))
images, gate = np.zeros((64, 224, 224, 3), np.uint8), threading.Barrier(8)
before = threads()
def work(_):
    gate.wait()
    return run(images).shape
with ThreadPoolExecutor(8) as pool:
    list(pool.map(work, range(8)))
    print(threads() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 8  # the workers


def test_one_thread_compiles_at_a_time() -> None:
    """Also after a halving, when every worker meets the new shape at once; and all with the same count of threads."""
    compiling, most, compiled = [0], [0], set[int]()
    counts: list[int] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        counts.append(torch.get_num_threads())
        size = len(images)
        if size not in compiled:
            compiling[0] += 1
            most[0] = max(most[0], compiling[0])
            time.sleep(0.02)
            compiling[0] -= 1
            if size > 4:
                raise torch.OutOfMemoryError("out of memory")
            compiled.add(size)
        return images[:, :1, :1, 0].float()

    run = BatchedModel(model, "cpu", {"batch": 8}, lambda line: None, BatchOptions(slots=8, compiled=True))

    def work(at: int) -> tuple[int, ...]:
        if at % 2:
            torch.set_num_threads(1 + at)  # a thread's own
        return run(np.zeros((8, 4, 4, 3), np.uint8)).shape

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(work, range(16))) == {(8, 1, 1)}
    finally:
        torch.set_num_threads(threads)
    assert most == [1] and set(counts) == {threads}


def test_many_threads_share_a_device() -> None:
    run, _, _ = in_batches(Device(most=3), 8)
    with ThreadPoolExecutor(8) as pool:
        for features in pool.map(run, [IMAGES] * 32):
            assert np.array_equal(features, IMAGES.transpose(0, 3, 1, 2)[:, :1].astype(np.float32))
