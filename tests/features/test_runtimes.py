"""A runtime gives the prefix's features, whatever stands beside an image and however many threads work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffdi.errors import ParamsError
from ffdi.features import runtimes
from ffdi.features.backbones import Backbone
from ffdi.features.extract import Prefix, load_prefix
from ffdi.features.runtimes import choose_runtime, exported, open_runtime

RUNTIMES = ["torch", "onnxruntime"]
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def prefix(backbone: Callable[..., Backbone], weights: Path) -> Callable[[str], Prefix]:
    return lambda runtime: load_prefix(backbone(runtime=runtime), weights)


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said here is said of the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_onnxruntime_agrees_with_torch(prefix: Callable[[str], Prefix]) -> None:
    eager = prefix("torch").open().run(IMAGES)
    fast = prefix("onnxruntime").open().run(IMAGES)
    assert eager.shape == fast.shape == (6, 160, 2, 2)
    assert eager.dtype == fast.dtype == np.float32
    assert np.linalg.norm(eager - fast) < 1e-3 * np.linalg.norm(eager)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_feature_does_not_depend_on_its_batch(runtime: str, prefix: Callable[[str], Prefix]) -> None:
    run = prefix(runtime).open().run
    together = run(IMAGES)
    for at in range(len(IMAGES)):
        assert run(IMAGES[at : at + 1]).tobytes() == together[at : at + 1].tobytes()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_bytes_do_not_depend_on_the_number_of_threads(runtime: str, prefix: Callable[[str], Prefix]) -> None:
    run = prefix(runtime).open().run
    one = run(IMAGES)
    many = np.repeat(IMAGES, 4, axis=0)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda at: run(many[at : at + 1]), range(len(many))))
    assert np.concatenate(parts).tobytes() == np.repeat(one, 4, axis=0).tobytes()


def test_running_changes_no_parameter_and_no_buffer(prefix: Callable[[str], Prefix]) -> None:
    made = prefix("torch")
    assert made.module is not None
    before = {k: v.clone() for k, v in made.module.state_dict().items()}
    made.open().run(IMAGES)
    assert all(torch.equal(before[k], v) for k, v in made.module.state_dict().items())


def test_auto_is_onnxruntime_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_runtime("auto") == "onnxruntime"
    assert choose_runtime("torch") == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_runtime("auto") == "torch"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_reduced_precision_is_refused_on_the_cpu(runtime: str, precision: str, prefix: Callable[[str], Prefix]) -> None:
    module = prefix(runtime).module
    assert module is not None
    with pytest.raises(ParamsError, match=f"precision {precision}: only torch on CUDA"):
        open_runtime(module, runtime=runtime, precision=precision, image_size=64, cache_key="k")


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


def test_an_exported_graph_is_reused_until_its_key_changes(
    exports: list[int], backbone: Callable[..., Backbone], weights: Path
) -> None:
    module = load_prefix(backbone(cut="features.2"), weights).module
    assert module is not None
    first = exported(module, 32, "k")
    written = first.stat().st_mtime_ns
    assert exported(module, 32, "k") == first and exports == [32]
    assert first.stat().st_mtime_ns == written
    assert exported(module, 48, "k") != first and exported(module, 32, "other") != first
    assert exports == [32, 48, 32]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def lose_digest(file: Path) -> None:
    file.with_suffix(".sha256").unlink()


@pytest.mark.parametrize("damage", [cut_short, flip, lose_digest])
def test_a_damaged_graph_is_exported_again(
    damage: Callable[[Path], None], exports: list[int], backbone: Callable[..., Backbone], weights: Path
) -> None:
    module = load_prefix(backbone(cut="features.2"), weights).module
    assert module is not None
    file = exported(module, 32, "k")
    whole = file.read_bytes()
    damage(file)
    assert exported(module, 32, "k").read_bytes() == whole
    assert exports == [32, 32]
    assert runtimes._is_whole(file)


def test_two_backbones_never_share_a_graph(
    exports: list[int], backbone: Callable[..., Backbone], weights: Path
) -> None:
    """The cache key names everything that changes the graph: here the normalisation alone differs."""
    images = IMAGES[:1, :32, :32]
    dark, light = (
        load_prefix(backbone(runtime="onnxruntime", cut="features.2", image_size=32, mean=(mean,) * 3), weights)
        for mean in (0.1, 0.9)
    )
    assert not np.allclose(dark.open().run(images), light.open().run(images))
    assert exports == [32, 32]
