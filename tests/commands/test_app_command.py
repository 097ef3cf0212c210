"""ffdi app: who may reach it, what it lacks, and that its server loads no torch."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ffdi.commands.main import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["app", "--model", "no/model", *arguments])


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffdi.commands.app.find_spec", lambda name: None if name == "uvicorn" else find_spec(name))
    done = run()
    assert (done.exit_code, done.stderr) == (1, "app: uvicorn not installed: pip install 'ffdi[app]'\n")


@pytest.mark.skipif(find_spec("starlette") is None, reason="the extra app is not installed")
def test_other_machines_come_in_by_an_option_alone() -> None:
    done = run("--host", "0.0.0.0")
    assert done.exit_code == 1
    assert "--host 0.0.0.0 lets everyone in" in done.stderr
    assert "add --public" in done.stderr
    assert "--public: only this machine reaches 127.0.0.1" in run("--public").stderr
    assert "no/model/bundle.json: missing" in run("--port", "0").stderr
    assert "no/model/bundle.json: missing" in run("--port", "0", "--host", "0.0.0.0", "--public").stderr


@pytest.mark.skipif(find_spec("starlette") is None, reason="the extra app is not installed")
def test_the_server_loads_no_torch() -> None:
    """The process that judges does: what it takes is in memory once."""
    code = (
        "import sys, ffdi.commands.app, ffdi.deploy.app.server; print({'torch', 'timm', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "set()\n", done.stderr
