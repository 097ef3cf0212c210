"""The command `ffdi export`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Trained

from ffdi.commands.main import main
from ffdi.deploy.onnx import export as onnx_export
from ffdi.deploy.onnx import quantise as onnx_quantise
from ffdi.deploy.onnx.export import Exported
from ffdi.deploy.onnx.quantise import Cost, Quantised


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--format", "onnx", "--quantise", "int8"], "--quantise int8 needs --images"),
        (["--format", "onnx", "--images", "data"], "are for --quantise int8"),
        (["--format", "onnx", "--float-ends"], "are for --quantise int8"),
        (["--format", "onnx", "--metrics", "metrics"], "are for --format card and hub"),
        (["--format", "onnx", "--dataset", "me/faces"], "are for --format card and hub"),
        (["--format", "card", "--quantise", "int8"], "are for --format onnx"),
        (["--format", "hub", "--images", "data"], "are for --format onnx"),
    ],
)
def test_an_option_without_effect_is_a_usage_error(options: list[str], why: str) -> None:
    result = CliRunner().invoke(main, ["export", "--model", "m", *options, "out"])
    assert result.exit_code == 2 and why in result.stderr


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["export", "--model", str(tmp_path), "--format", "onnx", str(tmp_path / "m.onnx")]
    )
    assert result.exit_code == 1 and result.stderr.startswith(f"export: {tmp_path}/bundle.json: missing")
    assert result.stderr.count("\n") == 1 and not (tmp_path / "m.onnx").exists()


def test_what_is_said_of_the_file(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Exported(18, 36_300_000, 100, 1.3e-7, 0.1, 0.9, 20.0, 14.0)
    monkeypatch.setattr(onnx_export, "export_onnx", lambda *args, **options: made)
    result = CliRunner().invoke(main, ["export", "--model", str(trained.model), "--format", "onnx", "m.onnx"])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        "m.onnx: 36.3 MB, opset 18",
        "100 images get the same from m.onnx and from model: scores of 0.100 to 0.900, at most 1.3e-07 apart",
        "speed on this CPU: 20.0 images/s, torch 14.0",
    ]


def test_a_network_that_quantises_badly_is_said_with_what_would_mend_it(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poor, better = Cost(36, 0.9, 0.8, -0.1, -0.2, 0.0, 0.1, 0.25), Cost(36, 0.9, 0.89, -0.01, -0.02, 0.0, 0.01, 0.02)
    quantised = Quantised(10**6, 4 * 10**6, 12, poor, better, 40.0, 20.0)
    monkeypatch.setattr(onnx_quantise, "export_int8", lambda *args, **options: quantised)
    monkeypatch.setattr(
        "ffdi.deploy.onnx.training_images.find_training_images", lambda *given: type("Found", (), {"grouped": True})
    )
    call = ["export", "--model", str(trained.model), "--format", "onnx", "--quantise", "int8"]
    result = CliRunner().invoke(main, [*call, "--images", str(tmp_path), "m.onnx"])
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert lines[0] == "m.onnx: int8, 1 MB, in float 4 MB; calibrated on 12 images"
    assert lines[1].startswith(
        "out-of-fold AUC 0.8000 in int8, 0.9000 in float: -0.1000 [-0.2000, +0.0000] on 36 images"
    )
    assert lines[3:] == [
        "WARNING: model quantises badly: 25% of the verdicts change",
        "with --float-ends: out-of-fold AUC 0.8900 in int8, 0.9000 in float: -0.0100 [-0.0200, +0.0000] on 36 images; "
        "scores 0.010 apart on average, 2.0% of the verdicts change",
    ]
