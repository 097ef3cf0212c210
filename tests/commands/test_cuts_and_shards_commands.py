"""The commands `ffdi cuts` and `ffdi shards`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import Tiny, Trained

from ffdi.commands.main import main
from ffdi.evaluation.depth import COLUMNS
from ffdi.features.store import FeatureStore
from ffdi.tails.probe import ProbeSettings


def test_cuts_prints_a_table() -> None:
    result = CliRunner().invoke(main, ["cuts", "torchvision:mobilenet_v2", "--image-size", "64", "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert rows[0] == ["cut", "shape", "keep: all", "mean", "cls", "FLOPs before"]
    assert rows[1] == ["input", "3x64x64", "12.3 kB", "-", "-", "0.0 %"]
    assert ["features.16", "160x2x2", "2.56 kB", "640 bytes", "-"] in [row[:5] for row in rows]
    assert len({len(line) for line in result.stdout.splitlines()}) == 1  # aligned


def test_cuts_shows_what_each_keep_stores_of_several_networks_with_their_arguments() -> None:
    asked = ["cuts", "timm:test_vit", "timm:test_vit2", "--image-size", "32", "--dtype", "int8"]
    result = CliRunner().invoke(main, [*asked, "--network-arg", "img_size=32"])
    assert result.exit_code == 0, result.output
    rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert [row for row in rows if len(row) == 1] == [["timm:test_vit"], ["timm:test_vit2"]]
    assert ["blocks.1", "5x64", "340 bytes", "-", "-"] in [row[:5] for row in rows]  # 5 x 64 and 5 scales; no vectors
    result = CliRunner().invoke(main, [*asked[:2], *asked[3:5], "--network-arg", "img_size=32"])
    rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert ["blocks.1", "5x64", "640 bytes", "128 bytes", "128 bytes"] in [row[:5] for row in rows]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["timm:test_vit", "--at", "blocks.1"],
        ["--probe", "folds.csv"],
        ["timm:test_vit", "--probe", "folds.csv"],
        ["timm:test_vit", "--probe", "folds.csv", "--backbone", "tiny"],
        ["timm:test_vit", "--network-arg", "img_size"],
    ],
)
def test_cuts_refuses_what_makes_no_sense_as_wrong_usage(wrong: list[str]) -> None:
    assert CliRunner().invoke(main, ["cuts", *wrong]).exit_code == 2


def write_params(file: Path, tiny: Tiny) -> Path:
    backbone = (
        "{network: 'torchvision:mobilenet_v2', weights: random, cut: features.16, image_size: 64, runtime: torch}"
    )
    file.write_text(
        f"data: {{root: '{tiny.root}', layout: csv}}\nsplit: {{embedding: tiny}}\nbackbones: {{tiny: {backbone}}}\n"
        "recipes: {tiny: {backbone: tiny}}\nladder: {recipe: tiny, backbone: tiny}\nevaluate: {bootstrap: 100}\n"
    )
    return file


def test_cuts_probe_prints_a_table_and_writes_a_plot(
    tiny: Tiny, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffdi.evaluation.depth.PROBE", ProbeSettings(sweep=2, norm="standardise"))
    asked = ["cuts", "--probe", tiny.folds_file, "--images", tiny.images_file, "--backbone", "tiny"]
    asked += ["--params", write_params(tmp_path / "params.yaml", tiny), "--weights", weights]
    options = ["--at", "features.16,features.18", "--plots", tmp_path / "plots"]
    result = CliRunner().invoke(main, [str(word) for word in (*asked, *options)])
    assert result.exit_code == 0, result.output
    rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert rows[0] == ["cut", "keep", "width", "FLOPs before", "AUC", "95 % interval"]
    assert [row[:3] for row in rows[1:]] == [["features.16", "mean", "160"], ["features.18", "mean", "320"]]
    table = pd.read_csv(tmp_path / "plots" / "depth.csv")
    assert list(table.columns) == COLUMNS
    assert [f"{auc:.4f}" for auc in table["auc"]] == [row[4] for row in rows[1:]]


def test_cuts_probe_takes_a_network_that_params_do_not_name(
    tiny: Tiny, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def probe_cuts(rows: pd.DataFrame, *asks: Any, at: Any, **options: Any) -> pd.DataFrame:
        asked[:] = [*asks, at]
        return pd.DataFrame([["blocks.1", "cls", 64, 0.25, 0.75, 0.5, 1.0]], columns=COLUMNS)

    monkeypatch.setattr("ffdi.evaluation.depth.probe_cuts", probe_cuts)
    words = ["cuts", "timm:test_vit", "--probe", tiny.folds_file, "--images", tiny.images_file, "--weights", weights]
    words += ["--params", write_params(tmp_path / "params.yaml", tiny), "--network-arg", "img_size=64"]
    result = CliRunner().invoke(main, [*map(str, words), "--image-size", "64"])
    assert result.exit_code == 0, result.output
    assert re.split(r"  +", result.stdout.splitlines()[1]) == [
        *["blocks.1", "cls", "64"],
        "25.0 %",
        "0.7500",
        "0.5000 to 1.0000",
    ]
    backbone, file, source, at = asked
    assert (backbone.network, backbone.network_args, backbone.pixels.size) == ("timm:test_vit", {"img_size": 64}, 64)
    assert (file, source.root, at) == (weights, tiny.root, ())


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


def test_the_size_of_the_images_is_that_of_the_networks_arguments() -> None:
    asked = ["cuts", "timm:test_vit", "--network-arg", "img_size=64"]
    listed, same = (CliRunner().invoke(main, [*asked, *more]) for more in ([], ["--image-size", "64"]))
    assert listed.exit_code == 0 and listed.output == same.output and "3x64x64" in listed.output
