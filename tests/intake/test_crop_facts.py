"""How images were cropped goes from faces.json of the root into crops.json, and from there into the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe
from ruamel.yaml import YAML

from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.files import write_json
from ffdi.intake.crop_facts import crop_facts
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.training_inputs import TrainingInputs, read_crops

FACES: dict[str, Any] = {
    "kind": "faces",
    "crops": {"detector": "centerface", "margin": 1.3, "size": 256, "frames": 32, "faces": "largest"},
    "detector": {"name": "centerface", "sha256": "ab" * 32},
    "sources": 3,
}
RECORD = {"settings": FACES["crops"], "detector": FACES["detector"]}


def source(root: Path, facts: object = None) -> ImageSource:
    root.mkdir(parents=True)
    if facts is not None:
        (root / "faces.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))
    return ImageSource(root)


def test_whole_images_have_none_and_crops_have_their_settings(tmp_path: Path) -> None:
    assert crop_facts(source(tmp_path / "whole")) == {}
    assert crop_facts(source(tmp_path / "faces", FACES)) == RECORD
    for n, other in enumerate(["no json", [1], {"kind": "emotions"}, {"kind": "faces"}]):  # somebody's own faces.json
        assert crop_facts(source(tmp_path / f"other{n}", other)) == {}


def test_several_sets_have_one_where_all_were_cropped_alike(tmp_path: Path) -> None:
    said: list[str] = []
    console = Console(say=said.append)
    fewer = FACES | {"crops": FACES["crops"] | {"frames": 8, "faces": "all", "detector": "file:x.onnx"}}
    one, two = source(tmp_path / "one", FACES), source(tmp_path / "two", fewer)
    wide = source(tmp_path / "wide", FACES | {"crops": FACES["crops"] | {"margin": 2.0}})
    whole, more = source(tmp_path / "whole"), source(tmp_path / "more")
    assert crop_facts(ImageSource((("one", one), ("two", two))), console) == RECORD
    assert crop_facts(ImageSource((("whole", whole), ("more", more))), console) == {} and not said
    for other in (wide, whole):
        assert crop_facts(ImageSource((("one", one), ("b", other))), console) == {}
        assert "not cropped alike (one: faces of 256 pixels by centerface, margin 1.3; b: " in said.pop().replace(
            ", b", "; b"
        )


def test_ingest_writes_it_beside_its_table(tmp_path: Path, tiny: Tiny) -> None:
    import runpy
    import shutil

    shutil.copytree(tiny.root, tmp_path / "raw")
    write_json(tmp_path / "raw" / "faces.json", FACES)
    params = {
        "data": {"root": str(tmp_path / "raw"), "layout": "csv"},
        "backbones": {"late_cut": {"network": "torchvision:mobilenet_v2", "weights": "random", "cut": "features.16"}},
        "recipes": {"late_cut": {"backbone": "late_cut", "head": {"kind": "linear"}}},
        "split": {"embedding": "late_cut"},
        "ladder": {"recipe": "late_cut", "backbone": "late_cut"},
    }
    with open(tmp_path / "params.yaml", "w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    main = runpy.run_path(str(Path(__file__).parents[2] / "stages" / "ingest.py"))["main"]
    arguments = ["--params", "params.yaml", "--out", "images.csv", "--rejected", "rejected.csv"]
    done = CliRunner().invoke(main, [a if a.startswith("--") else str(tmp_path / a) for a in arguments])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "crops.json").read_text()) == RECORD == read_crops(tmp_path / "crops.json")
    assert read_crops(tmp_path / "none.json") == {}  # of an older intake
    (tmp_path / "crops.json").write_text("{")
    with pytest.raises(InputError, match=r"crops\.json: not JSON .*: run ingest again"):
        read_crops(tmp_path / "crops.json")


def test_a_bundle_has_it_only_where_there_is_something(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    import torch

    from ffdi.tails.settings import TrainSettings
    from ffdi.tails.train_recipe import train_recipe

    records = []
    for crops in ({}, RECORD):
        inputs = TrainingInputs("tiny", tiny.rows, tiny_backbone(), trained.features, weights, crops=crops)
        recipe = tiny_recipe(epochs=1)
        train_recipe(recipe, inputs, TrainSettings(memory_gb=1), device=torch.device("cpu")).save(tmp_path / "model")
        records.append(json.loads((tmp_path / "model" / "bundle.json").read_text()))
    plain, cropped = records
    assert "crops" not in plain["provenance"]
    assert cropped["provenance"].pop("crops") == RECORD and cropped["provenance"] == plain["provenance"]
    assert cropped["sha256"] == plain["sha256"]  # nothing else differs
