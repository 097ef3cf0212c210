"""Recalibration of an ensemble: its joint logit gets another temperature, and its members stay where they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny, Trained, picture
from two_recipes import CPU, both, edit_record, save_two_recipes

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError
from ffdi.evaluation.recalibrated_model import FewImages, policy_settings_of, recalibrate_model, write_recalibrated
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.ensemble import load_model
from ffdi.tails.fuse import fuse_recipes
from ffdi.tails.predict import predict_files


@pytest.fixture(scope="module")
def models(tiny: Tiny, trained: Trained, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recalibrated") / "models"
    save_two_recipes(folder, tiny, trained, weights)
    return folder


@pytest.mark.parametrize("standalone", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_recalibrated_ensemble_finds_its_members(standalone: bool, models: Path, tiny: Tiny, tmp_path: Path) -> None:
    fused = tmp_path / "ensembles/both"
    fuse_recipes(both(), models, tiny.rows).save(fused, standalone=standalone)
    root = tmp_path / "domain"
    root.mkdir()
    for number in range(20):
        picture(3000 + number, 72, bool(number % 2)).save(root / f"{number}.jpg")
    lines = [f"{number}.jpg,{number % 2}" for number in range(20)]
    (tmp_path / "few.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    before = {file: file.read_bytes() for file in fused.rglob("*") if file.is_file()}
    old, source = load_model(fused), ImageSource(root, 10**6)
    few = FewImages.read(tmp_path / "few.csv", source, old, phash_bits=0)
    found = recalibrate_model(old, few, policy_settings_of(old), bootstrap=Bootstrap(50), device=CPU)
    out = tmp_path / "elsewhere/deep/new"
    write_recalibrated(fused, old, few, found, out)
    assert before == {file: file.read_bytes() for file in fused.rglob("*") if file.is_file()}
    new = load_model(out)
    assert new.temperature == found.temperature and new.record["parent"]["name"] == "both"
    assert [part.record["facts_sha256"] for part in new.parts] == [part.record["facts_sha256"] for part in old.parts]
    files = [root / f"{number}.jpg" for number in range(3)]
    scores = []
    for model in (old, new):
        given = [float(score) for _, score in predict_files(model, files, max_pixels=10**6, device=CPU)]
        scores.append(np.log(given) - np.log1p(-np.array(given)))
    np.testing.assert_allclose(scores[0] * old.temperature, scores[1] * new.temperature, rtol=1e-4)


def test_a_recalibrated_recipe_is_not_fused(models: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Its out-of-fold scores are those of its parent's temperature."""
    shutil.copytree(models, tmp_path / "models")
    edit_record(tmp_path / "models/b", lambda record: record.update(recalibrated={}))
    with pytest.raises(InputError, match=r"ensembles\.both: b was recalibrated, .* its parent"):
        fuse_recipes(both(), tmp_path / "models", tiny.rows)
