"""A model as one ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from made_bundles import cnn_bundle, made_bundle, vit_bundle

from ffdi.deploy import onnx_export
from ffdi.deploy.onnx_export import Exported, export_onnx, onnx_scores
from ffdi.deploy.squares import Squares, drawn_pictures
from ffdi.tails.model import Model


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_TIMED_SECONDS", 0.0)


def exported(model: Model, out: Path) -> Exported:
    return export_onnx(model, out, name="made", squares=Squares.of(model, drawn_pictures(20)), licence="mit")


@pytest.mark.parametrize(
    "name", ["vit", *(pytest.param(name, marks=pytest.mark.long) for name in ("cnn", "whole network"))]
)
def test_the_file_gives_the_scores_of_the_model_for_any_number_of_images(name: str, tmp_path: Path) -> None:
    models: dict[str, Callable[[], Model]] = {"cnn": cnn_bundle, "vit": vit_bundle}
    model = models.get(name, lambda: made_bundle(cut="input"))()
    made = exported(model, tmp_path / "made.onnx")
    assert made.most_apart < 1e-5 and made.highest - made.lowest > 0.01
    run, squares = onnx_scores(tmp_path / "made.onnx"), Squares.of(model, drawn_pictures(5))
    for count in (1, 2, 5):
        score, by_fold = run(squares.pixels[:count])
        np.testing.assert_allclose(score, squares.scores[:count], atol=1e-5)
        assert by_fold.shape == (count, 2) and score.dtype == by_fold.dtype == np.float32
    file = onnx.load(tmp_path / "made.onnx")
    assert [opset.domain for opset in file.opset_import] == [""], "operators of ONNX Runtime alone"
