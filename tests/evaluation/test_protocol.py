"""How much harder folds are than random ones: on planted scores, and of a recipe that is trained both ways."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import Tiny, Trained

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError
from ffdi.evaluation.protocol import compare_with_random_folds, protocol_line, with_random_folds
from ffdi.metrics import auc

HERE = Path(__file__).parents[2]
PARAMS = """
data: {{root: {root}}}
backbones:
  tiny: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16, image_size: 64, views: {{count: 1, policy: seeds}},
          mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], runtime: torch}}
recipes:
  tiny: {{backbone: tiny, epochs: 1, batch_size: 12, folds: 2, head: {{kind: mlp, hidden: [16]}}}}
split: {{embedding: tiny, method: clustered, folds: 3}}
ladder: {{recipe: tiny, backbone: tiny}}
protocol: {{tiny: {{backbone: tiny}}}}
"""


def planted(harder: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(oof.csv, that of random folds, images): fakes score 1.2 above reals on random folds, `harder` less on the others."""
    rng = np.random.default_rng(1)
    label, fold = np.arange(400) % 2, np.arange(400) // 2 % 4
    ids = [f"i{n:03d}" for n in range(400)]
    noise = rng.normal(size=400)
    random = noise + 1.2 * label + 0.3 * rng.normal(size=400)
    oof = noise + (1.2 - harder) * label + 0.3 * rng.normal(size=400) + 5 * fold  # tails are not on one scale
    images = pd.DataFrame({"image_id": ids, "group": [f"g{n // 2}" for n in range(400)]})
    columns = {"image_id": ids, "fold": fold, "label": label}
    made = pd.DataFrame({**columns, "logit": random}).sample(frac=1, random_state=0)
    return pd.DataFrame({**columns, "logit": oof}), made, images


@pytest.mark.parametrize(("harder", "truth"), [(0.0, 0.0), (0.8, 0.785 - 0.608)])
def test_a_planted_difference_is_found_within_its_interval(harder: float, truth: float) -> None:
    oof, random, images = planted(harder)
    m = compare_with_random_folds(oof, random, images, bootstrap=Bootstrap(300))
    assert m["harder_by_low"] <= truth <= m["harder_by_high"]  # type: ignore[operator]
    assert (m["harder_by_low"] > 0) == (truth > 0)  # type: ignore[operator]
    assert m["harder_by_high"] - m["harder_by_low"] < 0.1  # type: ignore[operator]  # paired: each alone has .1 and more
    assert m["harder_by"] == pytest.approx(m["random_auc"] - m["folds_auc"])  # type: ignore[operator]
    due = np.mean([auc(p["label"].to_numpy(), p["logit"].to_numpy()) for _, p in oof.groupby("fold")])
    assert m["folds_auc"] == pytest.approx(due) and m["images"] == 400 and m["folds"] == 4
    assert "harder by" in protocol_line({"method": "clustered", **m})


def test_images_that_are_not_scored_both_ways_are_an_error() -> None:
    oof, random, images = planted(0)
    with pytest.raises(InputError, match="1 images that random folds do not score"):
        compare_with_random_folds(oof, random[random["image_id"] != "i007"], images, bootstrap=Bootstrap(100))


def test_random_folds_are_as_many_and_part_no_group_and_hold_nothing_out(tiny: Tiny) -> None:
    rows = tiny.rows.assign(held_out="gan", also_out=-1)
    drawn = with_random_folds(rows, seed=3)
    assert list(drawn["fold"][drawn["role"] == "test"].unique()) == [-1] and "also_out" not in drawn
    train = drawn[drawn["role"] == "train"]
    assert set(train["fold"]) == set(tiny.rows["fold"]) - {-1}
    assert (train.groupby("group")["fold"].nunique() == 1).all()
    assert (drawn.drop(columns="fold") == tiny.rows.drop(columns="fold")).all(axis=None)


def test_the_stage_trains_the_recipe_on_random_folds_and_compares(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "params.yaml", tmp_path / "metrics" / "protocol" / "tiny.json"
    file.write_text(PARAMS.format(root=tiny.root))
    stage = runpy.run_path(str(HERE / "stages" / "protocol.py"))["main"]
    options = {"params": file, "images": tiny.images_file, "folds": tiny.folds_file, "features": trained.features}
    options |= {"weights": weights, "model": trained.model, "out": out, "timings": tmp_path / "timings"}
    line = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    done = CliRunner().invoke(stage, ["--recipe", "tiny", *line])
    assert done.exit_code == 0, done.output
    m = json.loads(out.read_text())
    assert m["method"] == "clustered" and m["folds"] == 3 and -1 <= m["harder_by"] <= 1
    assert m["images"] == len(pd.read_csv(trained.model / "oof.csv"))
