"""presets/ciplab.yaml has the settings of the table in docs/evaluation.md, and reads CIPLAB's difficulty from the names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import picture

from ffdi.intake.listing.layouts import read_layout
from ffdi.params.reading import read_params
from ffdi.tails.optimisation import Optimizer, Schedule

PARAMS = read_params(Path(__file__).parents[1] / "presets" / "ciplab.yaml")


@pytest.mark.parametrize(
    ("recipe", "backbone", "head", "trained"),
    [
        ("mobilenet_v2", "mobilenet_v2_massive", ("mlp", (256,), 0.3), (12, 64, 0.05, 0.99)),
        ("efficientnet_lite0", "efficientnet_lite0", ("mlp", (256,), 0.2), (8, 32, 0.0, None)),
        ("transformer", "mobilenet_v2_massive", ("transformer", (512, 256), 0.1), (20, 64, 0.0, None)),
    ],
)
def test_settings_are_those_of_the_table(
    recipe: str, backbone: str, head: tuple[str, tuple[int, ...], float], trained: tuple[int, int, float, float | None]
) -> None:
    made = PARAMS.recipe(recipe)
    assert (made.backbone, made.folds, PARAMS.split.folds) == (backbone, "all", 5)
    assert (made.head.kind, made.head.hidden, made.head.dropout) == head
    assert (made.epochs, made.batch_size, made.label_smoothing, made.ema) == trained
    assert (made.optimizer, made.lr, made.schedule) == (Optimizer("adamw", 0.05), 3e-4, Schedule("cosine", warmup=1))


def test_views_and_cuts_are_those_of_the_table() -> None:
    views = {name: (PARAMS.backbone(name).cut, PARAMS.backbone(name).views) for name in PARAMS.backbones}
    assert {name: (cut, view.count, view.policy) for name, (cut, view) in views.items()} == {
        "mobilenet_v2_massive": ("features.16", 2, "seeds"),
        "efficientnet_lite0": ("blocks.5", 2, "light"),
    }


def test_the_mean_logits_of_the_table_are_ensembles() -> None:
    members = {name: (one.weights, one.recipes) for name, one in PARAMS.ensembles.items()}
    assert members["two"] == ("equal", ("mobilenet_v2", "efficientnet_lite0"))
    assert members["three"] == ("equal", (*members["two"][1], "transformer"))


def test_difficulty_is_read_from_ciplabs_names(tmp_path: Path) -> None:
    for name in ("real/real_00001.jpg", "fake/easy_100_1111.jpg", "fake/mid_4_0001.jpg", "fake/hard_9_0110.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(0, 8, False).save(tmp_path / name)
    rows: pd.DataFrame = read_layout(tmp_path, PARAMS.data).rows
    due = {"real_00001": "", "easy_100_1111": "easy", "mid_4_0001": "mid", "hard_9_0110": "hard"}
    assert dict(zip(rows["path"].map(lambda path: Path(path).stem), rows["attr_difficulty"], strict=True)) == due
