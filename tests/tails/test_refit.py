"""A tail that all training images trained, and that alone scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_recipe
from small_training import CPU, FOLDS, IMAGES, PLAIN, TABLE, contents, cross_validated, killed_at, same, tiny_inputs

from ffdi.bootstrap import Bootstrap
from ffdi.errors import BundleError
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_model_scores, evaluate_recipe
from ffdi.metrics import auc
from ffdi.tails import train
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.checkpoint import Epoch
from ffdi.tails.folds import FoldedTable
from ffdi.tails.model import ModelScores
from ffdi.tails.predict import predict_files
from ffdi.tails.recipe import REFIT
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

SETTINGS = TrainSettings(memory_gb=1)
RECIPE = tiny_recipe(epochs=3, seed=1, refit=True)  # its folds' median is above one epoch


@pytest.fixture(scope="module")
def inputs(tiny: Tiny, trained: Trained, weights: Path) -> TrainingInputs:
    return tiny_inputs(tiny, trained, weights)


@pytest.fixture(scope="module")
def model(inputs: TrainingInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("refit") / "model"
    train_recipe(RECIPE, inputs, SETTINGS, device=CPU, out=out)
    return out


def test_all_images_train_the_tail_and_none_validates_it() -> None:
    barred = [1 if n % 7 == 0 and FOLDS[n] != 1 else -1 for n in range(36)]
    images = FoldedTable.of(TABLE, FOLDS, [n % 5 > 0 for n in range(36)], barred=barred).whole()
    (number,) = images.wanted(1)
    assert number == 3 and number not in {images.without(a, b).only for a, b in ((0, 1), (0, 2), (1, 2))}
    split = images.split(number)
    assert split.train.image_ids == TABLE.image_ids and not len(split.validation)
    assert (split.name, images.split(0).name) == ("all images", "fold 0")  # in messages: there is no fold 3


def test_the_last_epoch_is_kept_and_the_schedule_ends_with_it() -> None:
    told = list[Epoch]()
    recipe = replace(PLAIN, epochs=2, ema=0.5, schedule=replace(PLAIN.schedule, name="cosine"))
    (fitted,) = cross_validated(recipe, IMAGES.whole(), on_epoch=told.append).values()
    (once,) = cross_validated(replace(recipe, epochs=1), IMAGES.whole()).values()
    assert fitted.best_epoch == 1 and len(told) == 2 and not len(fitted.logits)
    assert not same(fitted.state, once.state) and told[-1].lr < 0.1 * recipe.lr


def test_a_killed_refit_continues_and_the_folds_are_what_they_were(
    inputs: TrainingInputs, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the refit's first epoch: the same bytes, of an epoch less work; without refit the same folds."""
    epochs, true_epoch = list[int](), train.train_epoch

    def train_epoch(*arguments: Any) -> Any:
        epochs.append(arguments[3])
        return true_epoch(*arguments)

    told = killed_at(REFIT, 0)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(RECIPE, inputs, SETTINGS, device=CPU, out=tmp_path / "broken", on_epoch=told)
    monkeypatch.setattr(train, "train_epoch", train_epoch)
    train_recipe(RECIPE, inputs, SETTINGS, device=CPU, out=tmp_path / "broken")
    assert contents(tmp_path / "broken") == contents(model)
    record = load_bundle(model).record
    assert epochs == list(range(1, record["refit"]["epochs"]))
    best = sorted(record["best_epoch"].values())
    assert record["refit"] == {"images": len(inputs.training_rows), "epochs": best[1] + 1}
    train_recipe(replace(RECIPE, refit=False), inputs, SETTINGS, device=CPU, out=tmp_path / "folds")
    plain, whole = contents(tmp_path / "folds"), contents(model)
    assert set(whole) - set(plain) == {"refit.safetensors"}
    assert all(whole[name] == data for name, data in plain.items() if name != "bundle.json")
    assert {
        key: value for key, value in record.items() if key not in ("refit", "recipe", "sha256", "facts_sha256")
    } == {
        key: value
        for key, value in load_bundle(tmp_path / "folds").record.items()
        if key not in ("recipe", "sha256", "facts_sha256")
    }


