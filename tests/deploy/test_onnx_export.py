"""A model as one ONNX file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import HERE, picture
from made_bundles import cnn_bundle, made_bundle, made_ensemble, vit_bundle
from onnx import TensorProto, helper, numpy_helper

from ffdi.deploy.detector import Detector
from ffdi.deploy.onnx import export as onnx_export
from ffdi.deploy.onnx.export import batches, export_onnx, graph_of, onnx_scores, refuse_other_scores, share_weights
from ffdi.deploy.onnx.facts import onnx_facts
from ffdi.deploy.onnx.scoring_graph import ScoringGraph
from ffdi.deploy.onnx.squares import Squares, drawn_pictures
from ffdi.errors import ExportError
from ffdi.features.preprocessing import Preprocessing
from ffdi.intake.decoding.resizing import Resize
from ffdi.tails.model import Model

EXAMPLE = re.search(r"```python\n(import json\nimport sys.*?)```", (HERE / "docs/use.md").read_text("utf-8"), re.S)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny vision transformer, exported and checked."""
    return exported(vit_bundle(), tmp_path_factory.mktemp("onnx") / "made.onnx")


def exported(model: Model, out: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_TIMED_SECONDS", 0.0)
        squares = Squares.of(model, drawn_pictures(20))
        made = export_onnx(model, out, name="made", squares=squares, licence="mit")
    assert made.most_apart < 1e-5 and made.highest - made.lowest > 0.01 and made.images == 20
    assert made.size == out.stat().st_size and min(made.speed, made.torch_speed) > 0
    return out


def test_the_file_gives_the_scores_of_the_model_for_any_number_of_images(file: Path) -> None:
    check(vit_bundle(), file)


@pytest.mark.long
@pytest.mark.parametrize("name", ["cnn", "whole network", "ensemble"])
def test_so_does_that_of_other_networks(name: str, tmp_path: Path) -> None:
    models: dict[str, Callable[[], Model]] = {
        "cnn": cnn_bundle,
        "whole network": lambda: made_bundle(cut="input"),
        "ensemble": lambda: made_ensemble(cnn_bundle(), vit_bundle()),
    }
    model = models[name]()
    check(model, exported(model, tmp_path / "made.onnx"))


def check(model: Model, file: Path) -> None:
    run, squares = onnx_scores(file), Squares.of(model, drawn_pictures(5))
    for count in (1, 2, 5):
        score, by_fold = run(squares.pixels[:count])
        np.testing.assert_allclose(score, squares.scores[:count], atol=1e-5)
        assert by_fold.shape == (count, 2) and score.dtype == by_fold.dtype == np.float32
    made = onnx.load(file)
    assert [opset.domain for opset in made.opset_import] == [""], "operators of ONNX Runtime alone"
    assert str(HERE) not in file.read_bytes().decode("latin-1"), "a path of this machine"


def test_the_example_of_the_docs_gives_the_verdicts_of_the_model(file: Path, tmp_path: Path) -> None:
    assert EXAMPLE and EXAMPLE[1].count("\n") <= 40
    (tmp_path / "example.py").write_text(EXAMPLE[1], encoding="utf-8")
    photos = [tmp_path / f"{seed}.jpg" for seed in range(3)]
    for seed, photo in enumerate(photos):
        picture(seed, 90).resize((90, 50)).save(photo, quality=95)
    call: list[Any] = [sys.executable, "-X", "importtime", "example.py", file, *photos]
    ran = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True, env={"PYTHONPATH": ""})
    assert re.search(r"\| +numpy$", ran.stderr, re.M) and not re.search(r"\| +(torch|ffdi)(\.|$)", ran.stderr, re.M)
    due = Detector("made", vit_bundle()).predict(photos)
    for line, photo, row in zip(ran.stdout.splitlines(), photos, due.itertuples(), strict=True):
        path, score, verdict = line.split(",")
        assert path == str(photo) and float(score) == pytest.approx(row.score, abs=1e-4) and verdict == row.verdict


@pytest.mark.parametrize("mode", ["squash", "shorter_side", "letterbox"])
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_the_example_makes_the_square_of_the_model(mode: str, crop: float) -> None:
    assert EXAMPLE
    names: dict[str, Any] = {}
    exec(EXAMPLE[1].split("session = ")[0], names)
    for size in ((90, 50), (31, 64), (40, 40)):
        image = picture(1, 100).resize(size)
        pixels = Preprocessing(40, resize=Resize(mode, "bicubic", crop))  # type: ignore[arg-type]
        given = names["square"](image, 40, mode, "bicubic", crop, list(pixels.fill))
        np.testing.assert_array_equal(np.asarray(given), np.asarray(pixels.square(image)))


def test_the_metadata_has_what_a_user_of_the_file_needs(file: Path) -> None:
    found = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    model = vit_bundle()
    assert found == onnx_facts(model, "made", folds=[0, 1], licence="mit")
    assert json.loads(found["threshold"]) == model.threshold and json.loads(found["abstain_low"]) == 0.25
    assert found["facts_sha256"] == model.record["facts_sha256"] and found["positive"] == "fake"
    assert json.loads(found["resize"]) == {"mode": "squash", "kernel": "bilinear", "crop": 1.0, "fill": [128] * 3}
    assert found["licence"] == "mit" and json.loads(found["image_size"]) == 32


def test_a_graph_with_other_scores_is_refused() -> None:
    squares = Squares(np.zeros((20, 8, 8, 3), np.uint8), np.full(20, 0.5))
    for apart, fine in ((0.5e-4, True), (2e-4, False), (float("nan"), False)):
        given = np.full(20, 0.5, np.float32)
        given[17] += apart  # in one image of a later batch

        def run(images: Any, given: Any = given) -> Any:
            at = int(images[0, 0, 0, 0])
            return given[at : at + len(images)], given[at : at + len(images), None]

        squares.pixels[:, 0, 0, 0] = np.arange(20)
        if fine:
            assert refuse_other_scores(run, squares, "x") == pytest.approx(apart, abs=1e-6)
        else:
            with pytest.raises(ExportError, match=r"differ by up to .* on 20 images, more than 0.0001: no file"):
                refuse_other_scores(run, squares, "x")


def test_every_image_is_compared_in_some_batch() -> None:
    assert batches(25) == [(1, 0), (3, 1), (16, 4), (1, 20), (3, 21), (16, 24)]


def test_equal_weights_are_stored_once() -> None:
    """y = (x w1) + (x w2) + (x w3), where w1 and w2 are equal and w3 is not."""
    weights = {"w1": np.eye(2), "w2": np.eye(2), "w3": 2 * np.eye(2)}
    nodes = [helper.make_node("MatMul", ["x", name], [f"{name}x"]) for name in weights]
    nodes.append(helper.make_node("Sum", [f"{name}x" for name in weights], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    made = share_weights(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)))
    assert [tensor.name for tensor in made.graph.initializer] == ["w1", "w3"]
    assert [node.input[1] for node in made.graph.node[:3]] == ["w1", "w1", "w3"]
    onnx.checker.check_model(made)


def test_more_weights_than_a_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 10_000)
    with pytest.raises(ExportError, match=r"its weights take .* refit: true"):
        graph_of(ScoringGraph(vit_bundle()), vit_bundle())


def test_what_does_not_export_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("a page\nof text") from ValueError("no such\noperator")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(ExportError, match=r"timm:test_vit does not export to ONNX: no such operator$"):
        graph_of(ScoringGraph(vit_bundle()), vit_bundle())
