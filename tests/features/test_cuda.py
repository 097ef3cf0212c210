"""What a fake device cannot show: features, trainings and sweeps repeat their bytes; memory and streams work.

The checks are those of `make bench-gpu`. They also run on the CPU, at the same size, so that their code stays tested.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffdi.errors import FfdiError

BENCH = Path(__file__).parents[2] / "bench"
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(scope="module")
def checks() -> Iterator[Any]:
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module("checks")
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(params=DEVICES)
def lab(request: pytest.FixtureRequest, checks: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of 24 JPEGs; on the CPU there is no GPU even where there is one, and on the GPU no flag outlives the test."""
    if request.param == "cpu":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    deterministic = torch.are_deterministic_algorithms_enabled()
    made = checks.Lab(folder / request.param, request.param, 24, 96, 64)
    made.rows()
    yield made
    torch.use_deterministic_algorithms(deterministic)


def precisions(lab: Any) -> list[str]:
    return ["float32", "tf32", "float16", "bfloat16"] if lab.device == "cuda" else ["float32"]


@pytest.mark.parametrize("name", ["mobilenet_v2", "vit_tiny"])
def test_a_feature_does_not_depend_on_its_place_or_neighbours(name: str, lab: Any, checks: Any) -> None:
    for precision in precisions(lab):
        runtime = lab.prefix(name, precision=precision).open()
        for batch in (64, 32) if lab.device == "cuda" else (3,):
            assert checks.differing_places(runtime, lab.pictures(name, batch + 7), batch) == [], (precision, batch)


def test_a_neighbour_that_bleeds_into_a_feature_is_seen(lab: Any, checks: Any) -> None:
    """The check itself: were features to depend on the batch, it would say at which places."""

    def bleeding(images: Any) -> Any:
        shift = images.astype(np.float32).mean() if len(images) == 3 else 0
        return images[:, :1, :1].astype(np.float32) + shift

    runtime = checks.Runtime(1, bleeding, {})
    assert checks.differing_places(runtime, lab.pictures("mobilenet_v2", 10), 3) == [0, 1, 2]


def test_extracting_twice_gives_the_same_bytes(lab: Any, checks: Any, tmp_path: Path) -> None:
    for precision in precisions(lab):
        for out in ("one", "two"):
            lab.extract("mobilenet_v2", tmp_path / precision / out, precision=precision)
        assert checks.differing_files(tmp_path / precision / "one", tmp_path / precision / "two") == []
    (tmp_path / "float32" / "one" / "index.json").write_text("{}")
    (tmp_path / "float32" / "one" / "more.h5").touch()
    differing = checks.differing_files(tmp_path / "float32" / "one", tmp_path / "float32" / "two")
    assert differing == ["index.json", "more.h5"]


@pytest.mark.cuda
def test_a_vit_runs_fused_attention_in_each_precision(checks: Any, tmp_path: Path) -> None:
    """Were there no fused kernel for what timm asks, torch would say so: the plain one is not allowed here."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    lab = checks.Lab(tmp_path, "cuda", 24, 96, 224)
    pictures = lab.pictures("vit_tiny", 5)
    due = lab.prefix("vit_tiny").open().run(pictures)
    for precision, most in (("float32", 1e-5), ("float16", 1e-2), ("bfloat16", 1e-1)):
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
            features = lab.prefix("vit_tiny", precision=precision).open().run(pictures)
        assert np.linalg.norm(features - due) < most * np.linalg.norm(due), precision


@pytest.fixture
def gpu_lab(checks: Any, tmp_path: Path) -> Any:
    """For what starts processes, which the tests of bench/gpu.py run on the CPU."""
    return checks.Lab(tmp_path, "cuda", 24, 96, 224)


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "head"), [("mobilenet_v2", "mlp"), ("resnet18", "transformer")])
def test_training_repeats_its_bytes_after_a_kill_too(name: str, head: str, gpu_lab: Any, checks: Any) -> None:
    """The transformer has 197 tokens; beyond 64 attention has a backward that repeats its bytes only if told to."""
    assert checks.training_that_differs(gpu_lab, name, head) == {"second": [], "killed": []}


@pytest.mark.cuda
def test_a_sweep_computed_and_a_sweep_cached_give_the_same_figures(gpu_lab: Any, checks: Any, tmp_path: Path) -> None:
    checks.train_bundle(gpu_lab, "mobilenet_v2", "mlp", str(tmp_path / "model"))
    assert checks.sweeps_that_differ(gpu_lab, "mobilenet_v2", tmp_path / "model") == []


@pytest.mark.cuda
def test_a_bfloat16_backbone_is_evaluated_with_a_sweep(gpu_lab: Any, checks: Any, tmp_path: Path) -> None:
    checks.train_bundle(gpu_lab, "mobilenet_v2", "mlp", str(tmp_path / "model"), precision="bfloat16")
    for _ in range(2):  # computed, then cached
        metrics = checks.evaluate_bundle(gpu_lab, "mobilenet_v2", str(tmp_path / "model"), precision="bfloat16")
        assert metrics["robustness_jpeg_50_auc"] is not None


def test_a_batch_that_exceeds_the_memory_is_halved_and_no_row_is_lost(lab: Any, checks: Any) -> None:
    on_gpu = lab.device == "cuda"
    found = checks.halve(replace(lab, size=224 if on_gpu else 64), "mobilenet_v2", 64 if on_gpu else 4)
    assert found.after < found.before and found.said and "batch halved" in found.said[0]
    assert found.moved < 1e-3


@pytest.fixture
def decode(lab: Any, checks: Any) -> Callable[..., Any]:
    return lambda decoder, threads, together=4: checks.decode_all(lab, decoder, threads, together)


def test_nvjpegs_pixels_are_close_to_pillows_and_the_same_in_many_threads(lab: Any, decode: Callable[..., Any]) -> None:
    pillow, one, many = decode("pillow", 4), decode("nvjpeg", 1), decode("nvjpeg", 16)
    alone = decode("nvjpeg", 16, 1)
    assert one.pixels.tobytes() == many.pixels.tobytes() == alone.pixels.tobytes()
    assert one.decoded == 24 and not one.not_plain and not one.refused and not pillow.decoded
    apart = np.abs(one.pixels.astype(int) - pillow.pixels)
    assert apart.mean() < 4  # chroma is scaled up by another filter; colours or images that changed places are far more


def test_what_becomes_of_a_damaged_jpeg_repeats(lab: Any, decode: Callable[..., Any]) -> None:
    """Its header is whole and so is its end, but half of it is not there."""

    def outcome(threads: int) -> tuple[Any, ...]:
        try:
            found = decode("nvjpeg", threads)
        except FfdiError as error:
            return (str(error),)
        return found.pixels.tobytes(), found.decoded, found.refused

    victim = sorted(lab.root.iterdir())[3]
    data = victim.read_bytes()
    try:
        victim.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
        assert outcome(1) == outcome(16)
    finally:
        victim.write_bytes(data)
