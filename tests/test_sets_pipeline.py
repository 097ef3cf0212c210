"""A list of sets in the pipeline: all that reads images reads them, and what DVC sees of them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, picture, tiny_backbone, write_pictures
from project import Project
from ruamel.yaml import YAML
from s3_server import S3Server

from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.settings import DataSettings, SetSettings
from ffdi.params.paths import image_source

HERE = Path(__file__).parents[1]


@pytest.mark.s3
def test_all_that_reads_images_reads_those_of_several_sets(
    tiny: Tiny, trained: Trained, weights: Path, s3: S3Server, tmp_path: Path
) -> None:
    """The tiny set, every other image of it at a URL: the figures are those of the one folder."""
    from ffdi.features.extract import extract_features
    from ffdi.features.extractor import load_extractor
    from ffdi.features.settings import ExtractSettings
    from ffdi.intake.auditing.probe_inputs import read_probe_inputs
    from ffdi.intake.near_duplicates.copies import read_sketches
    from ffdi.tails.ensemble import load_model
    from ffdi.tails.predict import score_files

    here = ImageSource(tiny.root)
    sets = DataSettings(
        (SetSettings(root=str(tiny.root), name="a"), SetSettings(root=s3.put_folder(tiny.root, "b"), name="b"))
    )
    both = image_source(sets)
    rows = tiny.rows.assign(path=["ab"[at % 2] + f"/{path}" for at, path in enumerate(tiny.rows["path"])])
    few = [table.head(12) for table in (tiny.rows, rows)]
    mine, theirs = (read_probe_inputs(*each) for each in zip(few, (here, both), strict=True))
    assert mine.facts.equals(theirs.facts) and np.array_equal(mine.thumbnails, theirs.thumbnails)
    files = [source.files_of(table) for table, source in zip(few, (here, both), strict=True)]
    assert np.array_equal(read_sketches(here, files[0]), read_sketches(both, files[1]))
    settings, extractor = ExtractSettings(workers=2, shard_rows=32), load_extractor(tiny_backbone(), weights)
    extract_features(rows, extractor, tmp_path / "features", source=both, settings=settings)
    written, due = (
        {file.name: file.read_bytes() for file in folder.iterdir()}
        for folder in (tmp_path / "features", trained.features)
    )
    assert written == due
    model, cpu = load_model(trained.model), torch.device("cpu")
    scores = [
        score_files(model, table, source, device=cpu).mean for table, source in zip(few, (here, both), strict=True)
    ]
    assert np.array_equal(*scores)
    assert pickle.loads(pickle.dumps(both)) == both  # a worker elsewhere has it
    assert s3.asked("GET", ".jpg") <= len(rows) // 2


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
