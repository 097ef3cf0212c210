"""Keys that dvc.yaml names must stand in params.yaml: DVC does not know the defaults."""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from params_files import COMMITTED, PRESETS
from ruamel.yaml import YAML

from ffdi.errors import ParamsError
from ffdi.params.reading import read_params


def keys_in(tree: dict[str, Any], key: str) -> bool:
    section: Any = tree
    for part in key.split("."):
        if not isinstance(section, dict) or part not in section:
            return False
        section = section[part]
    return True


def without(tree: dict[str, Any], key: str) -> dict[str, Any]:
    changed = copy.deepcopy(tree)
    *way, last = key.split(".")
    section = changed
    for part in way:
        section = section[part]
    del section[last]
    return changed


YAML_FILE = YAML(typ="safe", pure=True)
PIPELINE = YAML_FILE.load(COMMITTED.with_name("dvc.yaml"))["stages"]
BODIES = [stage.get("do", stage) for stage in PIPELINE.values()]
TRACKED = sorted({key for body in BODIES for key in body.get("params", ()) if isinstance(key, str) and "$" not in key})
# DVC itself looks these up in params.yaml when it reads dvc.yaml, and says which it does not find before it runs anything
DEFAULTS = YAML_FILE.load(COMMITTED.with_name("dvc.yaml"))["vars"][0]  # what DVC takes where params.yaml is silent
OPTIONAL = {key for key, value in DEFAULTS.items() if not value}  # sections without which nothing is missing
LOOKED_UP = sorted(
    set(re.findall(r"\$\{(?!key|item)([\w.]+)\}", COMMITTED.with_name("dvc.yaml").read_text()))
    - OPTIONAL
    - {f"{section}.{key}" for section, keys in DEFAULTS.items() for key in keys}
)
REQUIRED = ("backbones", "data", "data.root", "recipes")


