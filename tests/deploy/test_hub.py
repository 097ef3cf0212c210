"""The folder that a hub takes: whole, read as it is, and without a place of this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Tiny, Trained
from huggingface_hub import ModelCard
from two_recipes import both, edit_record

from ffdi.console import Console
from ffdi.deploy.card.facts import Publication
from ffdi.deploy.detector import load
from ffdi.deploy.hub import write_hub
from ffdi.errors import BundleError, InputError
from ffdi.tails.ensemble import load_model
from ffdi.tails.fuse import fuse_recipes


def test_a_recipe_keeps_its_bytes_and_its_scores(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "hub"
    write_hub(trained.model, out, metrics=tmp_path, published=Publication("mit"), console=Console(say=said.append))
    of_model = {file.name for file in trained.model.iterdir()}
    assert {file.name for file in out.iterdir()} == of_model | {"README.md", "config.json"}
    for name in of_model:
        assert (out / name).read_bytes() == (trained.model / name).read_bytes()
    assert ModelCard.load(out / "README.md").data.license == "mit"
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "real", "1": "fake"} and config["inputs"]["tiny"]["size"] == 64
    assert said[-1].startswith(f"{out}: ") and said[-1].endswith(f"`hf upload USER/tiny {out}` publishes it")
    images = [tiny.root / path for path in tiny.rows["path"][:3]]
    assert list(load(out).predict(images)["score"]) == list(load(trained.model).predict(images)["score"])


def test_an_ensemble_takes_its_members_along(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    models, out = tmp_path / "models", tmp_path / "hub"
    for name in "ab":
        shutil.copytree(trained.model, models / name)
        edit_record(models / name, lambda record, name=name: record["recipe"].update(name=name))  # type: ignore[misc]
    edit_record(models / "b", lambda record: record["provenance"].update(weights="file:/home/someone/w.safetensors"))
    edit_record(models / "b", lambda record: record["backbone"].update(weights="file:/home/someone/w.safetensors"))
    fuse_recipes(both(), models, tiny.rows).save(tmp_path / "ensembles" / "both")
    write_hub(tmp_path / "ensembles" / "both", out, metrics=tmp_path)
    shutil.rmtree(models)
    out = out.rename(tmp_path / "moved")
    assert [part.record["recipe"]["name"] for part in load_model(out).parts] == ["a", "b"]
    for file in (file for file in out.rglob("*") if file.is_file()):
        assert b"someone" not in file.read_bytes() and str(tmp_path).encode() not in file.read_bytes(), file
    assert (out / "members" / "a" / "bundle.json").read_bytes() != (out / "members" / "b" / "bundle.json").read_bytes()
    assert json.loads((out / "bundle.json").read_text())["provenance"]["weights"] == "random + file:w.safetensors"


def test_a_refit_recipe_leaves_the_tails_of_its_folds_out(trained: Trained, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "hub"
    shutil.copytree(trained.model, model)
    shutil.copy(model / "fold-0.safetensors", model / "refit.safetensors")

    def refit(record: dict[str, Any]) -> None:
        record["refit"] = {"images": 36, "epochs": 8}
        record["sha256"]["refit.safetensors"] = record["sha256"]["fold-0.safetensors"]

    edit_record(model, refit)
    write_hub(model, out, metrics=tmp_path)
    assert (out / "refit.safetensors").exists() and not list(out.glob("fold-*"))
    assert (out / "bundle.json").read_bytes() == (model / "bundle.json").read_bytes()
    assert "1, on all training images (8 epochs)" in (out / "README.md").read_text()


def test_only_a_folder_of_its_own_is_replaced(trained: Trained, tmp_path: Path) -> None:
    out, other = tmp_path / "hub", tmp_path / "other"
    out.mkdir()
    write_hub(trained.model, out, metrics=tmp_path)  # empty
    (out / "README.md").write_text("old")
    write_hub(trained.model, out, metrics=tmp_path)
    assert (out / "README.md").read_text() != "old"
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match="exists and is no folder that ffdi export wrote: name another folder"):
        write_hub(trained.model, other, metrics=tmp_path)
    assert (other / "thesis.tex").exists()
    for place in (trained.model, trained.model / "hub", trained.model.parent):
        with pytest.raises(InputError, match="is the model itself, within it or around it"):
            write_hub(trained.model, place, metrics=tmp_path)


def test_a_changed_file_leaves_no_folder(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.model, tmp_path / "model")
    (tmp_path / "model" / "fold-1.safetensors").write_bytes(b"0")
    with pytest.raises(BundleError, match=r"fold-1.safetensors: sha256 differs"):
        write_hub(tmp_path / "model", tmp_path / "hub", metrics=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
