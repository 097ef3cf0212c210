"""The `ffdi` command and what stages share with it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import Tiny, Trained

from ffdi.cli import bar, main, stage_command, stopwatch
from ffdi.errors import InputError
from ffdi.features.store import FeatureStore
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import load_bundle


@stage_command
@click.option("--wrong", is_flag=True)
def stage(wrong: bool) -> None:
    """A stage."""
    if wrong:
        raise InputError("images.csv: row 3: label 'x' is neither 0 nor 1")


def test_a_bad_input_is_one_line_and_exit_1() -> None:
    result = CliRunner().invoke(stage, ["--wrong"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["stage: images.csv: row 3: label 'x' is neither 0 nor 1"]


def test_wrong_usage_is_exit_2() -> None:
    assert CliRunner().invoke(stage, ["--nonsense"]).exit_code == 2


def test_every_stage_says_its_options() -> None:
    for script in sorted((Path(__file__).parents[1] / "stages").glob("*.py")):
        shown = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
        assert "--params" in shown.stdout, script


def test_stages_start_without_torch() -> None:
    """Start-up is paid at every stage: --help, ingest and params must not load torch."""
    code = "import sys, ffdi.cli, ffdi.params, ffdi.intake.ingest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_bar_hands_everything_on() -> None:
    assert list(bar("stage")(iter([1, 2, 3]), 3)) == [1, 2, 3]


def test_stopwatch_writes_seconds(tmp_path: Path) -> None:
    with stopwatch("train-x", tmp_path / "timings"):
        pass
    assert (tmp_path / "timings" / "train-x.json").read_text().startswith('{\n  "seconds": ')


def test_predict_equals_the_scores_from_shards(trained: Trained, tiny: Tiny) -> None:
    bundle, store = load_bundle(trained.model), FeatureStore(trained.features)
    rows = tiny.rows.head(5)
    table = load_table(store, list(rows["image_id"]), list(rows["label"]), views=False, memory_gb=1)
    expected = bundle.scores(table, torch.device("cpu"))
    files = [str(tiny.root / path) for path in rows["path"]]
    result = CliRunner().invoke(main, ["predict", "--model", str(trained.model), *files])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "path,score,verdict"
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx(expected, abs=1e-5)


def test_predict_reports_what_it_cannot_read(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    good = str(tiny.root / tiny.rows["path"].iloc[0])
    result = CliRunner().invoke(main, ["predict", "--model", str(trained.model), str(tmp_path), good])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1] == f"{tmp_path}/a.jpg,,not an image format that Pillow knows"
    assert result.stdout.splitlines()[2].endswith((",real", ",fake"))


def test_cuts_prints_a_table() -> None:
    result = CliRunner().invoke(main, ["cuts", "torchvision:mobilenet_v2", "--image-size", "64", "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert rows[0] == ["cut", "shape", "bytes per image", "FLOPs before"]
    assert rows[1] == ["input", "3x64x64", "12.3 kB", "0.0 %"]
    assert ["features.16", "160x2x2", "2.56 kB"] in [row[:3] for row in rows]
    assert len({len(line) for line in result.stdout.splitlines()}) == 1  # aligned


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("timm:vit_tiny_patch16_224", "image size 64: the network refuses it: "),
        ("timm:vit_tiny_patch17", "does not exist in timm; close names: vit_tiny_patch16_"),
    ],
)
def test_cuts_says_on_one_line_what_is_wrong(network: str, says: str) -> None:
    result = CliRunner().invoke(main, ["cuts", network, "--image-size", "64"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("cuts: ") and says in line


def test_shards_ls_and_verify(trained: Trained, tmp_path: Path) -> None:
    shards = trained.features
    listed = CliRunner().invoke(main, ["shards", "ls", str(shards)])
    assert "160x2x2 float16, compression none" in listed.stdout
    assert "made by runtime torch-cpu" in listed.stdout
    assert CliRunner().invoke(main, ["shards", "verify", str(shards)]).exit_code == 0
    missing = CliRunner().invoke(main, ["shards", "verify", str(tmp_path)])
    assert missing.exit_code == 1
    assert "index.json: missing" in missing.stderr


def test_shards_export_writes_npz(trained: Trained, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["shards", "export", str(trained.features), str(tmp_path / "npz")])
    assert result.exit_code == 0, result.output
    written = [Path(line) for line in result.stdout.splitlines()]
    assert written == sorted((tmp_path / "npz").iterdir())
    assert sum(len(np.load(file)["image_id"]) for file in written) == len(FeatureStore(trained.features))
