"""A runtime gives the prefix's features, whichever images share the batch and however many threads work."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_backbone
from fake_cuda import FakeCuda

from ffdi import files
from ffdi.errors import FfdiError, ParamsError
from ffdi.features import runtimes
from ffdi.features.backbone import Backbone
from ffdi.features.batching import BatchedModel, BatchOptions
from ffdi.features.devices import has_cuda
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.networks import FrozenPrefix
from ffdi.features.runtimes import Runtime, cached_graph, open_runtime, runtime_name
from ffdi.params import read_params

RUNTIMES = ["torch", "onnxruntime"]
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def prefix(backbone: Callable[..., Backbone], weights: Path) -> Callable[[str], Extractor]:
    return lambda runtime: load_extractor(backbone(runtime=runtime), weights)


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said here is said of the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_onnxruntime_agrees_with_torch(prefix: Callable[[str], Extractor]) -> None:
    eager = prefix("torch").open().run(IMAGES)
    fast = prefix("onnxruntime").open().run(IMAGES)
    assert eager.shape == fast.shape == (6, 160, 2, 2)
    assert eager.dtype == fast.dtype == np.float32
    assert np.linalg.norm(eager - fast) < 1e-3 * np.linalg.norm(eager)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_feature_does_not_depend_on_its_batch(runtime: str, prefix: Callable[[str], Extractor]) -> None:
    run = prefix(runtime).open().run
    together = run(IMAGES)
    for at in range(len(IMAGES)):
        assert run(IMAGES[at : at + 1]).tobytes() == together[at : at + 1].tobytes()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_bytes_do_not_depend_on_the_number_of_threads(runtime: str, prefix: Callable[[str], Extractor]) -> None:
    run = prefix(runtime).open().run
    one = run(IMAGES)
    many = np.repeat(IMAGES, 4, axis=0)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda at: run(many[at : at + 1]), range(len(many))))
    assert np.concatenate(parts).tobytes() == np.repeat(one, 4, axis=0).tobytes()


def test_running_changes_no_parameter_and_no_buffer(prefix: Callable[[str], Extractor]) -> None:
    made = prefix("torch")
    assert made.module is not None
    before = {k: v.clone() for k, v in made.module.state_dict().items()}
    made.open().run(IMAGES)
    assert all(torch.equal(before[k], v) for k, v in made.module.state_dict().items())


def test_auto_is_onnxruntime_without_cuda(backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime_name(backbone(runtime="auto")) == "onnxruntime-cpu"
    assert runtime_name(backbone(runtime="torch")) == "torch-cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime_name(backbone(runtime="auto")) == "torch-cuda-contiguous"
    assert runtime_name(backbone(runtime="auto", compile=True)) == "torch-cuda-contiguous-compiled"
    assert runtime_name(backbone(runtime="auto", memory_format="channels_last")) == "torch-cuda"
    assert runtime_name(backbone(runtime="onnxruntime")) == "onnxruntime-cpu"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "tf32"),
        ("precision", "float16"),
        ("precision", "bfloat16"),
        ("compile", True),
        ("decoder", "nvjpeg"),
        ("memory_format", "channels_last"),
    ],
)
def test_what_needs_a_gpu_is_refused_without_one(
    runtime: str, key: str, value: Any, backbone: Callable[..., Backbone]
) -> None:
    with pytest.raises(ParamsError, match=f"{key}: {value} needs runtime torch on CUDA; here it is {runtime}"):
        runtime_name(backbone(runtime=runtime, **{key: value}))


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
    facts: dict[str, Any] = {"batch": batch}
    said: list[str] = []
    return BatchedModel(device, "cpu", facts, said.append), facts, said


def test_every_batch_on_a_device_has_one_shape() -> None:
    device = Device()
    run, facts, said = in_batches(device, 4)
    features = run(IMAGES)
    assert np.array_equal(features, IMAGES.transpose(0, 3, 1, 2)[:, :1].astype(np.float32))
    assert features.dtype == np.float32
    assert device.batches == [4, 4] and facts == {"batch": 4} and not said


def test_out_of_memory_halves_the_batch_says_so_and_goes_on() -> None:
    device = Device(most=3)
    run, facts, said = in_batches(device, 8)
    assert np.array_equal(run(IMAGES), IMAGES.transpose(0, 3, 1, 2)[:, :1].astype(np.float32))
    assert device.batches == [8, 4, 2, 2, 2] and facts == {"batch": 2}
    assert said == ["out of memory on cpu: batch halved to 4", "out of memory on cpu: batch halved to 2"]


def test_a_device_without_room_for_one_image_is_a_clear_error() -> None:
    run, _, _ = in_batches(Device(most=0), 2)
    with pytest.raises(FfdiError, match="out of memory on cpu with a batch of one image"):
        run(IMAGES)


def test_each_size_of_batch_that_computed_rows_is_told() -> None:
    device = Device(most=8)
    facts: dict[str, Any] = {"batch": 8}
    run = BatchedModel(device, "cpu", facts, lambda line: None)
    runtime = Runtime(8, run, facts, run.batches)
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


def test_a_runtime_moves_a_copy_and_leaves_the_prefix(
    fake_cuda: FakeCuda, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ladder and the bundle have the same prefix, and give it images of the CPU or hash its float32."""
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 4)
    for precision in ("float32", "bfloat16", "tf32"):
        made = load_extractor(tiny_backbone(runtime="auto", precision=precision, dtype="float32"), weights)
        assert made.module is not None
        before = {k: v.clone() for k, v in made.module.state_dict().items()}
        found = made.open().run(IMAGES)
        after = made.module.state_dict()
        assert {(v.device.type, v.dtype) for v in after.values()} == {(v.device.type, v.dtype) for v in before.values()}
        assert all(torch.equal(before[k], v) for k, v in after.items())
        with torch.inference_mode():
            due = made.module(torch.from_numpy(IMAGES)).numpy()
        if precision != "bfloat16":  # random weights leave little of eight bits
            assert np.linalg.norm(found - due) < 1e-4 * np.linalg.norm(due)


