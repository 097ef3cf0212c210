"""The stage `fuse`: an ensemble is judged on the test set like a recipe, from cached features alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import Tiny, Trained
from results_on_disk import write_results
from two_recipes import CPU, both, save_two_recipes

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation.cost import cost, cost_of_parts
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.evaluation.evaluate_ensemble import EnsembleInputs, evaluate_ensemble
from ffdi.evaluation.headline import OF_RECIPE, of_recipe
from ffdi.evaluation.page_data import heaviest_member
from ffdi.evaluation.results import read_results
from ffdi.features import extract
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.store import FeatureStore
from ffdi.files import write_json
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.fuse import fuse_recipes


@pytest.fixture(scope="module")
def project(tiny: Tiny, trained: Trained, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/a, models/b, features/tiny and ensembles/both."""
    folder = tmp_path_factory.mktemp("fused")
    save_two_recipes(folder / "models", tiny, trained, weights)
    (folder / "features").mkdir()
    (folder / "features" / "tiny").symlink_to(trained.features)
    fuse_recipes(both(), folder / "models", tiny.rows).save(folder / "ensembles" / "both")
    return folder


def judged(project: Path, tiny: Tiny) -> Any:
    inputs = EnsembleInputs.load(project / "ensembles" / "both", project / "features", tiny.rows)
    return evaluate_ensemble(inputs, bootstrap=Bootstrap(200), memory_gb=1, device=CPU)


def test_it_has_every_figure_and_table_of_a_recipe(project: Path, tiny: Tiny, trained: Trained) -> None:
    evaluation = judged(project, tiny)
    inputs = EvaluationInputs.load(project / "models" / "a", trained.features, tiny.rows)
    alone = evaluate_recipe(inputs, bootstrap=Bootstrap(200), memory_gb=1, device=CPU)
    assert set(evaluation.metrics) == set(alone.metrics) | {"members", "stacking", "weight_a", "weight_b", "stack_bias"}
    assert {name: list(table.columns) for name, table in evaluation.plots.items()} == {
        name: list(table.columns) for name, table in alone.plots.items()
    }
    assert set(of_recipe(evaluation.metrics)) == set(OF_RECIPE)
    assert evaluation.metrics["members"] == "a, b" and evaluation.metrics["weight_a"] == 0.5
    record = json.loads((project / "ensembles" / "both" / "bundle.json").read_text())
    assert evaluation.metrics["val_auc_mean"] == pytest.approx(np.mean(list(record["val_auc"].values())))


