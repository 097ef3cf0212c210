"""presets/videos.yaml: what stage faces writes is what the pipeline reads, and videos are judged."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from ffdi.faces.settings import FacesSettings
from ffdi.params.reading import read_params

HERE = Path(__file__).parents[1]
PRESET = HERE / "presets" / "videos.yaml"
PARAMS = read_params(PRESET)


def test_the_block_of_the_readme_goes_into_the_preset(tmp_path: Path) -> None:
    yaml = YAML(typ="safe", pure=True)
    section = (HERE / "README.md").read_text(encoding="utf-8").split("## Videos and photos")[1]
    commands = section.split("<!-- videos -->\n```\n")[1].split("```")[0].splitlines()
    assert commands[1:3] == ["cp presets/videos.yaml params.yaml", "dvc repro"] and "predict" in commands[3]
    tree, block = yaml.load(PRESET), yaml.load(section.split("```yaml\n")[1].split("```")[0])
    for name, keys in block.items():
        for key, value in keys.items():
            assert key in tree[name]
            tree[name][key] = value
    with open(tmp_path / "params.yaml", "w") as file:
        yaml.dump(tree, file)
    assert read_params(tmp_path / "params.yaml").faces["videos"].layout == "auto"
    assert commands[3].split()[3] == f"data/models/{next(iter(tree['recipes']))}"


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
