"""A refit tail of heads that are fitted at once, of a shared body, as a member of an ensemble, and recalibrated."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_recipe
from small_training import CPU, FOLDS, TABLE, contents, cross_validated, same, tiny_inputs
from test_fitted import KNN, PROBE, fitted, fresh
from two_recipes import both

from ffdi.errors import ParamsError
from ffdi.evaluation.recalibration import scores_at
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import Bundle, load_bundle, sigmoid
from ffdi.tails.ensemble import Ensemble, load_model
from ffdi.tails.folds import FoldedTable
from ffdi.tails.fuse import copy_bundle, fuse_recipes
from ffdi.tails.knn import KnnHead
from ffdi.tails.model import ModelScores
from ffdi.tails.predict import predict_files
from ffdi.tails.probe import ProbeSettings, probe_out_of_fold
from ffdi.tails.recipe import REFIT, Recipe
from ffdi.tails.record import unread_files
from ffdi.tails.refit import refit_tail
from ffdi.tails.settings import TrainSettings
from ffdi.tails.stacking import logit
from ffdi.tails.train_recipe import train_recipe

BARRED = FoldedTable.of(
    TABLE, FOLDS, [n % 5 > 0 for n in range(36)], barred=[1 if n in (0, 8) else -1 for n in range(36)]
)


@pytest.fixture(scope="module")
def models(tiny: Tiny, trained: Trained, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipe a, refit, whose body's first blocks no fold has changed; b, the tiny one."""
    folder, inputs = tmp_path_factory.mktemp("refits"), tiny_inputs(tiny, trained, weights)
    recipe = tiny_recipe(name="a", epochs=1, trainable={"last": 1}, refit=True)
    train_recipe(recipe, inputs, TrainSettings(memory_gb=1), device=CPU, out=folder / "a")
    shutil.copytree(trained.model, folder / "b")
    return folder


def test_neighbours_remember_all_images() -> None:
    made = refit_tail(KNN, BARRED, fitted(KNN, BARRED), lambda images, recipe: fitted(recipe, images))
    tail = fresh(KNN.head)
    tail.load_state_dict(made.state)
    assert isinstance(tail.head, KnnHead) and len(tail.head.bank) == 36 and made.facts == {"images": 36}


def test_a_probe_chooses_on_all_folds_and_is_fitted_on_all_images() -> None:
    """As with one fold more, that no image is in and that every image trains."""
    fits = fitted(PROBE, BARRED)
    made = refit_tail(PROBE, BARRED, fits, lambda images, recipe: fitted(recipe, images))
    assert made.facts["images"] == 36 and made.facts["tried"] == fits[0].choice["tried"]  # type: ignore[index]
    assert "epochs" not in made.facts and made.facts["c"] in made.facts["tried"]
    vectors = torch.cat([x for x, _ in TABLE.clean(64)]).float().mean((2, 3)).numpy()
    one = ProbeSettings(1, (made.facts["c"],) * 2)
    free = probe_out_of_fold(vectors, TABLE.labels.numpy(), np.array(FOLDS), None, one, reported=[9]).by_fold[9]
    tail = fresh(PROBE.head)
    tail.load_state_dict(made.state)
    with torch.inference_mode():
        logits = tail(torch.from_numpy(vectors)[:, :, None, None])
    assert (logits[:, 1] - logits[:, 0]).numpy() == pytest.approx(free.margins(vectors), abs=1e-4)
    held = [np.array([epoch.val_auc for epoch in fitted_.history]) for fitted_ in fits.values()]
    assert len(made.facts["inner_auc"]) == 3 and all(len(of_fold) == 3 for of_fold in held)


def test_an_even_number_of_folds_takes_the_lower_of_the_middle_two() -> None:
    recipe, asked = tiny_recipe(epochs=9, patience=2, refit=True), list[Recipe]()
    fits = {n: replace(made, best_epoch=best) for (n, made), best in zip(cross_validated().items(), (6, 2, 4))}

    def train(images: FoldedTable, recipe: Recipe) -> dict[int, object]:
        asked.append(recipe)
        return {3: fits[0]}

    refit_tail(recipe, BARRED, fits, train)  # type: ignore[arg-type]
    refit_tail(recipe, BARRED, {n: fits[n] for n in (0, 2)}, train)  # type: ignore[arg-type]
    assert [(r.epochs, r.patience) for r in asked] == [(5, None), (5, None)]


def test_a_shared_body_is_written_and_held_once(models: Path) -> None:
    bundle = load_bundle(models / "a")
    assert {"body.safetensors", "refit.safetensors"} <= set(bundle.record["sha256"])
    (one,), folds = bundle.tails.values(), list(bundle.fold_tails.values())
    frozen = [name for name in one.state_dict() if name.startswith("body.network.features.16")]
    assert frozen and all(
        tail.state_dict()[name].data_ptr() == one.state_dict()[name].data_ptr() for tail in folds for name in frozen
    )
    assert not same(dict(one.state_dict()), dict(folds[0].state_dict()))


def test_a_member_of_an_ensemble_scores_with_its_refit_tail(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    fuse_recipes(both(), models, tiny.rows).save(tmp_path / "both", standalone=True)
    for name in unread_files(load_bundle(models / "a").record):
        (tmp_path / "both/members/a" / name).unlink()
    ensemble = load_model(tmp_path / "both")
    assert isinstance(ensemble, Ensemble)
    a, b = ensemble.parts
    table = FeatureTable.of_features(torch.rand(5, *a.record["shape"]).half())
    by_part = [part.fold_scores(table, CPU) for part in (a, b)]
    mean = np.mean(list(by_part[1].values()), axis=0)
    found = ensemble.joined(by_part)
    due = sigmoid((logit(by_part[0][REFIT]) + logit(mean)) / 2 / ensemble.temperature)
    assert found.mean == pytest.approx(due) and found.by_fold == {}
    file = tiny.root / tiny.images["path"].iloc[0]
    ((_, score),) = predict_files(ensemble, [file], max_pixels=10**6, device=CPU)
    assert isinstance(score, float)
    whole = load_bundle(models / "a")
    of_folds = ensemble.joined([whole.with_fold_scores(by_part[0], table, CPU), by_part[1]])
    assert np.array_equal(of_folds.mean, found.mean) and list(of_folds.by_fold) == [0, 1, 2]


def test_a_copy_has_what_is_there(models: Path, tmp_path: Path) -> None:
    bundle: Bundle = load_bundle(models / "a")
    copy_bundle(models / "a", bundle, tmp_path / "whole")
    assert contents(tmp_path / "whole") == contents(models / "a")
    (tmp_path / "whole/fold-1.safetensors").unlink()
    copy_bundle(tmp_path / "whole", bundle, tmp_path / "part")
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    (tmp_path / "whole/oof.csv").unlink()
    with pytest.raises(FileNotFoundError):
        copy_bundle(tmp_path / "whole", bundle, tmp_path / "less")


def test_its_one_tail_is_recalibrated(models: Path) -> None:
    bundle, score = load_bundle(models / "a"), np.array([0.2, 0.7])
    at = scores_at(bundle, ModelScores.of_folds({REFIT: score}))
    assert at(bundle.temperature) == pytest.approx(score)
    assert at(2 * bundle.temperature) == pytest.approx(sigmoid(logit(score) / 2))


def test_a_calibration_for_the_mean_is_refused() -> None:
    with pytest.raises(ParamsError, match="`refit` scores with one: leave one of them out"):
        tiny_recipe(refit=True, calibration="pair").check_written(["refit", "calibration"])
    replace(PROBE, refit=True).check_written(["head", "refit"])
