"""The example of docs/use.md, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Tiny, Trained

HERE = Path(__file__).parents[1]


def example() -> str:
    """The Python of the section on Python."""
    section = (HERE / "docs" / "use.md").read_text(encoding="utf-8").split("\n## From Python\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    return str(code)


def test_the_example_of_the_guide_runs(
    trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data/models").mkdir(parents=True)
    (tmp_path / "data/models/NAME").symlink_to(trained.model)
    (tmp_path / "photos").symlink_to(tiny.root)
    monkeypatch.chdir(tmp_path)
    exec(compile(example(), "docs/use.md", "exec"), {"__name__": "__main__"})
    assert len(capsys.readouterr().out.splitlines()) >= len(tiny.rows)


@pytest.mark.long
def test_the_example_of_the_guide_is_typed(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(example())
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(HERE / "setup.cfg"), "example.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"MYPYPATH": str(HERE), "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
