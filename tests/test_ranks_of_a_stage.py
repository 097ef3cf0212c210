"""A stage that starts itself several times: how it ends, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import HERE, Tiny

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from ffdi.errors import FfdiError
from ffdi.stagekit.ranks import start_ranks

folder, end = Path(sys.argv[1]), sys.argv[2]
try:
    start_ranks(3)
except FfdiError as error:
    sys.exit(str(error))
rank = int(os.environ["RANK"])
(folder / str(rank)).write_text(str(os.getpid()))
if end != "well" and rank != 1:
    time.sleep(60)
if end == "code":
    sys.exit(7)
if end == "signal":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "starter":
    time.sleep(60)
"""
PARAMS = """
data: {{root: {root}}}
backbones:
  tiny: {{network: "timm:test_resnet", weights: random, cut: input, image_size: 64, views: {{count: 1, policy: seeds}},
          mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
recipes:
  tiny: {{backbone: tiny, folds: 1, epochs: 2, batch_size: 12, head: {{kind: linear}}, mix: {{mixup: 0.2}}}}
split: {{embedding: tiny}}
ladder: {{recipe: tiny, backbone: tiny}}
train: {{processes: {processes}}}
"""


def start(folder: Path, end: str) -> subprocess.Popen[str]:
    (folder / "stage.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    environment["PYTHONPATH"] = str(HERE)
    command = [sys.executable, str(folder / "stage.py"), str(folder), end]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def pids(folder: Path) -> list[int]:
    """Those of the ranks, once all have begun."""
    files, until = [folder / str(rank) for rank in range(3)], time.monotonic() + 30
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < until
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def ended(pid: int) -> bool:
    try:
        return "zombie" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.mark.parametrize(
    ("end", "code", "says"),
    [("well", 0, ""), ("code", 7, ""), ("signal", 1, "rank 1 of 3 was ended by SIGKILL")],
)
def test_the_first_rank_that_fails_ends_the_others(end: str, code: int, says: str, tmp_path: Path) -> None:
    with start(tmp_path, end) as stage:
        said = stage.communicate(timeout=40)[1]
    assert stage.returncode == code and says in said and "Traceback" not in said
    assert all(ended(int(file.read_text())) for file in tmp_path.glob("[0-2]"))


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells ranks of their starter's end on Linux alone")
def test_ranks_end_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    with start(tmp_path, "starter") as stage:
        ranks = pids(tmp_path)
        stage.kill()
    until = time.monotonic() + 10
    while not all(map(ended, ranks)):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.long
def test_a_recipe_by_two_processes_is_that_of_one(tiny: Tiny, tmp_path: Path) -> None:
    def run(stage: str, processes: int, *options: str) -> None:
        params = tmp_path / f"{processes}.yaml"
        params.write_text(PARAMS.format(root=tiny.root, processes=processes))
        command = [sys.executable, str(HERE / "stages" / f"{stage}.py"), "--params", str(params), *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]

    tables = ("--images", str(tiny.images_file), "--folds", str(tiny.folds_file))
    run("weights", 1, "--backbone", "tiny", "--out", "data/weights/tiny.safetensors")
    run("extract", 1, "--backbone", "tiny", *tables, "--out", "data/features/tiny")
    for processes in (1, 2):
        run("train", processes, "--recipe", "tiny", *tables, "--out", str(processes), "--plots", f"plots-{processes}")
    one, two = (pd.read_csv(tmp_path / name / "oof.csv") for name in "12")
    assert one["image_id"].equals(two["image_id"]) and (one["logit"] - two["logit"]).abs().max() < 1e-3
    assert json.loads((tmp_path / "2" / "bundle.json").read_text())["provenance"]["ranks"] == 2
    assert len(pd.read_csv(tmp_path / "plots-2" / "history.csv")) == 2