def test_one_tail_scores_and_the_folds_are_beside_it(model: Path, tiny: Tiny, trained: Trained) -> None:
    bundle = load_bundle(model)
    assert list(bundle.tails) == [REFIT] and list(bundle.fold_tails) == [0, 1, 2]
    inputs = EvaluationInputs(bundle, EvaluationInputs.load(model, trained.features, tiny.rows).features, tiny.rows)
    found = evaluate_recipe(inputs, bootstrap=Bootstrap(200), memory_gb=1, device=CPU)
    m, scores = found.metrics, found.plots["scores"]
    folds = scores[["fold_0", "fold_1", "fold_2"]].mean(axis=1).to_numpy()
    labels = scores["label"].to_numpy()
    assert m["refit"] is True and m["refit_epochs"] == bundle.record["refit"]["epochs"]
    assert m["auc"] == pytest.approx(auc(labels, scores["score"].to_numpy()))
    assert m["folds_auc"] == pytest.approx(auc(labels, folds)) and not np.allclose(folds, scores["score"])
    assert m["refit_minus_folds_auc"] == pytest.approx(m["auc"] - m["folds_auc"])  # type: ignore[operator]
    assert m["refit_minus_folds_auc_low"] <= m["refit_minus_folds_auc"] <= m["refit_minus_folds_auc_high"]  # type: ignore[operator]
    assert m["fold_1_auc"] == pytest.approx(auc(labels, scores["fold_1"].to_numpy()))
    file = tiny.root / tiny.rows.set_index("image_id").loc[scores["image_id"].iloc[0], "path"]
    ((_, score),) = predict_files(bundle, [file], max_pixels=10**6, device=CPU)
    assert score == pytest.approx(scores["score"].iloc[0], abs=1e-4)
    test = tiny.rows[tiny.rows["role"] == "test"]
    alone = ModelScores.of_folds({REFIT: scores.set_index("image_id")["score"].loc[test["image_id"]].to_numpy()})
    elsewhere = evaluate_model_scores(bundle, test, alone, bootstrap=Bootstrap(50))  # as on other data: no folds
    assert elsewhere.metrics["auc"] == m["auc"] and elsewhere.plots["folds"].empty
    assert list(elsewhere.plots["scores"]) == ["image_id", "label", "score"] and "fold_0_auc" not in elsewhere.metrics


def test_the_folds_tails_may_be_missing_until_they_are_asked_for(model: Path, tmp_path: Path) -> None:
    for name, data in contents(model).items():
        if not name.startswith("fold-"):
            (tmp_path / name).write_bytes(data)
    bundle = load_bundle(tmp_path)
    assert bundle.record["facts_sha256"] == load_bundle(model).record["facts_sha256"]
    with pytest.raises(BundleError, match=r"fold-0\.safetensors: missing: scores need the refit tail alone"):
        len(bundle.fold_tails)
    for name, data in contents(model).items():
        (tmp_path / name).write_bytes(data + b" " * name.startswith("fold-1"))
    with pytest.raises(BundleError, match=r"fold-1\.safetensors: sha256 differs"):
        len(load_bundle(tmp_path).fold_tails)
    (tmp_path / "refit.safetensors").unlink()
    with pytest.raises(BundleError, match=r"refit\.safetensors: missing"):
        load_bundle(tmp_path)


def test_what_scores_is_the_refit_tail(model: Path) -> None:
    bundle: Bundle = load_bundle(model)
    table = FeatureTable.of_features(torch.rand(5, *bundle.record["shape"]).half())
    one = bundle.fold_scores(table, CPU)
    assert list(one) == [REFIT] and np.array_equal(bundle.scores(table, CPU), one[REFIT])
    both = bundle.joined([bundle.with_fold_scores(one, table, CPU)])
    assert np.array_equal(both.mean, one[REFIT]) and list(both.by_fold) == [0, 1, 2]
