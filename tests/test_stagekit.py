"""What the stage scripts share: one-line errors, options, progress, stopwatch."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ffdi.errors import InputError
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.stopwatch import stage_seconds_file, stopwatch


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