def test_nothing_is_extracted_and_the_scores_are_those_of_predict(
    project: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ffdi.commands.main import main

    monkeypatch.setattr(extract, "extract_features", lambda *a, **k: pytest.fail("extracted again"))
    scores = judged(project, tiny).plots["scores"].set_index("image_id")["score"]
    test = tiny.rows.set_index("image_id").loc[scores.index]
    files = [str(tiny.root / path) for path in test["path"]]
    done = CliRunner().invoke(main, ["predict", "--model", str(project / "ensembles" / "both"), *files])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()[1:]
    assert [float(line.split(",")[1]) for line in lines] == pytest.approx(scores.tolist(), abs=1e-5)


def test_a_prefix_that_members_share_is_paid_once(project: Path, trained: Trained) -> None:
    spec = FeatureStore(trained.features).spec
    a, b = (load_bundle(project / "models" / name) for name in "ab")
    one, two = cost(a, spec), cost_of_parts([(a, spec), (b, spec)])
    assert cost_of_parts([(a, spec)]) == one
    assert (two["flops_prefix"], two["bytes_per_image"]) == (one["flops_prefix"], one["bytes_per_image"])
    assert two["flops_per_image"] == int(str(one["flops_prefix"])) + 2 * 3 * int(str(one["flops_tail"]))


def test_passes_of_a_prefix_are_paid_as_predict_makes_them(project: Path, trained: Trained) -> None:
    """Members with one `tta` share its passes; with another, or none, they have their own."""
    spec = FeatureStore(trained.features).spec

    def seeing(name: str, *tta: str) -> Bundle:
        bundle = load_bundle(project / "models" / name)
        return replace(bundle, record={**bundle.record, "recipe": {**bundle.record["recipe"], "tta": list(tta)}})

    def flops(a: Bundle, b: Bundle, of_b: FeatureSpec = spec) -> int:
        return int(str(cost_of_parts([(a, spec), (b, of_b)])["flops_per_image"]))

    clean = cost(seeing("a"), spec)
    prefix, tails = int(str(clean["flops_prefix"])), 3 * int(str(clean["flops_tail"]))
    assert prefix > 0
    assert flops(seeing("a", "hflip"), seeing("b", "hflip")) == 2 * prefix + 4 * tails
    assert flops(seeing("a", "hflip"), seeing("b")) == 3 * prefix + 3 * tails
    more_views = replace(spec, policy={**spec.policy, "view_seed": 7})
    assert more_views.fingerprint != spec.fingerprint
    assert flops(seeing("a"), seeing("b"), more_views) == prefix + 2 * tails


def test_other_data_and_submission_take_an_ensemble(project: Path, tiny: Tiny, tmp_path: Path) -> None:
    from ffdi.commands.main import main

    model, out = str(project / "ensembles" / "both"), tmp_path / "m.json"
    files = ["--images", str(tiny.images_file), "--folds", str(tiny.folds_file), "--root", str(tiny.root)]
    options = ["--phash-bits", "0", "--bootstrap", "100", "--out", str(out)]
    done = CliRunner().invoke(main, ["evaluate", "--model", model, *files, *options])
    assert done.exit_code == 0, done.output
    metrics = json.loads(out.read_text())
    assert metrics["recipe"] == "both" and metrics["members"] == "a, b"
    assert metrics["n_test"] + metrics["n_seen"] == (tiny.rows["role"] == "test").sum()
    listed, submission = tmp_path / "list.csv", tmp_path / "s.csv"
    pd.DataFrame({"img_name": tiny.rows["path"].head(4)}).to_csv(listed, index=False)
    done = CliRunner().invoke(
        main, ["submit", "--model", model, "--list", str(listed), "--root", str(tiny.root), "--out", str(submission)]
    )
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(submission)) == 4


@pytest.mark.parametrize(("weights", "due"), [((0.2, 0.9), "b"), ((0.5, 0.5), "a")])
def test_the_heat_maps_are_those_of_the_heaviest_member(weights: tuple[float, float], due: str) -> None:
    assert heaviest_member({"members": "a, b", "weight_a": weights[0], "weight_b": weights[1]}) == due
    assert heaviest_member({"auc": 0.5}) == ""


def test_figures_of_an_ensemble_that_was_fused_again_are_left_out(
    project: Path, tiny: Tiny, trained: Trained, tmp_path: Path
) -> None:
    """Those in metrics/cross, which name the bundle that they are of."""
    metrics, data = write_results(tmp_path, tiny, trained, {"a": True}), tmp_path / "data"
    shutil.copytree(project / "ensembles", data / "ensembles")
    record = json.loads((data / "ensembles" / "both" / "bundle.json").read_text())
    shutil.copy(metrics / "details" / "a.json", metrics / "details" / "both.json")
    shutil.copytree(metrics / "plots" / "a" / "test", metrics / "plots" / "both" / "test")
    home = {"recipe": "both", "trained_on": record["provenance"]["data"], "tested_on": "other"}
    figures = home | dict.fromkeys(("auc", "auc_low", "auc_high", "accuracy", "n_test", "n_groups"), 1)
    for name, sha256 in (("now", record["facts_sha256"]), ("before", "0" * 64)):
        write_json(metrics / "cross" / f"{name}.json", figures | {"model_sha256": sha256})
    results = read_results(metrics, {"a": "tiny", "both": ""}, data, project / "models")
    assert results.leftovers == ["cross/before"] and len(results.cross) == 1
