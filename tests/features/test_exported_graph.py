"""The exported graph of a prefix: made once for its key, whole or made again, and enough to run without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, tiny_backbone

from ffdi import files
from ffdi.errors import ExportError, FfdiError, ParamsError
from ffdi.features.backbone import Backbone, Views
from ffdi.features.devices import has_cuda
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.networks import FrozenPrefix
from ffdi.features.runtimes import _graph_name, cached_graph, open_runtime
from ffdi.features.settings import ExtractSettings
from ffdi.intake.decoding.images import ImageSource
from ffdi.params.reading import read_params


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said here is said of the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


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
SMALL: dict[str, Any] = {"cut": "features.2", "image_size": 32}


@pytest.fixture
def graph(backbone: Callable[..., Backbone], weights: Path) -> Open:
    """The file of the graph that a run would use, exported where it is not there."""

    def opened(sha256: str = "k", **changes: Any) -> Path:
        spec = backbone(**(SMALL | {"runtime": "onnxruntime"} | changes))

        def load() -> FrozenPrefix:
            module = load_extractor(replace(spec, runtime="torch"), weights).module
            assert module is not None
            return module

        open_runtime(spec, sha256, load)
        exported = cached_graph(spec, sha256)
        assert exported is not None and exported.shape == (16, spec.image_size // 2, spec.image_size // 2)
        return exported.file

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


def lose_description(file: Path) -> None:
    file.with_suffix(".json").unlink()


@pytest.mark.parametrize("damage", [cut_short, flip, lose_description])
def test_a_damaged_graph_is_exported_again(damage: Callable[[Path], None], exports: list[int], graph: Open) -> None:
    file = graph()
    damage(file)
    assert graph() == file and exports == [32, 32]  # whole again: graph() finds it by its hash


def test_a_network_that_is_built_otherwise_has_a_graph_of_its_own(backbone: Callable[..., Backbone]) -> None:
    plain, other, third = (backbone(network_args=args) for args in ({}, {"dropout": 0.1}, {"dropout": 0.2}))
    assert len({_graph_name(made, "k") for made in (plain, other, third)}) == 3


def test_two_backbones_never_share_a_graph(
    exports: list[int], backbone: Callable[..., Backbone], weights: Path
) -> None:
    """The cache key names everything that changes the graph: here the normalisation alone differs."""
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    dark, light = (
        load_extractor(backbone(runtime="onnxruntime", cut="features.2", image_size=32, mean=(mean,) * 3), weights)
        for mean in (0.1, 0.9)
    )
    assert not np.allclose(dark.open().run(images), light.open().run(images))
    assert exports == [32, 32]


WITHOUT_TORCH = """
import sys
from pathlib import Path
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.params.reading import read_params

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


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """An exporter that fails as torch's own does, with the cause in an error of another library; its calls."""
    calls: list[int] = []

    def export(*args: Any, **rest: Any) -> None:
        calls.append(1)
        try:
            raise RuntimeError("unfold has no\nONNX function")
        except RuntimeError as error:
            raise ValueError("a page of advice " * 100) from error

    monkeypatch.setattr(torch.onnx, "export", export)
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return calls


def test_a_prefix_that_does_not_export_is_computed_by_torch(
    refusing: list[int], backbone: Callable[..., Backbone], weights: Path
) -> None:
    made = load_extractor(backbone(runtime="auto"), weights)
    asked = load_extractor(backbone(runtime="torch"), weights)
    assert made.spec == asked.spec and made.spec.policy["runtime"] == "torch-cpu"
    assert made.device_line.endswith("; by torch, for the prefix does not run on ONNX Runtime")
    assert "ONNX" not in asked.device_line
    image = np.zeros((1, 64, 64, 3), np.uint8)
    assert np.array_equal(made.open().run(image), asked.open().run(image))
    assert load_extractor(backbone(runtime="auto"), weights).spec == made.spec and len(refusing) == 1


def test_where_onnxruntime_is_asked_for_a_prefix_that_does_not_export_is_refused_in_one_line(
    refusing: list[int], backbone: Callable[..., Backbone], weights: Path
) -> None:
    for _ in range(2):
        with pytest.raises(ExportError) as error:
            load_extractor(backbone(runtime="onnxruntime"), weights)
        assert str(error.value) == (
            "backbones.tiny: the prefix of torchvision:mobilenet_v2 cut at features.16 does not run on ONNX Runtime "
            "(unfold has no ONNX function): set runtime: torch"
        )
    assert len(refusing) == 1


def test_rows_by_torch_are_reused_when_the_cache_is_lost(
    refusing: list[int], tiny: Tiny, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    for cache in ("one", "one", "other"):
        monkeypatch.setenv("FFDI_CACHE", str(tmp_path / cache))
        extractor = load_extractor(tiny_backbone(runtime="auto", views=Views()), weights, known=tmp_path / "features")
        settings = ExtractSettings(workers=1)
        source = ImageSource(tiny.root, 10**6)
        done = extract_features(tiny.rows[:3], extractor, tmp_path / "features", source=source, settings=settings)
        computed.append(done.computed)
    assert computed == [3, 0, 0] and len(refusing) == 2


def test_a_graph_with_other_features_is_refused(
    exports: list[int], backbone: Callable[..., Backbone], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_extractor(backbone(**SMALL, runtime="torch", mean=(0.1, 0.2, 0.3)), weights).module
    export = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda module, args, **rest: export(other, args, **rest))
    assert load_extractor(backbone(**SMALL, runtime="auto"), weights).spec.policy["runtime"] == "torch-cpu"
    with pytest.raises(ExportError, match="its features are not those of torch, relative error"):
        load_extractor(backbone(**SMALL, runtime="onnxruntime"), weights)


def test_an_image_size_that_does_not_fit_is_no_reason_for_torch(
    refusing: list[int], backbone: Callable[..., Backbone], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: FrozenPrefix, image_size: int) -> tuple[int, ...]:
        raise ParamsError(f"image size {image_size}: the prefix refuses it")

    monkeypatch.setattr(FrozenPrefix, "feature_shape", refuse)
    for _ in range(2):
        with pytest.raises(ParamsError, match="image size 32"):
            load_extractor(backbone(**SMALL, runtime="auto"), weights)
    assert not refusing


def test_an_export_for_which_memory_is_short_is_tried_again(
    backbone: Callable[..., Backbone], weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    export, calls = torch.onnx.export, []

    def short(*args: Any, **rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return export(*args, **rest)

    monkeypatch.setattr(torch.onnx, "export", short)
    with pytest.raises(FfdiError, match="memory"):
        load_extractor(backbone(**SMALL, runtime="auto"), weights)
    assert load_extractor(backbone(**SMALL, runtime="auto"), weights).spec.policy["runtime"] == "onnxruntime-cpu"
