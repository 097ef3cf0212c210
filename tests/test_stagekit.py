"""What the stage scripts share: one-line errors, options, progress, stopwatch."""

from __future__ import annotations

import errno
import json
import math
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ffdi.errors import InputError
from ffdi.stagekit import curves as curves_module
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.stopwatch import stage_seconds_file, stopwatch
from ffdi.tails.checkpoint import Epoch
from ffdi.tails.recipe import REFIT


@stage_command(click.option("--wrong", is_flag=True))
def stage(wrong: bool) -> None:
    """A stage."""
    if isinstance(what := click.get_current_context().obj, BaseException):
        raise what
    if wrong:
        raise InputError("images.csv: row 3: label 'x' is neither 0 nor 1")


def test_a_bad_input_is_one_line_and_exit_1() -> None:
    result = CliRunner().invoke(stage, ["--wrong"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["stage: images.csv: row 3: label 'x' is neither 0 nor 1"]


def test_a_stage_that_dvc_runs_leaves_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(stage)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("DVC_STAGE", "train@x")
    assert CliRunner().invoke(stage, ["--wrong"]).exit_code == 1 and not list(tmp_path.iterdir())
    assert CliRunner().invoke(stage).exit_code == 0
    assert 0 <= json.loads(stage_seconds_file("train@x").read_text())["seconds"] < 60
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").write_text("in its way")
    refused = CliRunner().invoke(stage)
    assert refused.exit_code == 1 and refused.stderr.startswith("stage: ") and refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "code", "told"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (MemoryError(), 1, "stage: out of memory: lower batch_size"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x"), 1, "stage: data/x: No space left on device: free"),
        (PermissionError(errno.EACCES, "Permission denied", "y"), 1, "stage: y: Permission denied: change"),
    ],
)
def test_what_the_system_refuses_is_one_line_and_signals_are_quiet(what: Exception, code: int, told: str) -> None:
    result = CliRunner().invoke(stage, [], obj=what)
    assert (result.exit_code, result.stderr[: len(told) or None]) == (code, told) and result.stderr.count("\n") <= 1


def test_a_fault_of_the_code_keeps_its_traceback() -> None:
    result = CliRunner().invoke(stage, [], obj=FileNotFoundError(errno.ENOENT, "No such file", "z"))
    assert isinstance(result.exception, FileNotFoundError)


def test_wrong_usage_is_exit_2() -> None:
    assert CliRunner().invoke(stage, ["--nonsense"]).exit_code == 2


SAY_THE_OPTIONS = """
import runpy, sys
from pathlib import Path
from click.testing import CliRunner

for script in sorted(Path(sys.argv[1]).glob("*.py")):
    shown = CliRunner().invoke(runpy.run_path(str(script))["main"], ["--help"])
    assert shown.exit_code == 0 and "--params" in shown.output, script
import ffdi.commands.main, ffdi.params.reading, ffdi.intake.ingest
assert "torch" not in sys.modules
"""


def test_every_stage_says_its_options_without_torch() -> None:
    """Start-up is paid at every stage: --help, ingest and params must not load torch."""
    command = [sys.executable, "-c", SAY_THE_OPTIONS, str(Path(__file__).parents[1] / "stages")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_progress_hands_everything_on() -> None:
    assert list(console("stage").progress(iter([1, 2, 3]), 3)) == [1, 2, 3]


def test_stopwatch_writes_seconds(tmp_path: Path) -> None:
    with stopwatch("train-x", tmp_path / "timings"):
        pass
    assert (tmp_path / "timings" / "train-x.json").read_text().startswith('{\n  "seconds": ')


def test_a_run_that_computed_nothing_leaves_the_times_of_the_one_that_did(tmp_path: Path) -> None:
    def written(**more: float) -> Any:
        with stopwatch("extract-x", tmp_path) as times:
            times.update(more)
        return json.loads((tmp_path / "extract-x.json").read_text())

    first = written(computed=0)  # better than none
    assert first["computed"] == 0 and first["seconds"] >= 0
    real = written(computed=12, decode=0.123456)
    assert (real["computed"], real["decode"]) == (12, 0.1235)
    assert written(computed=0, decode=9.0) == real
    assert written(computed=3)["computed"] == 3
    assert "computed" not in written()  # a stage that does not count is always timed


def test_epochs_of_a_refit_are_told_and_no_part_of_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing validates its tail, so it has no validation AUC to draw."""
    logged = dict[str, float]()
    live = SimpleNamespace(step=0, log_metric=logged.__setitem__)
    monkeypatch.setattr(curves_module, "_open_live", lambda folder: nullcontext(live))
    with curves_module.Curves("train a", 2, tmp_path) as curves:
        curves(Epoch(0, 0, 0.5, 0.75, 0.625, 0.1))
        curves(Epoch(REFIT, 0, 0.25, 0.875, math.nan, 0.1))
    assert (tmp_path / "history.csv").read_text().splitlines()[1:] == ["0,0,0.5,0.75,0.625,0.1"]
    assert logged == {"fold-0/loss": 0.5, "fold-0/train_auc": 0.75, "fold-0/val_auc": 0.625} | {
        "refit/loss": 0.25,
        "refit/train_auc": 0.875,
    }
    said = capsys.readouterr().err
    assert "train a: fold 0 epoch 0: loss 0.5000, train AUC 0.750, val AUC 0.625, " in said
    assert "train a: refit epoch 0: loss 0.2500, train AUC 0.875, " in said and "nan" not in said
