"""A list of sets in the pipeline: what DVC sees of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import picture, write_pictures
from project import Project
from ruamel.yaml import YAML

HERE = Path(__file__).parents[1]


@pytest.mark.long
def test_a_change_in_one_of_several_sets_reruns_ingest(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    write_pictures(tmp_path / "set", 8, groups=4, size=32)
    params: dict[str, Any] = YAML(typ="safe", pure=True).load((HERE / "params.yaml").read_text())
    params["demo"]["identities"] = 6
    params["data"] = {"root": [{"root": "data/demo"}, {"root": str(tmp_path / "set")}], "max_rejected": 0.01}
    project = Project(tmp_path / "ffdi", params, warm_environment)
    project.run("git", "init", "-q")
    project.commit("start")
    assert "ingest: set: 8 images listed (4 fake)" in project.run("dvc", "repro", "ingest")
    assert "up to date" in project.run("dvc", "status", "ingest")
    assert "set: 8 images" in project.run("dvc", "exp", "run", "--temp", "-S", "data.max_rejected=0.5", "ingest")
    picture(99, 32).save(tmp_path / "set/0003.jpg")
    assert re.search(r"ingest:\s+changed deps:\s+modified:\s+data.root", project.run("dvc", "status", "ingest"))
    assert "set: 8 images" in project.run("dvc", "repro", "ingest")
    assert "up to date" in project.run("dvc", "status", "ingest")
