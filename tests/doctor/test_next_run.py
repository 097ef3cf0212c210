"""What the next `dvc repro` would run, asked of DVC in a pipeline of stages that take no time."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.repo import Repo

from ffdi.doctor.next_run import NextStage, planned_stages
from ffdi.doctor.project import next_run_diagnoses
from ffdi.files import write_json
from ffdi.stagekit.stopwatch import stage_seconds_file

PIPELINE = """
stages:
  ingest: {cmd: cp in.txt a.txt, deps: [in.txt], outs: [a.txt]}
  train:
    foreach: [x]
    do: {cmd: cp a.txt b.txt, deps: [a.txt], outs: [b.txt: {cache: false}]}
  cross: {cmd: cp other.txt c.txt, deps: [other.txt], outs: [c.txt]}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of DVC, which this process is in, whose stages never ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    Repo.init(".", no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "in.txt").write_text("12345")
    (tmp_path / "other.txt").write_text("1")
    return tmp_path


def diagnoses() -> dict[str, str]:
    found = list(next_run_diagnoses())
    assert {each.state for each in found} == {"ok"}
    return {each.name: each.found for each in found}


def test_a_pipeline_that_never_ran_says_that_time_and_bytes_are_unknown(project: Path) -> None:
    assert {stage.name for stage in planned_stages()} == {"ingest", "train@x", "cross"}
    assert {(stage.follows, stage.seconds, stage.bytes) for stage in planned_stages()} == {(False, None, None)}
    told = diagnoses()
    assert told["time"] == "never measured here"
    assert "writes about 0 bytes, DVC's cache included, and more that is not known before it ran: " in told["disk"]


def test_what_changed_runs_and_what_reads_its_outputs_follows(project: Path) -> None:
    with Repo(".") as repo:
        repo.reproduce()
    assert planned_stages() == []
    assert diagnoses()["next run"] == "dvc repro has nothing to run"
    (project / "in.txt").write_text("1234567")
    write_json(stage_seconds_file("ingest"), {"seconds": 2.0})
    write_json(stage_seconds_file("train@x"), {"seconds": 3.0})  # it resumed: what it took in all is in the other file
    write_json(project / "data/timings/train-x.json", {"seconds": 600.0})
    before = sorted(file.name for file in (project / ".dvc/tmp").iterdir())
    with Repo(".") as other, other.lock:  # a `dvc repro` at work: nothing waits for it
        planned = planned_stages()
        told = diagnoses()
    assert planned == [
        NextStage("ingest", False, 2.0, 10),
        NextStage("train@x", True, 600.0, 5),
    ]  # ingest's is cached, too
    assert told["next run"] == "dvc repro runs ingest; then, where their results change, train@x"
    assert told["time"] == "about 10 min, as they took the last time"
    assert sorted(file.name for file in (project / ".dvc/tmp").iterdir()) == before


def test_a_cache_of_links_holds_an_output_once(project: Path) -> None:
    with Repo(".") as repo:
        repo.reproduce()
        with repo.config.edit("local") as config:
            config["cache"]["type"] = ["symlink"]
    (project / "in.txt").unlink()
    (project / "in.txt").write_text("1")
    assert [stage.bytes for stage in planned_stages()] == [5, 5]


def test_a_pipeline_that_dvc_cannot_read_is_missing(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {a: {cmd: 'echo ${nothing}'}}\n")
    found, disk = next_run_diagnoses()
    assert found.state == "missing" and "nothing" in found.found and "\n" not in found.found
    assert disk.name == "disk"


def test_a_file_that_a_link_of_a_set_leads_to_in_vain_is_named(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {ingest: {cmd: cp in.txt a.txt, deps: [sets], outs: [a.txt]}}\n")
    (project / "sets").mkdir()
    (project / "sets/x.jpg").symlink_to(project / "in.txt")
    with Repo(".") as repo:
        repo.reproduce()
    (project / "in.txt").unlink()
    found, _ = next_run_diagnoses()
    assert (found.state, found.remedy) == ("missing", "dvc repro --single-item --force root")
    assert found.found == f"DVC misses {project}/sets/x.jpg: it is gone"
