"""The network that a model is exported from gives the model's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made_bundles import VIT, cnn_bundle, made_bundle, made_ensemble, vit_bundle

from ffdi.deploy.onnx.scoring_graph import ScoringGraph, logit_of_mean, stored
from ffdi.deploy.onnx.squares import Squares, drawn_pictures
from ffdi.errors import ParamsError
from ffdi.features.keep import Grid, Keep, Region, TokenGrid, keep_features
from ffdi.features.keep_in_torch import keep_of_tensor
from ffdi.features.quantised import as_stored
from ffdi.intake.decoding.resizing import Resize
from ffdi.tails.bundle import Bundle
from ffdi.tails.model import Model
from ffdi.tails.predict import score_images
from ffdi.tails.recipe import REFIT, Head

MODELS: dict[str, Callable[[], Model]] = {
    "a CNN with a mirrored view": lambda: replace(
        cnn_bundle(), record=dict(cnn_bundle().record) | {"recipe": {"tta": ["hflip"]}}
    ),
    "a whole network, one tail": lambda: made_bundle(folds=(3,), cut="input", resize=Resize("letterbox")),
    "a part of int8 tokens": lambda: made_bundle(
        Head("attentive", width=16), **VIT, dtype="int8", keep={"rows": [0, 2], "columns": [0, 1]}
    ),
    "several cuts": lambda: made_bundle(Head("linear"), cut=("blocks.1", "blocks.2")),
    "two networks": lambda: made_ensemble(cnn_bundle(), vit_bundle()),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_gives_the_scores_of_the_model(name: str) -> None:
    model, pictures = MODELS[name](), drawn_pictures(4)
    graph, squares = ScoringGraph(model), Squares.of(model, pictures)
    with torch.inference_mode():
        score, by_fold = graph(torch.from_numpy(squares.pixels))
    np.testing.assert_allclose(score.numpy(), squares.scores, atol=1e-5)
    due = list(score_images(model, pictures, max_pixels=10**6, device=torch.device("cpu")))
    assert [found.by_fold for found in due] == [  # type: ignore[union-attr]
        {fold: pytest.approx(value, abs=1e-5) for fold, value in zip(graph.folds, row, strict=True)}
        for row in by_fold.tolist()
    ]
    assert squares.scores.std() > 1e-3, "scores that are all alike show nothing"


MAPS = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float16)
TOKENS = np.random.default_rng(0).normal(size=(3, 1 + 12, 4)).astype(np.float16)
GRID = TokenGrid(1, 3, 4)
OF_MAPS: list[Keep] = ["mean", Grid(2), Region((1, 3), (0, 4))]
OF_TOKENS: list[Keep] = ["cls", "cls+mean", "patches", *OF_MAPS]


@pytest.mark.parametrize("features", [MAPS, TOKENS])
def test_what_is_kept_of_features_is_the_same_as_in_shards(features: Any) -> None:
    for keep in OF_MAPS if features is MAPS else OF_TOKENS:
        due = keep_features(features, keep, GRID)
        given = keep_of_tensor(torch.from_numpy(features).float(), keep, GRID)
        assert tuple(given.shape) == due.shape, keep
        np.testing.assert_allclose(given.numpy(), due, atol=1e-3, err_msg=str(keep))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_features_are_rounded_as_in_shards(dtype: str) -> None:
    spec = replace(cnn_bundle().extractor().spec, dtype=dtype)
    features = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32) * 30
    features[1, 2] = 0  # a channel without any range
    for one in (features, features.reshape(3, 4, 30)):
        np.testing.assert_array_equal(stored(torch.from_numpy(one), spec), as_stored(one, dtype).astype(np.float32))


def test_members_that_read_the_same_features_share_them() -> None:
    assert len(ScoringGraph(made_ensemble(cnn_bundle(), cnn_bundle())).readers) == 1


def test_members_without_a_common_fold_have_their_joint_score_alone() -> None:
    """As where one of two members is refit."""
    refit = replace(cnn_bundle(), tails={REFIT: cnn_bundle().tails[0]})
    graph = ScoringGraph(made_ensemble(cnn_bundle(), refit))
    score, by_fold = graph(torch.zeros(3, 32, 32, 3, dtype=torch.uint8))
    assert graph.folds == [REFIT] and torch.equal(by_fold, score[:, None])


def changed(bundle: Bundle, **backbone: Any) -> Bundle:
    return replace(bundle, backbone=replace(bundle.backbone, name="b", **backbone))


@pytest.mark.parametrize("level", ["hflip@file", "jpeg-50", "brightness-1.5"])
def test_a_view_that_no_square_gives_is_refused(level: str) -> None:
    with pytest.raises(ParamsError, match=f"tta: {level}: .* can make hflip alone"):
        ScoringGraph(replace(cnn_bundle(), record={"recipe": {"tta": [level]}}))


@pytest.mark.parametrize("other", [{"image_size": 64}, {"resize": Resize("letterbox")}])
def test_members_that_see_different_squares_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="its members see an image as different squares"):
        ScoringGraph(made_ensemble(cnn_bundle(), changed(cnn_bundle(), **other)))


def test_a_mean_of_scores_that_round_to_one_has_its_logit() -> None:
    """The mean of sigmoid(30) and sigmoid(40) is 1 in float32; its logit is log(2) above 30, as 1 - mean is e^-30 / 2."""
    logits = torch.tensor([[30.0, 40.0], [-200.0, -200.0], [0.0, 0.0]])
    np.testing.assert_allclose(logit_of_mean(logits), [30 + np.log(2), -200, 0], atol=1e-4)
