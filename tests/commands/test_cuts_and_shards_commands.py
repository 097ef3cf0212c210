"""The commands `ffdi cuts` and `ffdi shards`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import Trained

from ffdi.commands.main import main
from ffdi.features.store import FeatureStore


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