def test_a_prefix_in_tf32_says_so_and_computes_so(
    fake_cuda: FakeCuda, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 4)
    allowed: list[bool] = []
    true_forward = FrozenPrefix.forward

    def forward(self: FrozenPrefix, images: torch.Tensor) -> torch.Tensor:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return true_forward(self, images)

    monkeypatch.setattr(FrozenPrefix, "forward", forward)
    fingerprints = set()
    for precision in ("float32", "tf32"):
        made = load_extractor(tiny_backbone(runtime="auto", precision=precision), weights)
        fingerprints.add(made.spec.fingerprint)
        runtime = made.open()
        allowed.clear()
        runtime.run(IMAGES[:2])
        assert allowed == [precision == "tf32"] and runtime.maker["precision"] == precision
    assert len(fingerprints) == 2


def test_the_memory_format_is_asked_for_and_known(
    fake_cuda: FakeCuda, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 2)
    formats: list[bool] = []
    true_forward = FrozenPrefix.forward

    def forward(self: FrozenPrefix, images: torch.Tensor) -> torch.Tensor:
        kernel = next(p for p in self.parameters() if p.dim() == 4 and p.shape[1] > 1)
        formats.append(kernel.is_contiguous(memory_format=torch.channels_last))
        return true_forward(self, images)

    monkeypatch.setattr(FrozenPrefix, "forward", forward)
    fingerprints = set()
    for layout in ("contiguous", "channels_last"):
        made = load_extractor(tiny_backbone(runtime="auto", memory_format=layout), weights)
        made.open()
        fingerprints.add(made.spec.fingerprint)
        assert formats.pop() == (layout == "channels_last")
    assert len(fingerprints) == 2


def test_where_the_prefix_runs_is_said(fake_cuda: FakeCuda, weights: Path) -> None:
    lines = [load_extractor(tiny_backbone(runtime=r), weights).device_line for r in ("auto", "onnxruntime")]
    assert lines == [
        "cuda: NVIDIA Fake, driver 570.86.15",
        "cpu: runtime onnxruntime is asked for (not used: NVIDIA Fake, driver 570.86.15)",
    ]