def pipeline_params(folder: Path, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml beside the pipeline's dvc.yaml, in a stage that DVC runs."""
    shutil.copy(COMMITTED.with_name("dvc.yaml"), folder)
    monkeypatch.setenv("DVC_STAGE", "weights@late_cut")
    with open(folder / "params.yaml", "w") as file:
        YAML_FILE.dump(tree, file)
    return folder / "params.yaml"


@pytest.mark.parametrize("key", [key for key in TRACKED if key not in REQUIRED])
def test_a_key_that_dvc_would_miss_is_refused_with_the_line_to_add(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else DVC ends at the first stage that names it, "Parameters ... are missing", after all that was computed before."""
    tree = without(YAML_FILE.load(COMMITTED), key)
    for section, reference in (("split", "embedding"), ("ladder", "recipe"), ("ladder", "backbone")):
        if key == section:  # DVC looks these up, see LOOKED_UP
            tree.setdefault(section, {})[reference] = "late_cut"
    by_hand = tmp_path / "by_hand.yaml"
    YAML_FILE.dump(tree, by_hand)
    read_params(by_hand)  # with the defaults
    file = pipeline_params(tmp_path, tree, monkeypatch)
    if all(keys_in(tree, tracked) for tracked in TRACKED):
        read_params(file)
        return
    with pytest.raises(ParamsError, match=r"dvc\.yaml names") as caught:
        read_params(file)
    assert "\n" not in str(caught.value)
    lines = re.findall(r"`([^`]+)`(?: to (\w+))?", str(caught.value))
    for line, section in lines:
        (tree[section] if section else tree).update(YAML_FILE.load(line))
    assert all(keys_in(tree, tracked) for tracked in TRACKED)  # what DVC wants
    read_params(pipeline_params(tmp_path, tree, monkeypatch))


@pytest.mark.parametrize("key", REQUIRED)
def test_a_key_without_default_is_required(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match=rf"{re.escape(key)}: Field required"):
        read_params(pipeline_params(tmp_path, without(YAML_FILE.load(COMMITTED), key), monkeypatch))


@contextmanager
def repo_of(folder: Path, tree: dict[str, Any], pipeline: str | None = None) -> Iterator[Any]:
    """DVC's view of a params file and of the pipeline, or of another one."""
    from dvc.repo import Repo

    (folder / ".dvc").mkdir()
    shutil.copy(COMMITTED.parent / ".dvc/config", folder / ".dvc/config")
    (folder / "dvc.yaml").write_text(pipeline or COMMITTED.with_name("dvc.yaml").read_text())
    subprocess.run(["git", "init", "-q", folder], check=True)
    with open(folder / "params.yaml", "w") as file:
        YAML_FILE.dump(tree, file)
    with Repo(str(folder)) as repo:
        yield repo


def stages_of(folder: Path, tree: dict[str, Any]) -> set[str]:
    """The names of the stages that DVC finds for a params file."""
    with repo_of(folder, tree) as repo:
        return {stage.name for stage in repo.index.stages}


def outputs_of(folder: Path, tree: dict[str, Any], pipeline: str) -> set[str]:
    """The outputs that stages have, and the files that they are told of."""
    with repo_of(folder, tree, pipeline) as repo:
        named = {word for stage in repo.index.stages for word in stage.cmd.split() if word.startswith("data/")}
        return named | {str(out.def_path) for stage in repo.index.stages for out in stage.outs}


@pytest.mark.parametrize(
    ("section", "stages"),
    [
        ({}, set()),
        ({"ensembles": {}, "protocol": {}}, set()),
        ({"protocol": {"late_cut": {"backbone": "late_cut"}}}, {"protocol@late_cut"}),
        ({"ensembles": {"two": {"recipes": ["efficientnet_lite0", "late_cut"]}}}, {"fuse@two"}),
    ],
)
def test_sections_that_dvc_takes_as_empty_need_not_stand_in_the_file(
    section: dict[str, Any], stages: set[str], tmp_path: Path
) -> None:
    """Nor do stages depend on their keys; and where they stand, dvc.yaml does not empty them."""
    tree = {key: value for key, value in YAML_FILE.load(COMMITTED).items() if key not in OPTIONAL} | section
    found = stages_of(tmp_path, tree)
    assert {name for name in found if name.split("@")[0] in ("fuse", "protocol")} == stages
    assert {"compare", "report", "train@late_cut"} <= found
    assert not {key for key in TRACKED if key.split(".")[0] in OPTIONAL}


@pytest.mark.parametrize("key", LOOKED_UP)
def test_a_key_that_dvc_looks_up_is_named_before_anything_runs(key: str, tmp_path: Path) -> None:
    from dvc.exceptions import DvcException

    with pytest.raises(DvcException) as caught:
        stages_of(tmp_path, without(YAML_FILE.load(COMMITTED), key))
    assert f"Could not find '{key}'" in str(caught.value)
    assert key in (COMMITTED.parent / "docs" / "params.md").read_text()


def test_readmes_data_block_is_all_that_dvc_wants_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = COMMITTED.with_name("README.md").read_text()
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if text.startswith("data:"))
    tree = YAML_FILE.load(COMMITTED) | YAML_FILE.load(block)
    assert all(keys_in(tree, key) for key in TRACKED)
    assert read_params(pipeline_params(tmp_path, tree, monkeypatch)).data.layout == "imagefolder"


@pytest.mark.parametrize("file", [COMMITTED, *PRESETS], ids=lambda f: f.stem)
def test_our_own_params_have_every_key_that_dvc_wants(file: Path) -> None:
    tree = YAML_FILE.load(file)
    assert all(keys_in(tree, key) for key in [*TRACKED, *LOOKED_UP])


@pytest.mark.parametrize("tables", ["csv", "parquet"])
@pytest.mark.parametrize("place", ["dvc.yaml", "params.yaml"])
def test_the_tables_of_the_whole_pipeline_have_one_ending(tables: str, place: str, tmp_path: Path) -> None:
    """Which stands in dvc.yaml, or in params.yaml where dvc.yaml leaves it out: DVC takes no key from both."""
    written = "{tables: csv}"
    pipeline = COMMITTED.with_name("dvc.yaml").read_text()
    assert pipeline.count(written) == 1
    tree = YAML_FILE.load(COMMITTED)
    if place == "params.yaml":
        tree["data"]["tables"] = tables
    found = outputs_of(
        tmp_path, tree, pipeline.replace(written, f"{{tables: {tables}}}" if place == "dvc.yaml" else "{}")
    )
    wanted = {"data/images", "data/folds", "metrics/plots/late_cut/test/scores"}
    assert {f"{name}.{tables}" for name in wanted} <= found
    other = {"csv": "parquet", "parquet": "csv"}[tables]
    assert not {f"{name}.{other}" for name in wanted} & found


def test_an_ending_in_both_files_is_refused_before_anything_runs(tmp_path: Path) -> None:
    from dvc.exceptions import DvcException

    tree = YAML_FILE.load(COMMITTED)
    tree["data"]["tables"] = "parquet"
    with pytest.raises(DvcException, match=r"cannot redefine 'data\.tables' from 'vars"):
        stages_of(tmp_path, tree)
