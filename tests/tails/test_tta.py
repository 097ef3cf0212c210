"""Views at test time: out-of-fold scores, the test set and files alone are all scored on the mean logit of the same views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_recipe
from PIL import Image, ImageOps
from small_training import CPU, tiny_inputs

from ffdi.bootstrap import Bootstrap
from ffdi.errors import FfdiError
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.features.levels import parse_level
from ffdi.features.perturbed import VIEW, PerturbationSweep
from ffdi.features.settings import ExtractSettings
from ffdi.features.views import render
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.predict import predict_files
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe

TTA = ("hflip", "noise-5", "webp-50")


@pytest.fixture(scope="module")
def model(tiny: Tiny, trained: Trained, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe with three views more, three epochs."""
    out = tmp_path_factory.mktemp("tta")
    sweep = PerturbationSweep((), out / "cache", ImageSource(tiny.root, 10**6), ExtractSettings(workers=1))
    inputs = replace(tiny_inputs(tiny, trained, weights), views=sweep)
    train_recipe(tiny_recipe(epochs=3, tta=TTA), inputs, TrainSettings(memory_gb=1), device=CPU, out=out / "model")
    return out / "model"


def by_hand(bundle: Bundle, tiny: Tiny, image_id: str, fold: int) -> float:
    """The mean logit of one fold's tail over the four views of an image, from its pixels on."""
    original = Image.open(tiny.root / tiny.rows.set_index("image_id").loc[image_id, "path"])
    draw: dict[str, Any] = {"image_id": image_id, "view": VIEW, "seed": 0}
    noise, webp = parse_level("noise-5").operations, parse_level("webp-50").operations
    square, compressed = map(
        bundle.backbone.pixels.square, (original, render(original, policy=webp, at="file", **draw))
    )
    seen = [square, ImageOps.mirror(square), render(square, policy=noise, **draw), compressed]
    assert bundle.prefix is not None
    with torch.inference_mode():
        features = bundle.prefix(torch.from_numpy(np.stack([np.asarray(image) for image in seen])))
        logits = bundle.tails[fold](features.half().float())
    return float((logits[:, 1] - logits[:, 0]).mean())


def test_out_of_fold_logits_are_means_over_the_views(model: Path, tiny: Tiny) -> None:
    bundle, oof = load_bundle(model), read_oof(model)
    assert bundle.tta == TTA
    for row in oof.iloc[::9].to_dict("records"):
        assert row["logit"] == pytest.approx(by_hand(bundle, tiny, row["image_id"], row["fold"]), abs=0.02)
    assert oof["score"].to_numpy() == pytest.approx(1 / (1 + np.exp(-oof["logit"] / bundle.temperature)))


def test_the_test_set_and_its_files_get_the_same_scores(
    model: Path, tiny: Tiny, trained: Trained, tmp_path: Path
) -> None:
    inputs = EvaluationInputs.load(model, trained.features, tiny.rows)
    sweep = PerturbationSweep(["blur-2"], tmp_path, ImageSource(tiny.root, 10**6), ExtractSettings(workers=1))
    evaluation = evaluate_recipe(inputs.with_perturbed(sweep), bootstrap=Bootstrap(100), memory_gb=1, device=CPU)
    scores = evaluation.plots["scores"].set_index("image_id")
    test = tiny.rows[tiny.rows["role"] == "test"]
    predicted = predict_files(inputs.bundle, [tiny.root / p for p in test["path"]], max_pixels=10**6, device=CPU)
    for image_id, (_, score) in zip(test["image_id"], predicted, strict=True):
        assert score == pytest.approx(scores.loc[image_id, "score"], abs=1e-4)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {*TTA, "blur-2", *(f"blur-2+{t}" for t in TTA)}
    assert list(evaluation.plots["robustness"]["level"]) == ["blur-2"]
    plain = EvaluationInputs.load(trained.model, trained.features, tiny.rows)
    cost = evaluate_recipe(plain, bootstrap=Bootstrap(100), memory_gb=1, device=CPU).metrics["flops_per_image"]
    assert isinstance(cost, int) and evaluation.metrics["flops_per_image"] == 4 * cost


def test_a_view_that_is_left_out_is_an_error(
    model: Path, tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    table = FeatureTable.of_features(torch.zeros(2, *load_bundle(model).record["shape"]))
    with pytest.raises(FfdiError, match="3 levels beside their clean view, not 1"):
        load_bundle(model).scores(table, CPU, table)
    with pytest.raises(FfdiError, match="recipe tiny: tta: the images are not given"):
        train_recipe(tiny_recipe(tta=TTA), tiny_inputs(tiny, trained, weights), TrainSettings(memory_gb=1), device=CPU)
