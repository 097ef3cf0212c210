"""The DAG, used as its users use it: dvc repro, dvc exp run -S, dvc metrics, params, plots and dag."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner
from project import Project
from ruamel.yaml import YAML
from test_readme import commands_of_use_it

from ffdi.commands.main import main
from ffdi.demo.dataset import plan_demo
from ffdi.evaluation.headline import OF_AUDIT, OF_RECIPE

HERE = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
DROPPED = "(?!Experiment|recipes|.*:auc$)"  # all other columns: docs/evaluation.md


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, warm_environment: dict[str, str]) -> Project:
    folder = tmp_path_factory.mktemp("project") / "ffdi"
    params = YAML(typ="safe", pure=True).load((HERE / "params.yaml").read_text())
    backbone = params["backbones"]["mobilenet_v2"] | {
        "image_size": 64,
        "views": {"count": 1, "policy": "seeds", "seed": 0},
    }
    recipe = params["recipes"]["mobilenet_v2"] | {"epochs": 1}
    params["demo"]["identities"] = 24
    params["split"] |= {"folds": 2, "embedding": "tiny"}
    params["backbones"] = {"tiny": backbone}
    params["recipes"] = {"one": recipe | {"backbone": "tiny"}, "two": recipe | {"backbone": "tiny", "lr": 1e-3}}
    params["ensembles"] = {}
    params["evaluate"] = {
        "bootstrap": 100,
        "attributes": None,
        "robustness": {"recipes": ["one"], "levels": ["jpeg-50"]},
        "cross": {"foreign": {"root": "data/foreign", "recipes": ["one"]}},
    }
    params["ladder"] = {"recipe": "one", "backbone": "tiny", "epochs": 1}
    made = Project(folder, params, warm_environment)
    made.run("git", "init", "-q")
    made.commit("start")
    made.run("dvc", "repro")
    made.commit("figures")
    return made


def test_every_stage_has_written_what_it_owes(project: Project) -> None:
    for name in ("one", "two"):
        assert 0 <= project.metrics(name)["auc"] <= 1  # type: ignore[operator]
        assert project.metrics(name)["pretrained"] is False
        assert tuple(project.metrics(name, "metrics")) == OF_RECIPE
    assert tuple(project.metrics("audit", "metrics")) == OF_AUDIT
    assert set(project.metrics("ladder", "metrics")) >= {"rung_5_reported_auc", "rung_5_true_auc", "rung_5_gap_auc"}
    assert set(project.metrics("cross", "metrics")) == {"one_on_foreign_auc"}
    assert set(project.metrics("summary", "metrics")) == {"one_minus_two_auc"}
    for name in ("one", "two", "audit", "ladder", "cross", "summary"):
        assert project.metrics(name, "metrics").items() <= project.metrics(name).items(), name
    assert project.metrics("audit")["leaks"] == 0
    assert project.metrics("ladder")["rung_5_name"]
    assert 0 <= project.metrics("one")["robustness_jpeg_50_auc"] <= 1  # type: ignore[operator]
    assert "robustness_jpeg_50_auc" not in project.metrics("two")
    assert project.metrics("cross")["one_on_foreign_n_test"] == len(plan_demo(8, 1))
    assert isinstance(project.metrics("summary")["one_minus_two_auc_verdict"], str)
    data = project.folder / "data"
    assert (data / "audit.ok").read_text().count("\n") == 2
    with h5py.File(data / "features" / "tiny" / "shard-00000.h5") as shard:
        assert shard["features"].shape[1:] == (160, 2, 2)  # 64 pixels; 7x7 at 224
        assert shard["features"].dtype == "float16"
    page = (data / "report" / "index.html").read_text()
    assert "random weights" in page
    assert "demo, one" in page  # the matrix
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:)?//""", page)
    assert {f.name for f in (data / "models" / "one").iterdir()} == {
        *("bundle.json", "oof.csv", "seen.csv", "index.safetensors", "prefix.safetensors"),
        *("fold-0.safetensors", "fold-1.safetensors"),
    }


def test_a_second_repro_does_nothing(project: Project) -> None:
    assert stages_run(project.run("dvc", "repro")) == set()


def test_users_commands_say_something(project: Project) -> None:
    shown = project.run("dvc", "metrics", "show")
    assert "metrics/one.json" in shown.replace(os.sep, "/") and "details" not in shown
    assert "extract@tiny" in project.run("dvc", "dag", "--mermaid")
    assert "vega" in Path(project.run("dvc", "plots", "show").strip().removeprefix("file://")).read_text()
    assert "recipes.one.lr" in project.run("dvc", "exp", "show", "--csv")