def test_many_threads_share_a_device() -> None:
    run, _, _ = in_batches(Device(most=3), 8)
    with ThreadPoolExecutor(8) as pool:
        for features in pool.map(run, [IMAGES] * 32):
            assert np.array_equal(features, IMAGES.transpose(0, 3, 1, 2)[:, :1].astype(np.float32))


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The image sizes of exports in an empty cache of the test's own."""
    done: list[int] = []
    export = torch.onnx.export

    def spy(module: Any, args: Any, **rest: Any) -> Any:
        done.append(args[0].shape[1])
        return export(module, args, **rest)

    monkeypatch.setattr(torch.onnx, "export", spy)
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return done


Open = Callable[..., Path]


@pytest.fixture
def graph(backbone: Callable[..., Backbone], weights: Path) -> Open:
    """The file of the graph that a run would use, exported where it is not there."""

    def opened(sha256: str = "k", **changes: Any) -> Path:
        spec = backbone(**({"cut": "features.2", "image_size": 32, "runtime": "onnxruntime"} | changes))

        def load() -> FrozenPrefix:
            module = load_extractor(replace(spec, runtime="torch"), weights).module
            assert module is not None
            return module

        open_runtime(spec, sha256, load)
        found = cached_graph(spec, sha256)
        assert found is not None and found.shape == (16, spec.image_size // 2, spec.image_size // 2)
        return found.file

    return opened


def test_a_cache_that_cannot_be_written_costs_an_export_and_a_line(
    exports: list[int], graph: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_temporary", [])
    (tmp_path / "file").touch()
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "file" / "cache"))
    assert graph() == graph() and exports == [32]
    assert [line for line in capfd.readouterr().err.splitlines() if "set FFDI_CACHE" in line]


def test_an_exported_graph_is_reused_until_its_key_changes(exports: list[int], graph: Open) -> None:
    first = graph()
    written = first.stat().st_mtime_ns
    assert graph() == first and exports == [32]
    assert first.stat().st_mtime_ns == written
    assert len({first, graph(image_size=48), graph("other"), graph(mean=(0.1, 0.5, 0.5))}) == 4
    assert exports == [32, 48, 32, 32]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def lose_facts(file: Path) -> None:
    file.with_suffix(".json").unlink()


@pytest.mark.parametrize("damage", [cut_short, flip, lose_facts])
def test_a_damaged_graph_is_exported_again(damage: Callable[[Path], None], exports: list[int], graph: Open) -> None:
    file = graph()
    damage(file)
    assert graph() == file and exports == [32, 32]  # whole again: graph() finds it by its hash


def test_two_backbones_never_share_a_graph(
    exports: list[int], backbone: Callable[..., Backbone], weights: Path
) -> None:
    """The cache key names everything that changes the graph: here the normalisation alone differs."""
    images = IMAGES[:1, :32, :32]
    dark, light = (
        load_extractor(backbone(runtime="onnxruntime", cut="features.2", image_size=32, mean=(mean,) * 3), weights)
        for mean in (0.1, 0.9)
    )
    assert not np.allclose(dark.open().run(images), light.open().run(images))
    assert exports == [32, 32]


WITHOUT_TORCH = """
import sys
from pathlib import Path
from ffdi.features.extractor import load_extractor
from ffdi.params import read_params

prefix = load_extractor(read_params(Path(sys.argv[1])).backbone("tiny"), Path(sys.argv[2]))
prefix.open().run(__import__("numpy").zeros((2, 32, 32, 3), "uint8"))
sys.exit("torch was loaded" if "torch" in sys.modules else 0)
"""
PARAMS = """
data: {root: .}
backbones: {tiny: {network: "torchvision:mobilenet_v2", weights: random, cut: features.2, image_size: 32}}
recipes: {tiny: {backbone: tiny}}
split: {embedding: tiny}
ladder: {recipe: tiny, backbone: tiny}
"""


@pytest.mark.skipif(has_cuda(), reason="auto is torch where CUDA is")
def test_once_exported_a_prefix_runs_without_torch(exports: list[int], weights: Path, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS)
    spec = read_params(params).backbone("tiny")
    load_extractor(spec, weights).open()
    assert exports == [32]
    command = [sys.executable, "-c", WITHOUT_TORCH, str(params), str(weights)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
