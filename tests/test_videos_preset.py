"""presets/videos.yaml: what stage faces writes is what the pipeline reads, and videos are judged."""

from __future__ import annotations

from pathlib import Path

from ffdi.faces.settings import FacesSettings
from ffdi.params.reading import read_params

PARAMS = read_params(Path(__file__).parents[1] / "presets" / "videos.yaml")


def test_the_data_are_the_crops_of_the_set() -> None:
    ((name, faces),) = PARAMS.faces.items()
    assert (PARAMS.data.root, PARAMS.data.layout, PARAMS.data.table) == (f"data/faces/{name}", "csv", "labels.csv")
    assert faces.layout == "faceforensics" and faces.frames == 16
    # The rest is the default, which is what the field's benchmarks do: see docs/faces.md.
    assert faces.crops == FacesSettings(root=faces.root, frames=16).crops


def test_videos_are_judged_beside_their_frames() -> None:
    assert (PARAMS.evaluate.unit, PARAMS.evaluate.unit_score) == ("attr_video", "mean")


def test_it_needs_no_network() -> None:
    assert {backbone.weights for backbone in PARAMS.backbones.values()} == {"package:efficientnet-lite0"}
    assert {faces.detector for faces in PARAMS.faces.values()} == {"centerface"}


def test_a_recipe_is_trained_as_in_the_other_presets() -> None:
    (recipe,) = PARAMS.recipes.values()
    (backbone,) = PARAMS.backbones.values()
    assert (recipe.head.hidden, recipe.lr, recipe.schedule.name, backbone.cut) == ((256,), 0.0003, "cosine", "blocks.5")
