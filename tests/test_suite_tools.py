"""What the suite itself stands on: folders that its workers share, and the python that starts stages."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import drawn_demo
import pytest
from workers import RAY, group_of, made_once, pytest_collection_modifyitems

SCRIPT = """
import json, os, sys
import ffdi
json.dump([sys.argv[1:], os.getcwd(), os.environ["GIVEN"], ffdi.__file__, "torch" in sys.modules], sys.stdout)
sys.stderr.write(sys.stdin.read())
if "fail" in sys.argv:
    raise ValueError("failed")
sys.exit(int(sys.argv[1]))
"""
# As DVC 3.67 wrote it for the files of test_a_demo_is_taken_where_the_code_of_here_drew_it.
LOCK = """
stages:
  demo:
    deps: [{path: ffdi/demo, md5: e1da08eb427c83828705beeeca6d5595.dir}, {path: stages/demo.py, md5: any}]
    params: {params.yaml: {demo: {identities: 90, seed: 0}}}
    outs: [{path: data/demo, md5: c7fa1a643ee701bbb23520b0a6546c05.dir}]
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


def test_the_files_of_one_ray_cluster_are_one_group() -> None:
    """Each other file is its own group; the groups with the most slow tests come first, and are not divided."""

    class Test:
        def __init__(self, nodeid: str, slow: bool = False) -> None:
            self.nodeid, self.slow = nodeid, slow

        def get_closest_marker(self, name: str) -> bool:
            return self.slow and name == "slow"

    names = ["a.py::1", "features/test_ray.py::1", "b.py::1", "tails/test_on_ray.py::1", "a.py::2", "c.py::1"]
    tests: list[Any] = [Test(name, slow="ray" in name) for name in names]
    pytest_collection_modifyitems(tests)
    sorted_names = [names[place] for place in (1, 3, 0, 4, 2, 5)]
    assert [test.nodeid for test in tests] == sorted_names
    assert [group_of(name) for name in sorted_names] == [RAY, RAY, "a.py", "a.py", "b.py", "c.py"]


def test_each_file_that_uses_the_cluster_is_of_its_group() -> None:
    for file in Path(__file__).parent.rglob("test_*.py"):
        parts = file.read_text(encoding="utf-8").split("\n\n\n")
        quick = [part for part in parts if "ray_cluster: Any" in part and "mark.long" not in part]
        assert not quick or group_of(file.name) == RAY, file


@pytest.mark.parametrize("changed", ["nothing", "ffdi/demo/faces.py", "data/demo/img/0.jpg", "dvc.lock"])
def test_a_demo_is_taken_where_the_code_of_here_drew_it(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn_demo, "write_demo", lambda *_, **__: None)
    files = {"ffdi/demo/faces.py": "code", "data/demo/img/0.jpg": "picture", "data/demo/labels.csv": "table"}
    for name, text in (files | {"dvc.lock": LOCK}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("90", "30") if name == changed == "dvc.lock" else text)
    if changed in files:
        (tmp_path / changed).write_text("other")
    taken = drawn_demo.drawn_demo(tmp_path / "new", tmp_path)
    assert taken == tmp_path / ("data/demo" if changed == "nothing" else "new/demo")


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
