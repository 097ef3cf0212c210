"""What the suite itself stands on: folders that its workers share, and the python that starts stages."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from workers import made_once

SCRIPT = """
import json, os, sys
import ffdi
json.dump([sys.argv[1:], os.getcwd(), os.environ["GIVEN"], ffdi.__file__, "torch" in sys.modules], sys.stdout)
sys.stderr.write(sys.stdin.read())
if "fail" in sys.argv:
    raise ValueError("failed")
sys.exit(int(sys.argv[1]))
"""


def test_workers_make_a_shared_folder_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    name, made = f"shared-{os.getpid()}", []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.1)
        (folder / "file").touch()

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: made_once(tmp_path_factory, name, make), range(4)))
    assert len(made) == 1 and {*folders} == {*made} and (made[0] / "file").exists()


def test_a_folder_that_could_not_be_made_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    name = f"failed-{os.getpid()}"
    with pytest.raises(OSError, match="no room"):
        made_once(tmp_path_factory, name, lambda folder: (_ for _ in ()).throw(OSError("no room")))
    assert made_once(tmp_path_factory, name, lambda folder: (folder / "file").touch()).joinpath("file").exists()


@pytest.mark.parametrize(("arguments", "code"), [(["0"], 0), (["3"], 3), (["0", "fail"], 1)])
def test_the_warm_python_is_a_python(
    arguments: list[str], code: int, tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    for folder in ("stages", "ffdi"):
        (tmp_path / folder).mkdir()
    (tmp_path / "stages" / "script.py").write_text(SCRIPT)
    (tmp_path / "ffdi" / "__init__.py").touch()  # a checkout's own ffdi, not the one of the suite
    done = subprocess.run(
        ["python", "stages/script.py", *arguments],
        cwd=tmp_path,
        env=os.environ | warm_environment | {"PYTHONPATH": str(tmp_path), "GIVEN": "x"},
        input="typed",
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    said = f'[{str(arguments).replace(chr(39), chr(34))}, "{tmp_path}", "x", "{tmp_path}/ffdi/__init__.py", true]'
    assert done.stdout == said and done.stderr.startswith("typed")
    assert ("ValueError: failed" in done.stderr) == ("fail" in arguments)
