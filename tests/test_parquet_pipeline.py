"""The whole pipeline with Parquet tables: the figures of csv, through every stage and by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from project import Project
from ruamel.yaml import YAML

HERE = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.long]  # quick: tests/intake/test_parquet.py and its neighbours
OF_BYTES = re.compile(r"sha256|seconds|_per_s|model_bytes")  # what may differ between the two runs


def figures(project: Project) -> dict[str, Any]:
    found = {}
    for file in sorted((project.folder / "metrics").rglob("*.json")):
        content = json.loads(file.read_text())
        found |= {f"{file.name}: {key}": value for key, value in content.items() if not OF_BYTES.search(key)}
    return found


def test_parquet_changes_no_figure(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    params = YAML(typ="safe", pure=True).load((HERE / "params.yaml").read_text())
    views = {"count": 1, "policy": "seeds", "seed": 0}
    recipe = params["recipes"]["mobilenet_v2"] | {"epochs": 1, "backbone": "tiny"}
    params["demo"]["identities"] = 24
    params["split"] |= {
        "method": "leave_one_out",
        "by": "forgery",
        "min_fakes": 8,
        "embedding": "tiny",
        "find_copies": False,
    }
    del params["split"]["folds"]
    params["audit"]["find_copies"] = False
    params["backbones"] = {"tiny": params["backbones"]["mobilenet_v2"] | {"image_size": 64, "views": views}}
    params["recipes"] = {"one": recipe, "two": recipe | {"lr": 1e-3}}
    params["ensembles"] = {"both": {"recipes": ["one", "two"]}}
    params["protocol"] = {"one": {"backbone": "tiny"}}
    foreign = {"root": "data/foreign", "recipes": ["one"]}
    params["evaluate"] = {
        "bootstrap": 100,
        "attributes": None,
        "robustness": {"recipes": ["one"], "levels": ["jpeg-50"]},
        "cross": {"foreign": foreign},
    }
    params["ladder"] = {"recipe": "one", "backbone": "tiny", "epochs": 1}
    project = Project(tmp_path / "ffdi", params, warm_environment)
    project.run("git", "init", "-q")
    project.commit("start")
    project.run("dvc", "repro")
    of_csv, data = figures(project), project.folder / "data"
    lines = (project.folder / "dvc.yaml").read_text()
    (project.folder / "dvc.yaml").write_text(lines.replace("{tables: csv}", "{tables: parquet}"))
    foreign["tables"] = "parquet"
    with open(project.folder / "params.yaml", "w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    project.run("dvc", "repro")
    assert figures(project) == of_csv
    for table in ("images", "folds", "models/one/oof", "models/one/seen", "ensembles/both/oof"):
        assert pq.read_metadata(data / f"{table}.parquet").num_rows > 0, table
    for table in ("cross/foreign-images", "cross/one-on-foreign-scores", "../metrics/plots/one/test/scores"):
        assert (data / f"{table}.parquet").exists() and not (data / f"{table}.csv").exists(), table
    assert pd.read_csv(data / "images.csv").shape == pd.read_parquet(data / "images.parquet").shape
    said = project.run("python", "stages/compare.py", check=False)
    assert "data/folds.csv and folds.parquet: both are there: delete the one of an earlier run" in said
    for table in ("images.csv", "folds.csv"):
        (data / table).unlink()
    project.run("python", "stages/compare.py")  # by hand, it finds the tables that are there
    assert project.run("dvc", "status", "report").strip().endswith("up to date.")
