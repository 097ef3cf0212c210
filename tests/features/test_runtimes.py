"""A runtime gives the prefix's features, whichever images share the batch and however many threads work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_backbone
from fake_cuda import FakeCuda
from torch.nn import functional

from ffdi.errors import ParamsError
from ffdi.features import runtimes
from ffdi.features.backbone import Backbone
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.networks import FrozenPrefix
from ffdi.features.runtimes import runtime_name
from ffdi.features.weights import fetch_weights

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


def test_a_runtime_moves_a_copy_and_leaves_the_prefix(
    fake_cuda: FakeCuda, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ladder and the bundle have the same prefix, and give it images of the CPU or hash its float32."""
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 4)
    for precision in ("float32", "bfloat16", "tf32"):
        made = load_extractor(tiny_backbone(runtime="auto", precision=precision, dtype="float32"), weights)
        assert made.module is not None
        before = {k: v.clone() for k, v in made.module.state_dict().items()}
        features = made.open().run(IMAGES)
        after = made.module.state_dict()
        assert {(v.device.type, v.dtype) for v in after.values()} == {(v.device.type, v.dtype) for v in before.values()}
        assert all(torch.equal(before[k], v) for k, v in after.items())
        with torch.inference_mode():
            due = made.module(torch.from_numpy(IMAGES)).numpy()
        if precision != "bfloat16":  # random weights leave little of eight bits
            assert np.linalg.norm(features - due) < 1e-4 * np.linalg.norm(due)


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


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_vit_on_cuda_asks_for_fused_attention_in_its_precision(
    precision: str, fake_cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 2)
    asked: list[tuple[str, torch.dtype]] = []
    attend = functional.scaled_dot_product_attention

    def spy(query: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        asked.append((query.device.type, query.dtype))
        return attend(query, *rest, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    file = tmp_path / "vit.safetensors"
    fetch_weights("timm:vit_tiny_patch16_224", "random", file, base=tmp_path)
    vit = Backbone("vit", "timm:vit_tiny_patch16_224", "random", "blocks.2", precision=precision, dtype="float32")
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    made = load_extractor(vit, file)
    runtime = made.open()
    asked.clear()
    features = runtime.run(images)
    assert asked == [("cuda", getattr(torch, precision))] * 4  # two batches through two blocks
    assert made.module is not None
    with torch.inference_mode():
        due = made.module(torch.from_numpy(images)).numpy()
    most = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-1}[precision]
    assert features.shape == (3, 197, 192) and np.linalg.norm(features - due) < most * np.linalg.norm(due)


def test_where_the_prefix_runs_is_said(fake_cuda: FakeCuda, weights: Path) -> None:
    lines = [load_extractor(tiny_backbone(runtime=r), weights).device_line for r in ("auto", "onnxruntime")]
    assert lines == [
        "cuda: NVIDIA Fake, driver 570.86.15",
        "cpu: runtime onnxruntime is asked for (not used: NVIDIA Fake, driver 570.86.15)",
    ]
