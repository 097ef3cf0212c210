"""A data set at a URL: every stage that reads images makes of it what it makes of the same files in a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_backbone, write_pictures
from project import Project
from ruamel.yaml import YAML
from s3_server import SECRET, S3Server

from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.settings import DataSettings
from ffdi.params.paths import image_source

HERE = Path(__file__).parents[1]
pytestmark = pytest.mark.s3


def files_of(folder: Path, *but: str) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in but]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_all_that_reads_images_reads_them_at_a_url(
    tiny: Tiny, trained: Trained, weights: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ffdi.features.extract import extract_features
    from ffdi.features.extractor import load_extractor
    from ffdi.features.settings import ExtractSettings
    from ffdi.intake.auditing.probe_inputs import read_probe_inputs
    from ffdi.intake.near_duplicates.copies import read_sketches
    from ffdi.tails.ensemble import load_model
    from ffdi.tails.predict import score_files

    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    here, there = ImageSource(tiny.root), image_source(DataSettings(s3.put_folder(tiny.root, "set")))
    some = tiny.rows.head(12)
    for kind in ("500", "drop", "short", "truncate"):
        s3.fail(kind, method="GET", part=".jpg")
    mine, theirs = read_probe_inputs(some, here), read_probe_inputs(some, there)
    assert mine.facts.equals(theirs.facts) and np.array_equal(mine.thumbnails, theirs.thumbnails)
    sketches = [read_sketches(source, source.files_of(some)) for source in (here, there)]
    assert np.array_equal(*sketches)
    settings = ExtractSettings(workers=2, shard_rows=32)
    extractor = load_extractor(tiny_backbone(), weights)
    extract_features(tiny.rows, extractor, tmp_path / "features", source=there, settings=settings)
    assert files_of(tmp_path / "features") == files_of(trained.features)
    model = load_model(trained.model)
    scores = [score_files(model, some, source, device=torch.device("cpu")).mean for source in (here, there)]
    assert np.array_equal(*scores)
    assert s3.asked("GET", ".jpg") <= len(tiny.rows) + 6  # each once, but for the faults


def small_pipeline(folder: Path, root: str, environment: dict[str, str], store: str | None = None) -> Project:
    """The demo's params with one small backbone and recipe on 24 people."""
    params: dict[str, Any] = YAML(typ="safe", pure=True).load((HERE / "params.yaml").read_text())
    backbone = params["backbones"]["mobilenet_v2"] | {
        "image_size": 64,
        "views": {"count": 1, "policy": "seeds", "seed": 0},
    }
    params["demo"]["identities"] = 24
    params["data"]["root"] = root
    params["split"] |= {"folds": 2, "embedding": "tiny"}
    params["extract"] |= {"store": store} if store else {}
    params["backbones"] = {"tiny": backbone}
    params["recipes"] = {"one": params["recipes"]["mobilenet_v2"] | {"epochs": 1, "backbone": "tiny"}}
    params["ensembles"] = {}
    params["evaluate"] = {
        "bootstrap": 100,
        "attributes": None,
        "robustness": {"recipes": ["one"], "levels": ["jpeg-50"]},
        "cross": {},
    }
    params["ladder"] = {"recipe": "one", "backbone": "tiny", "epochs": 1}
    made = Project(folder, params, environment)
    made.environment["FFDI_CACHE"] = str(folder.parent / "cache")
    made.run("git", "init", "-q")
    made.commit("start")
    return made


@pytest.mark.long
def test_the_pipeline_gives_the_same_bytes_at_a_url(
    tmp_path: Path, warm_environment: dict[str, str], s3: S3Server
) -> None:
    local = small_pipeline(tmp_path / "local/ffdi", "data/demo", warm_environment)
    targets = ("evaluate@one", "report")
    local.run("dvc", "repro", "-q", *targets)
    url = s3.put_folder(local.folder / "data/demo", "lake/demo")
    environment = warm_environment | s3.environment()
    remote = small_pipeline(tmp_path / "remote/ffdi", url, environment, store=f"{s3.url}/features")
    for kind in ("500", "503", "drop", "truncate", "short"):
        s3.fail(kind, 2, method="GET", part="/img/")
        s3.fail(kind, method="GET", part="/shards/")
        s3.fail(kind if kind in ("500", "503") else "drop", method="PUT", part="/shards/")
    said = remote.run("dvc", "repro", *targets)
    assert f"root: {url}: " in said
    for name in ("images.csv", "folds.csv", "rejected.csv", "skipped.csv", "audit.ok", "audit_findings.csv"):
        assert (local.folder / "data" / name).read_bytes() == (remote.folder / "data" / name).read_bytes(), name
    mine, theirs = (files_of(one.folder / "data/features", "tiny.lock") for one in (local, remote))
    assert (
        theirs.keys() == {"tiny/index.json", "tiny/store.json"} and theirs["tiny/index.json"] == mine["tiny/index.json"]
    )
    for name in ("data/models", "metrics"):
        mine, theirs = (files_of(one.folder / name, "cost.json") for one in (local, remote))
        different = [file for file in mine if mine[file] != theirs.get(file) and not is_timed(file, mine, theirs)]
        assert mine.keys() == theirs.keys() and not different
    for file in remote.folder.rglob("*"):
        assert not file.is_file() or ".git" in file.parts or SECRET.encode() not in file.read_bytes(), file
    assert SECRET not in said
    assert "Data and pipelines are up to date" in remote.run("dvc", "status")


@pytest.mark.long
def test_a_change_at_a_url_is_seen_when_root_runs_again(
    tmp_path: Path, warm_environment: dict[str, str], s3: S3Server
) -> None:
    write_pictures(tmp_path / "set", 8, groups=4, size=32)
    params: dict[str, Any] = YAML(typ="safe", pure=True).load((HERE / "params.yaml").read_text())
    params["demo"]["identities"] = 6
    params["data"] = {
        "root": s3.put_folder(tmp_path / "set", "set"),
        "layout": "csv",
        "max_rejected": 0.01,
    }
    project = Project(tmp_path / "ffdi", params, warm_environment | s3.environment())
    project.run("git", "init", "-q")
    project.commit("start")
    assert "ingest: 8 images (4 fake)" in project.run("dvc", "repro", "ingest")
    s3.put("set/0003.jpg", (tmp_path / "set/0003.jpg").read_bytes() + b"\0")
    assert "up to date" in project.run("dvc", "status", "ingest")  # nobody has listed it again
    assert "8 images" in project.run("dvc", "exp", "run", "--temp", "-S", "data.max_rejected=0.5", "ingest")
    project.run("dvc", "repro", "--single-item", "--force", "root")
    assert re.search(r"ingest:\s+changed deps:\s+modified:\s+data.root", project.run("dvc", "status", "ingest"))


def is_timed(file: str, mine: dict[str, bytes], theirs: dict[str, bytes]) -> bool:
    """Whether two files differ in seconds alone."""
    if not file.endswith(".json"):
        return False
    one, other = (json.loads(files[file]) for files in (mine, theirs))
    return all(one[key] == other[key] or "second" in key or "images_per" in key for key in one)
