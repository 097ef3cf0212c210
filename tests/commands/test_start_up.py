"""What a command loads: libraries that take seconds are loaded by those that compute, when they do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import HERE, Trained

SLOW = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "sklearn",
    "scipy",
    "matplotlib",
    "onnxruntime",
    "PIL",
    "dvc",
)
RUN_ALL = """
import json, sys
from click.testing import CliRunner
from ffdi.commands.main import main

slow, calls = json.loads(sys.argv[1])
for call, code in calls:
    done = CliRunner().invoke(main, call)
    assert done.exit_code == code, (call, done.output, done.exception)
    loaded = [name for name in slow if name in sys.modules]
    assert not loaded, f"{call} loads {loaded}"
"""


def loads_none(slow: tuple[str, ...], calls: list[tuple[list[str], int]], folder: Path) -> None:
    """Run commands, each with the exit code that is expected, in one process that must load none of these libraries."""
    command = [sys.executable, "-c", RUN_ALL, json.dumps([slow, calls])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_that_takes_long(tmp_path: Path) -> None:
    from test_main_command import COMMANDS

    calls = [([*name.split()[1:], "--help"], 0) for name in COMMANDS]
    loads_none(SLOW, [(["--help"], 0), (["--version"], 0), (["completion", "zsh"], 0), *calls], tmp_path)


def test_what_computes_nothing_loads_no_torch(trained: Trained, tmp_path: Path) -> None:
    """`ffdi diff` of this checkout, features and a model of the tests; a doctor where there is no driver to ask."""
    features, model = str(trained.features), str(trained.model)
    card = ["export", "--model", model, "--metrics", "none", "--format", "card", str(tmp_path / "README.md")]
    shards = [["shards", "ls", features], ["shards", "verify", features]]
    shards += [["shards", "export", features, str(tmp_path / "npz")]]
    calls = [(call, 0) for call in (*shards, ["diff", "HEAD", "HEAD"], card)]
    loads_none(("torch",), calls, HERE)
    if not Path("/proc/driver/nvidia/version").exists():
        loads_none(("torch",), [(["doctor"], 0)], tmp_path)


def test_a_folder_that_is_no_model_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "none").mkdir()
    other = ["--root", ".", "--out", "out", "--model", "none"]
    calls = [["predict", "--model", "none", "a.jpg"], ["explain", "--model", "none", "--out", "out", "a.jpg"]]
    calls += [["evaluate", "--images", "a.csv", *other], ["recalibrate", "--labels", "a.csv", *other]]
    calls += [["submit", "--list", "a.jpg", *other]]
    loads_none(("torch",), [(call, 1) for call in calls], tmp_path)