def test_the_commands_of_use_it_are_run_as_they_stand(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """README's section, on this smaller project, where the recipe has another name."""
    (tmp_path / "data/models").mkdir(parents=True)
    (tmp_path / "data/models/efficientnet_lite0").symlink_to(project.folder / "data/models/one")
    (tmp_path / "data/demo").symlink_to(project.folder / "data/demo")
    (tmp_path / "metrics").symlink_to(project.folder / "metrics")
    monkeypatch.chdir(tmp_path)
    activate, *commands, app = commands_of_use_it()
    assert activate == "source .venv/bin/activate"
    said = {}
    for command in commands:
        program, *arguments = shlex.split(command)
        done = CliRunner().invoke(main, arguments, prog_name=program)
        assert done.exit_code == 0, f"{command}: {done.output} {done.exception!r}"
        said[command.split(" --")[0] + command.partition("--format")[2]] = done.stdout
    rows = said["ffdi predict"].splitlines()
    assert rows[0].startswith("path,score,verdict,") and [row.split(",")[0] for row in rows[1:]] == [
        f"data/demo/img/0000{n}.jpg" for n in range(4)
    ]
    assert "<h2>data/demo/img/00001.jpg</h2>" in Path("explained/index.html").read_text()
    assert Path("detector.onnx").stat().st_size > 1e6
    assert Path("model-card.md").read_text().startswith("---\n")
    answers = judged_by_app(app, project.environment, Path("data/demo/img/00001.jpg"))
    assert answers["pictures"][0]["verdict"] in ("real", "fake", "undecided")


def judged_by_app(command: str, environment: dict[str, str], picture: Path) -> dict[str, Any]:
    """What the app, started here, answers to a picture; it runs until Ctrl-C."""
    with socket.socket() as tried:
        free = tried.connect_ex(("127.0.0.1", 8000)) != 0
    started = shlex.split(command if free else f"{command} --port 0")
    with subprocess.Popen(started, env=environment, text=True, stderr=subprocess.PIPE) as running:
        assert running.stderr
        try:
            told = next((line for line in running.stderr if "judges with" in line), "")
            address = re.search(r"http://\S+", told)
            assert address, told
            headers = {"content-type": "application/octet-stream"}
            asked = urllib.request.Request(f"{address[0]}/judge", picture.read_bytes(), headers)
            with urllib.request.urlopen(asked, timeout=120) as answer:
                answers: dict[str, Any] = json.load(answer)
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(60) in (0, 130)
    return answers


def test_one_number_runs_only_what_depends_on_it(project: Project) -> None:
    output = project.run("dvc", "exp", "run", "-n", "smaller", "-S", "recipes.two.lr=3e-4")
    assert stages_run(output) == {"train@two", "evaluate@two", "cross", "compare", "report"}
    assert "recipes.two.lr" in project.run("dvc", "params", "diff")
    diff = project.run("dvc", "metrics", "diff")
    assert "metrics/two.json" in diff and "metrics/one.json" not in diff
    of_screen(diff)
    of_screen(both := project.run("dvc", "exp", "diff"))
    assert "recipes.two.lr" in both and "val_auc_mean" in both


def of_screen(printed: str) -> None:
    lines = printed.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 120, printed


def test_what_the_number_did_is_shown_on_a_screen(project: Project) -> None:
    """`dvc exp show` repeats a file's name in the heading of each figure: what else depends on it is dropped."""
    changed = project.run("dvc", "exp", "show", "--only-changed", "--csv").splitlines()[0].split(",")
    assert {"recipes.two.lr", "metrics/two.json:auc", "metrics/two.json:val_auc_mean"} <= set(changed)
    assert not [name for name in changed if "brier" in name or "fold_" in name or name.startswith("metrics/one.json")]
    shown = project.run("dvc", "exp", "show", "--only-changed", "--drop", DROPPED)
    of_screen(shown)
    assert "recipes.two.lr" in shown and "metrics/two.json:auc" in shown and "smaller" in shown
    told = project.run("ffdi", "diff")
    of_screen(told)
    assert re.search(r"^two +headline +(val_)?auc", told, re.M) and not re.search(r"^one +headline", told, re.M)
    assert project.run("ffdi", "diff", "HEAD", "smaller") == told.replace("workspace", "smaller  ")


def test_another_level_computes_that_level_alone(project: Project) -> None:
    levels = project.folder / "data" / "robustness" / "tiny"
    before = (levels / "jpeg-50" / "index.json").stat().st_mtime_ns
    output = project.run("dvc", "exp", "run", "-S", "evaluate.robustness.levels=[jpeg-50,blur-2]")
    assert stages_run(output) == {"evaluate@one", "evaluate@two", "cross", "compare", "report"}
    assert {"robustness_jpeg_50_auc", "robustness_blur_2_auc"} <= set(project.metrics("one"))
    assert (levels / "jpeg-50" / "index.json").stat().st_mtime_ns == before


def test_a_removed_recipe_leaves_the_report(project: Project) -> None:
    output = project.run("dvc", "exp", "run", "-S", "~recipes.two", check=False)
    if "report" not in stages_run(output):
        pytest.skip("this DVC cannot remove a key with -S")
    page = (project.folder / "data" / "report" / "index.html").read_text()
    assert "Left out" in page


def test_an_ensemble_more_is_fused_and_compared_and_nothing_else_runs(project: Project) -> None:
    project.run("git", "checkout", "-f", "HEAD")
    project.run("dvc", "checkout", "-f")
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load((project.folder / "params.yaml").read_text())
    params["ensembles"] = {"both": {"recipes": ["one", "two"], "weights": "fitted"}}
    with open(project.folder / "params.yaml", "w") as file:
        yaml.dump(params, file)
    assert stages_run(project.run("dvc", "repro")) == {"fuse@both", "compare", "report"}
    assert tuple(project.metrics("both", "metrics")) == OF_RECIPE
    assert set(project.metrics("summary", "metrics")) >= {"one_minus_both_auc", "two_minus_both_auc"}
    assert "| both |" in (project.folder / "data" / "report" / "results.md").read_text()


def test_other_folds_compute_only_what_is_missing(project: Project) -> None:
    output = project.run("dvc", "exp", "run", "-S", "split.seed=3", "extract@tiny")
    assert "extract@tiny" in stages_run(output)
    computed, reused = map(int, re.search(r"(\d+) rows computed, (\d+) reused", output).groups())  # type: ignore[union-attr]
    assert reused > 0
    assert computed < reused  # views of images that were in the test set before, none else
