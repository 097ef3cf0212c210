"""The user's images, which git ignores: DVC notices a change, and experiments in a copy of the checkout find them."""

from __future__ import annotations

import re
import runpy
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import picture
from project import Project
from ruamel.yaml import YAML

from ffdi.files import sha256_file

HERE = Path(__file__).parents[1]
PARAMS = """
data: {{root: {root}}}
split: {{embedding: b}}
backbones: {{b: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}}}}
recipes: {{r: {{backbone: b}}}}
ladder: {{recipe: r, backbone: b}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, warm_environment: dict[str, str]) -> Project:
    """Up to ingest, with the root that README's block has and no key beside those that it must have."""
    params = YAML(typ="safe", pure=True).load((HERE / "params.yaml").read_text())
    params["demo"]["identities"] = 6
    params["data"] = {"root": "data/own", "layout": "imagefolder"}
    made = Project(tmp_path_factory.mktemp("own") / "ffdi", params, warm_environment)
    for at in range(8):
        file = made.folder / "data" / "own" / ("fake" if at % 2 else "real") / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(at).save(file)
    shutil.make_archive(str(made.folder / "data" / "own"), "zip", made.folder / "data" / "own")
    made.run("git", "init", "-q")
    made.commit("start")
    made.run("dvc", "repro", "ingest")
    made.commit("ingested")
    return made


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [["+data.max_rejected=0.5"], ["data.root=data/own.zip"]], ids=["folder", "archive"])
def test_an_experiment_in_a_copy_finds_images_that_git_ignores(changes: list[str], project: Project) -> None:
    before = project.run("git", "status", "--short")
    said = project.run("dvc", "exp", "run", "--temp", *(f"-S={change}" for change in changes), "ingest")
    assert stages_run(said) == ["root", "ingest"] and "ingest: 8 images (4 fake)" in said
    assert "data/root" not in project.run("git", "show", "--stat", "--format=", exp_of(said, project))
    assert project.run("git", "status", "--short") == before  # the link of the checkout is as it was
    assert str((project.folder / "data" / "root").readlink()) == "own"


def exp_of(said: str, project: Project) -> str:
    """The commit of the experiment that DVC has just run."""
    name = re.findall(r"experiment '([^']+)'", said)[0]
    return project.run("git", "for-each-ref", "--format=%(objectname)", f"refs/exps/**/{name}").strip()


@pytest.mark.slow
@pytest.mark.long
def test_a_queued_experiment_finds_them_too(project: Project) -> None:
    project.run("dvc", "exp", "run", "--queue", "-S=+data.max_rejected=0.25", "-n=queued", "ingest")
    project.run("dvc", "queue", "start")
    for _ in range(60):
        if not re.search("Queued|Running", status := project.run("dvc", "queue", "status")):
            break
        time.sleep(1)
    assert re.search(r"queued\s.*Success", status), status + project.run("dvc", "queue", "logs", "queued")


@pytest.mark.slow
def test_a_changed_image_is_read_again_and_nothing_else_is(project: Project) -> None:
    assert stages_run(project.run("dvc", "repro", "ingest")) == []
    image = project.folder / "data" / "own" / "real" / "0.png"
    picture(99).save(image)
    said = project.run("dvc", "exp", "run", "ingest")
    assert stages_run(said) == ["root", "ingest"]
    assert sha256_file(image) in (project.folder / "data" / "images.csv").read_text()


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """link(root) runs the stage in a checkout with a folder `faces`, an archive and a neighbour; its output."""
    for folder in ("checkout/faces", "checkout/data/demo", "checkout/.dvc/tmp/exps/standalone/tmp1", "next"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "checkout" / "faces.zip").touch()
    stage = runpy.run_path(str(HERE / "stages" / "root.py"))["main"]

    def run(root: str, where: str = ".") -> str:
        here = tmp_path / "checkout" / where
        (here / "params.yaml").write_text(PARAMS.format(root=root))
        monkeypatch.chdir(here)
        done = CliRunner().invoke(stage)
        assert done.exit_code in (0, 1) and not isinstance(done.exception, OSError)
        return str(done.output)

    return run


TEMP = ".dvc/tmp/exps/standalone/tmp1"


@pytest.mark.parametrize(
    ("root", "where", "text"),
    [
        ("faces", ".", "../faces"),  # a checkout that moves, or is copied, takes its link along
        ("data/demo", ".", "demo"),
        ("faces.zip", ".", "../faces.zip"),
        ("{}/checkout/faces", ".", "../faces"),
        ("../next", ".", "../../next"),
        ("{}/next", ".", "{}/next"),
        ("faces", TEMP, "{}/checkout/faces"),  # what git ignores is not in the copy
        ("faces.zip", TEMP, "{}/checkout/faces.zip"),
        ("../next", TEMP, "{}/checkout/../next"),
    ],
)
def test_the_link_leads_to_the_data(link: Any, tmp_path: Path, root: str, where: str, text: str) -> None:
    out = tmp_path / "checkout" / where / "data" / "root"
    for _ in range(2):  # and again, over the former link
        assert link(root.format(tmp_path), where) == ""
        assert str(out.readlink()) == text.format(tmp_path)
        assert out.resolve() == (tmp_path / "checkout" / root.format(tmp_path)).resolve()


def test_the_link_leads_to_the_data_from_a_larger_disk(link: Any, tmp_path: Path) -> None:
    shutil.move(tmp_path / "checkout" / "data", tmp_path / "disk")
    (tmp_path / "checkout" / "data").symlink_to(tmp_path / "disk")
    for root in ("faces", "data/demo"):
        assert link(root) == ""
        assert (tmp_path / "disk" / "root").resolve() == (tmp_path / "checkout" / root).resolve()


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("nope", r"data\.root: .*/nope: no such folder or archive"),
        ("data", "is or holds what ffdi writes to: name a folder of images alone"),  # DVC would walk in a circle
        (".", "is or holds what ffdi writes to"),
        ("data/root", "is or holds what ffdi writes to"),
    ],
)
def test_a_root_that_cannot_be_linked_is_refused(link: Any, tmp_path: Path, root: str, says: str) -> None:
    assert link("faces") == ""
    said = link(root)
    assert re.search(says, said) and said.count("\n") == 1
    assert (tmp_path / "checkout" / "data" / "root").is_dir(), "the former link is gone"


def test_no_folder_of_a_user_is_taken_for_a_former_link(link: Any, tmp_path: Path) -> None:
    kept = tmp_path / "checkout" / "data" / "root" / "a.jpg"
    kept.parent.mkdir()
    kept.touch()
    assert "is no link" in link("faces")
    assert kept.exists()
