"""Fusing two trained recipes: what the bundle holds, whom it refuses, and that no extraction is repeated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny, Trained
from small_training import contents
from two_recipes import CPU, both, edit_record, save_two_recipes

from ffdi.console import Console
from ffdi.errors import BundleError, InputError
from ffdi.features.extractor import Extractor
from ffdi.features.runtimes import Runtime
from ffdi.features.store import FeatureStore
from ffdi.intake.tables import write_table
from ffdi.metrics import auc, best_threshold, fit_temperature
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import load_bundle, sigmoid
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.ensemble import Ensemble, load_model
from ffdi.tails.fuse import fuse_recipes
from ffdi.tails.predict import predict_files
from ffdi.tails.scoring import same_features
from ffdi.tails.stacking import fit_stack, logit


@pytest.fixture(scope="module")
def models(tiny: Tiny, trained: Trained, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion") / "models"
    save_two_recipes(folder, tiny, trained, weights)
    return folder


@pytest.fixture(scope="module")
def ensemble(models: Path, tiny: Tiny) -> Ensemble:
    """Of equal weights."""
    fuse_recipes(both(), models, tiny.rows).save(models.parent / "ensembles" / "both")
    loaded = load_model(models.parent / "ensembles" / "both")
    assert isinstance(loaded, Ensemble)
    return loaded


def test_the_fused_score_by_hand(ensemble: Ensemble, models: Path, tiny: Tiny, trained: Trained) -> None:
    """The mean over the folds of each member, the mean of these logits, over the temperature."""
    members = [load_bundle(models / name) for name in "ab"]
    ids = list(tiny.rows["image_id"].head(7))
    table = load_table(FeatureStore(trained.features), ids, [0] * 7, views=0, memory_gb=1)
    by_part = [member.fold_scores(table, CPU) for member in members]
    due = sigmoid(np.mean([logit(np.mean(list(of.values()), axis=0)) for of in by_part], axis=0) / ensemble.temperature)
    scores = ensemble.joined(by_part)
    np.testing.assert_allclose(scores.mean, due)
    first = sigmoid((logit(by_part[0][0]) + logit(by_part[1][0])) / 2 / ensemble.temperature)
    np.testing.assert_allclose(scores.by_fold[0], first)
    assert sorted(scores.by_fold) == [0, 1, 2]


def test_temperature_threshold_and_aucs_are_those_of_nested_scores(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    fuse_recipes(both(weights="fitted"), models, tiny.rows).save(tmp_path / "both")
    oof, ensemble = read_oof(tmp_path / "both"), load_model(tmp_path / "both")
    of_members = [read_oof(models / name).set_index("image_id").loc[oof["image_id"]] for name in "ab"]
    logits = np.stack([logit(of["score"].to_numpy()) for of in of_members], axis=1)
    labels, folds = oof["label"].to_numpy(), oof["fold"].to_numpy()
    for fold in range(3):
        inside = folds == fold
        due = fit_stack(labels[~inside], logits[~inside]).of(logits[inside])
        np.testing.assert_allclose(oof["logit"][inside], due)
        assert ensemble.record["val_auc"][str(fold)] == auc(labels[inside], due)
    assert ensemble.temperature == fit_temperature(labels, oof["logit"].to_numpy())
    assert ensemble.threshold == best_threshold(labels, oof["score"].to_numpy())
    np.testing.assert_allclose(oof["score"], sigmoid(oof["logit"].to_numpy() / ensemble.temperature))


@pytest.mark.parametrize("alike", [False, True])
def test_a_member_calibrated_for_the_mean_of_its_tails_stays_so(
    alike: bool, models: Path, tiny: Tiny, tmp_path: Path
) -> None:
    """Threshold and temperature are those of logits as spread as means are; the weights and oof.csv are not moved.

    What the tails of each member have alone is half of the variance of alike members together. Opposed members, as these
    are, would have more of it than there is; they are evened out as one of them alone.
    """
    for copy in ("plain", "paired"):
        for name in "ab":
            shutil.copytree(models / ("a" if alike else name), tmp_path / copy / name)
    for name in "ab":
        facts = {"kind": "pair", "contraction": 0.5}
        edit_record(tmp_path / "paired" / name, lambda record, facts=facts: record.update(calibration=facts))  # type: ignore[misc]
    plain, paired = (fuse_recipes(both(), tmp_path / copy, tiny.rows) for copy in ("plain", "paired"))
    labels, logits = plain.oof["label"].to_numpy(), plain.oof["logit"].to_numpy()
    assert np.array_equal(paired.oof["logit"], logits) and paired.nested.final == plain.nested.final
    centre = np.where(labels == 1, logits[labels == 1].mean(), logits[labels == 0].mean())
    share = np.sqrt(1 - 0.75 / 2) if alike else 0.5
    assert paired.temperature == pytest.approx(fit_temperature(labels, centre + share * (logits - centre)))
    np.testing.assert_allclose(paired.oof["score"], sigmoid(logits / paired.temperature))


def test_labels_of_test_rows_play_no_part(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    turned = tiny.rows.assign(label=tiny.rows["label"].where(tiny.rows["role"] == "train", 1 - tiny.rows["label"]))
    for name, rows in (("one", tiny.rows), ("other", turned)):
        fuse_recipes(both(weights="fitted"), models, rows).save(tmp_path / name)
    one, other = (contents(tmp_path / name) for name in ("one", "other"))
    assert one == other


def test_a_member_that_changed_after_fusing_is_refused(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "models")
    fuse_recipes(both(), tmp_path / "models", tiny.rows).save(tmp_path / "both")
    fuse_recipes(both(), tmp_path / "models", tiny.rows).save(tmp_path / "alone", standalone=True)
    edit_record(tmp_path / "models" / "b", lambda record: record.update(temperature=9.0))
    with pytest.raises(BundleError, match=r"member b .* is another one than was fused: run fuse@both again"):
        load_model(tmp_path / "both")
    shutil.rmtree(tmp_path / "models")
    with pytest.raises(BundleError, match=r"its member a is not at .*--standalone"):
        load_model(tmp_path / "both")
    kept = load_model(tmp_path / "alone")
    assert isinstance(kept, Ensemble) and list(kept.members) == ["a", "b"]


def test_a_standalone_ensemble_scores_alike_wherever_it_lies(
    ensemble: Ensemble, models: Path, tiny: Tiny, tmp_path: Path
) -> None:
    fuse_recipes(both(), models, tiny.rows).save(tmp_path / "alone", standalone=True)
    shutil.move(tmp_path / "alone", tmp_path / "far" / "away" / "alone")
    files = [tiny.root / path for path in tiny.rows["path"].head(3)]
    found = [
        [score for _, score in predict_files(model, files, max_pixels=10**6, device=CPU)]
        for model in (ensemble, load_model(tmp_path / "far" / "away" / "alone"))
    ]
    assert found[0] == found[1]


def test_nothing_but_an_ensemble_is_replaced(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    fused = fuse_recipes(both(), models, tiny.rows)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for folder in (tmp_path / "mine", tmp_path / "file", models / "a", models):
        with pytest.raises(InputError, match="is no ensemble: name another folder"):
            fused.save(folder)
    assert (tmp_path / "mine/notes.txt").exists() and load_bundle(models / "a")
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        fused.save(tmp_path / "empty")


def test_an_edited_weight_or_table_is_refused(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    fuse_recipes(both(), models, tiny.rows).save(tmp_path / "both")
    file = tmp_path / "both" / "bundle.json"
    record = json.loads(file.read_text())
    record["members"]["a"]["weight"] = 0.9
    file.write_text(json.dumps(record))
    with pytest.raises(BundleError, match="was changed"):
        load_model(tmp_path / "both")
    fuse_recipes(both(), models, tiny.rows).save(tmp_path / "both")
    (tmp_path / "both" / "seen.csv").write_text("image_id,phash\n")
    with pytest.raises(BundleError, match=r"seen\.csv: sha256 differs"):
        load_model(tmp_path / "both")
    with pytest.raises(BundleError, match="is an ensemble, and a recipe's bundle is needed"):
        load_bundle(tmp_path / "both")


def test_members_that_share_a_backbone_run_its_prefix_once(
    ensemble: Ensemble, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, ran = [tiny.root / path for path in tiny.rows["path"].head(20)], list[int]()
    opened = Extractor.open

    def counting(extractor: Extractor, console: Console = Console()) -> Runtime:
        runtime = opened(extractor, console)
        return replace(runtime, run=lambda images: (ran.append(len(images)), runtime.run(images))[1])

    monkeypatch.setattr(Extractor, "open", counting)
    fused = [score for _, score in predict_files(ensemble, files, max_pixels=10**6, device=CPU)]
    assert sum(ran) == 20
    alone = [
        [score for _, score in predict_files(member, files, max_pixels=10**6, device=CPU)] for member in ensemble.parts
    ]
    due = sigmoid(np.mean(logit(np.array(alone, dtype=float)), axis=0) / ensemble.temperature)
    np.testing.assert_allclose(np.array(fused, dtype=float), due, atol=1e-6)
    assert len({same_features(member) for member in ensemble.parts}) == 1


def test_members_of_other_folds_are_refused(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    rows = tiny.rows.assign(fold=(tiny.rows["fold"] + 1) % 3)
    with pytest.raises(InputError, match=r"ensembles\.both: a was trained on other folds"):
        fuse_recipes(both(), models, rows)
    shutil.copytree(models, tmp_path / "models")
    oof = read_oof(tmp_path / "models" / "b")
    write_table(tmp_path / "models" / "b" / "oof.csv", oof[oof["image_id"] != oof["image_id"][0]])

    def hashed_again(record: dict[str, dict[str, str]]) -> None:
        from ffdi.files import sha256_file

        record["sha256"]["oof.csv"] = sha256_file(tmp_path / "models" / "b" / "oof.csv")

    edit_record(tmp_path / "models" / "b", hashed_again)
    with pytest.raises(InputError, match="a and b were validated on other images"):
        fuse_recipes(both(), tmp_path / "models", tiny.rows)


def test_what_any_member_has_seen_was_seen(ensemble: Ensemble, tiny: Tiny) -> None:
    train = tiny.rows[tiny.rows["role"] == "train"]
    assert sorted(ensemble.seen["image_id"]) == sorted(train["image_id"])
