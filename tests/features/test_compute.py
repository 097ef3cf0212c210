"""Rows -> features: blocks of rows, devices, features that are refused, embeddings."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny
from fake_cuda import FakeCuda, faking
from tiny_extraction import TinyExtraction

from ffdi.console import Console
from ffdi.errors import FfdiError, ShardError
from ffdi.features import compute, extractor, runtimes
from ffdi.features.backbone import Backbone
from ffdi.features.batching import BatchedModel
from ffdi.features.compute import embed, in_blocks
from ffdi.features.extract import plan_rows
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.networks import FrozenPrefix
from ffdi.features.runtimes import Runtime
from ffdi.features.shard_index import read_index
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource

Make = Callable[..., Backbone]


@pytest.fixture
def run(tiny: Tiny, backbone: Make, weights: Path, tmp_path: Path) -> TinyExtraction:
    return TinyExtraction(tiny, backbone, weights, tmp_path / "f")


def test_progress_sees_every_missing_row(run: TinyExtraction) -> None:
    seen: list[int] = []

    def progress(blocks: Any, total: int, *, unit: str, phase: str = "") -> Any:
        assert unit == "views"
        for block in blocks:
            seen.append(len(block))
            yield block

    done = run(console=Console(progress=progress))
    assert sum(seen) == done.computed == done.rows


@pytest.mark.parametrize("views", range(6))
def test_a_gpu_computes_hardly_more_images_than_there_are_rows(views: int) -> None:
    """A batch has one shape, and what is missing is black: tasks that overshot it ran two of them, half of it black."""
    rng = np.random.default_rng(views)
    ids = [f"{i:064x}" for i in range(4000)]
    plan = plan_rows(ids, ["test" if rng.random() < 0.2 else "train" for _ in ids], views)
    tasks = [list(task) for task in in_blocks(plan, 64)]
    assert [row for task in tasks for row in task] == plan
    assert sum(len({image for image, _ in task}) for task in tasks) == len(ids)  # no image is decoded twice
    computed = sum(-(-len(task) // 64) * 64 for task in tasks)
    assert computed / len(plan) <= 1.05


def test_an_image_of_more_views_than_a_batch_is_a_task_of_its_own() -> None:
    one, two, three = ("0" * 63 + digit for digit in "123")
    plan = plan_rows([one, two, three], ["test", "train", "test"], 9)
    tasks = [list(task) for task in in_blocks(plan, 8)]
    assert [[image for image, _ in task] for task in tasks] == [[one], [two] * 10, [three]]


def test_extracting_on_cuda_gives_the_rows_of_the_cpu(
    no_cuda: None, run: TinyExtraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a machine without the GPU neither reuses them nor takes them for its own."""
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 8)
    run()
    with faking():
        assert run(out=tmp_path / "gpu").computed and not run(out=tmp_path / "gpu").computed
    one, other = FeatureStore(tmp_path / "f"), FeatureStore(tmp_path / "gpu")
    np.testing.assert_allclose(one.read(one.rows), other.read(one.rows), rtol=2e-3, atol=2e-3)
    (maker,) = other.index.made_by
    assert maker["runtime"] == "torch-cuda-contiguous" and maker["device"] == "NVIDIA Fake" and maker["batch"] == 8
    assert one.spec.fingerprint != other.spec.fingerprint and run(out=tmp_path / "gpu").reused == 0


def test_every_batch_that_computed_rows_stands_in_the_index(
    run: TinyExtraction, fake_cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "CUDA_BATCH", 8)
    true_forward, calls = FrozenPrefix.forward, [0]

    def forward(self: FrozenPrefix, images: torch.Tensor) -> torch.Tensor:
        calls[0] += len(images) == 8
        if calls[0] > 2 and len(images) == 8:  # the first is the one that learns what memory it takes
            raise torch.OutOfMemoryError("out of memory")
        return true_forward(self, images)

    monkeypatch.setattr(FrozenPrefix, "forward", forward)
    warned: list[str] = []
    run(workers=1, console=Console(alert=warned.append))
    assert [maker["batch"] for maker in read_index(tmp_path / "f").made_by] == [4, 8]
    assert warned == ["cuda: NVIDIA Fake, driver 570.86.15", "out of memory on cuda: batch halved to 4"]
    assert fake_cuda.emptied == 1


def test_a_feature_that_is_not_finite_is_refused_by_the_worker(
    run: TinyExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one writer was kept from its shard by it; the error names the image all the same."""
    threads: list[str] = []
    true_refuse = compute.refuse_nonfinite

    def refuse(features: Any, rows: Any) -> None:
        threads.append(threading.current_thread().name)
        features[1:2] = np.inf
        true_refuse(features, rows)

    monkeypatch.setattr(compute, "refuse_nonfinite", refuse)
    with pytest.raises(ShardError, match=r"NaN or infinite float16 features of image [0-9a-f]{64} view"):
        run(workers=1)
    assert threads and all(name.startswith("ThreadPool") for name in threads)


def test_out_of_memory_on_a_device_is_said_and_stands_in_the_index(
    run: TinyExtraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_device(spec: Backbone, sha256: str, load: Callable[[], Any], name: str, console: Console) -> Runtime:
        module, maker = load(), {"runtime": "torch-cuda", "batch": 8}

        def model(images: torch.Tensor) -> torch.Tensor:
            if len(images) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return module(images)  # type: ignore[no-any-return]

        return Runtime(8, BatchedModel(model, "cpu", maker, console.say), maker)

    monkeypatch.setattr(extractor, "open_runtime", small_device)
    run(out=tmp_path / "small")
    assert read_index(tmp_path / "small").made_by == ({"runtime": "torch-cuda", "batch": 4},)
    monkeypatch.undo()
    run()
    rows = FeatureStore(tmp_path / "f").rows
    small, usual = (FeatureStore(tmp_path / name).read(rows).astype(np.float32) for name in ("small", "f"))
    np.testing.assert_allclose(small, usual, atol=2e-2)


def test_features_that_overflow_float16_name_their_image(run: TinyExtraction, tmp_path: Path) -> None:
    def loud(backbone: Backbone, weights: Path) -> Extractor:
        prefix = load_extractor(backbone, weights)
        assert prefix.module is not None
        [m for m in prefix.module.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1].weight.data *= 1e8
        return prefix

    with pytest.raises(FfdiError, match=r"NaN or infinite float16 features of image [0-9a-f]{64} view 0"):
        run(load=loud)
    assert not (tmp_path / "f" / "index.json").exists()


def test_embed_is_the_mean_over_the_map_of_view_0(
    run: TinyExtraction, tiny: Tiny, backbone: Make, weights: Path, tmp_path: Path
) -> None:
    run()
    rows = tiny.rows.head(12)
    embedded = embed(rows, load_extractor(backbone(), weights), ImageSource(tiny.root, 10**6))
    stored = FeatureStore(tmp_path / "f").read([(i, 0) for i in rows["image_id"]])
    assert embedded.shape == (12, 160)
    np.testing.assert_allclose(embedded, stored.astype(np.float32).mean(axis=(2, 3)), rtol=1e-6)
