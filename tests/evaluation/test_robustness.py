"""Perturbed test images: each level's features are computed once, and scored with the frozen threshold."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import Tiny, Trained
from PIL import Image
from test_perturbation_levels import shown

from ffdi.bootstrap import Bootstrap
from ffdi.errors import ShardError
from ffdi.evaluation.evaluate import Evaluation, EvaluationInputs, evaluate_recipe
from ffdi.evaluation.headline import OF_RECIPE
from ffdi.evaluation.robustness import perturbed_features
from ffdi.features import perturbed
from ffdi.features.perturbed import VIEW, PerturbationSweep
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.files import write_json
from ffdi.intake.decoding.images import ImageSource
from ffdi.metrics import auc
from ffdi.tails.bundle import load_bundle
from ffdi.tails.policy import Policy

pytestmark = pytest.mark.usefixtures("restore_threads")

STAGE = Path(__file__).parents[2] / "stages" / "evaluate.py"


LEVELS = ["jpeg-30", "resize-0.5", "brightness-0.5", "noise-20", "crop-0.5"]


SETTINGS = ExtractSettings(workers=1, shard_rows=32)


class Sweep:
    """Perturbed features of the tiny set's test images in one folder; `computed` has the rows of each level's run."""

    def __init__(self, trained: Trained, tiny: Tiny, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tiny, self.out, self.bundle = tiny, out, load_bundle(trained.model)
        self.spec, self.computed = FeatureStore(trained.features).spec, list[int]()
        self.test = tiny.rows[tiny.rows["role"] == "test"]
        true_extract = perturbed.extract_features

        def extract_features(*rest: Any, **options: Any) -> Any:
            done = true_extract(*rest, **options)
            self.computed.append(done.computed)
            return done

        monkeypatch.setattr(perturbed, "extract_features", extract_features)

    def run(
        self, levels: Sequence[str], test: pd.DataFrame | None = None, root: Path | None = None, out: Path | None = None
    ) -> Any:
        source = ImageSource(root or self.tiny.root, 10**6)
        sweep = PerturbationSweep(levels, out or self.out, source, SETTINGS)
        self.computed.clear()
        return perturbed_features(self.bundle, self.spec, self.test if test is None else test, sweep)


@pytest.fixture
def sweep(trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return Sweep(trained, tiny, tmp_path / "levels", monkeypatch)


def test_each_levels_features_are_the_prefix_of_its_images(sweep: Sweep, trained: Trained) -> None:
    stores = sweep.run(LEVELS)
    ids, count = list(sweep.test["image_id"]), len(sweep.test)
    assert list(stores) == LEVELS and sweep.computed == [count] * len(LEVELS)
    clean = FeatureStore(trained.features).read([(i, 0) for i in ids])
    found = {level: store.read([(i, VIEW) for i in ids]) for level, store in stores.items()}
    assert all(sorted(store.rows) == sorted((i, VIEW) for i in ids) for store in stores.values())
    for one in LEVELS:
        images = [
            shown(one, Image.open(sweep.tiny.root / path), image_id)
            for image_id, path in zip(ids, sweep.test["path"], strict=True)
        ]
        assert sweep.bundle.prefix is not None
        with torch.inference_mode():
            due = sweep.bundle.prefix(torch.from_numpy(np.stack(images).astype(np.uint8)))
        np.testing.assert_allclose(found[one].astype(np.float32), due.numpy(), rtol=2e-3, atol=2e-3)
        for other in [clean, *(found[name] for name in LEVELS if name != one)]:
            assert (np.abs(found[one] - other).max(axis=(1, 2, 3)) > 0.01).all(), one
    prints = {store.spec.fingerprint for store in stores.values()} | {sweep.spec.fingerprint}
    assert len(prints) == len(LEVELS) + 1


def test_a_second_run_computes_nothing_and_a_level_more_itself_alone(sweep: Sweep) -> None:
    count = len(sweep.test)
    sweep.run(["jpeg-30", "blur-2"])
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sweep.out.rglob("*.h5")}
    assert len(before) == 2
    sweep.run(["jpeg-30", "blur-2"])
    assert sweep.computed == [0, 0]
    stores = sweep.run(["jpeg-30", "jpeg-31", "blur-2"])
    assert sweep.computed == [0, count, 0]
    assert stores["jpeg-30"].spec.fingerprint != stores["jpeg-31"].spec.fingerprint
    sweep.run(["blur-2"])
    assert sweep.computed == [0] and (sweep.out / "jpeg-31" / "index.json").exists()  # another recipe's are kept
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before} == before


def test_a_perturbed_image_depends_on_its_own_bytes_alone(sweep: Sweep, tmp_path: Path) -> None:
    """Alone, in another place of the table, from another path, of another label and group: the same features."""
    (tmp_path / "elsewhere").mkdir()
    for level in ("noise-20", "crop-0.5"):
        all_of_them = sweep.run([level])[level]
        for number in (3, 0):
            own = sweep.test.iloc[[number]]
            (tmp_path / "elsewhere/x.jpg").write_bytes((sweep.tiny.root / own["path"].iloc[0]).read_bytes())
            moved = own.assign(path="x.jpg", label=1 - own["label"], group="other")
            alone = sweep.run([level], moved, tmp_path / "elsewhere", tmp_path / f"alone-{number}")[level]
            row = [(str(own["image_id"].iloc[0]), VIEW)]
            np.testing.assert_allclose(alone.read(row), all_of_them.read(row), rtol=2e-3, atol=2e-3)


def judged(sweep: Sweep, trained: Trained, levels: Sequence[str], rows: pd.DataFrame | None = None) -> Evaluation:
    images = sweep.tiny.rows if rows is None else rows
    inputs = EvaluationInputs(
        sweep.bundle, FeatureStore(trained.features), images, perturbed=sweep.run(levels), levels=levels
    )
    return evaluate_recipe(inputs, bootstrap=Bootstrap(200), memory_gb=1, device=torch.device("cpu"))


def test_the_figures_of_each_level(sweep: Sweep, trained: Trained, tmp_path: Path) -> None:
    plain, result = judged(sweep, trained, []), judged(sweep, trained, ["jpeg-1", "resize-0.25", "blur-0"])
    metrics, table = result.metrics, result.plots["robustness"]
    assert plain.plots["robustness"].empty and list(plain.plots["robustness"]) == list(table)
    assert {k: v for k, v in metrics.items() if not k.startswith(("robust", "worst_"))} == plain.metrics
    assert table[["level", "kind", "strength", "at", "seen"]].to_numpy().tolist() == [
        ["jpeg-1", "jpeg", 1, "file", ""],
        ["resize-0.25", "resize", 0.25, "file", ""],
        ["blur-0", "blur", 0, "square", ""],
    ]
    for level, row in zip(("jpeg_1", "resize_0_25", "blur_0"), table.to_dict("records"), strict=True):
        for figure in ("auc", "auc_low", "auc_high", "accuracy"):
            assert metrics[f"robustness_{level}_{figure}"] == row[figure]
        assert row["auc_low"] <= row["auc"] <= row["auc_high"]
    for figure in ("auc", "auc_low", "auc_high", "accuracy"):  # no blur at all is the clean test set
        assert metrics[f"robustness_blur_0_{figure}"] == metrics[figure]
    # By hand from the level's own features: the mean of the folds, against the frozen threshold.
    ids, labels = list(sweep.test["image_id"]), sweep.test["label"].to_numpy()
    features = torch.from_numpy(FeatureStore(sweep.out / "jpeg-1").read([(i, VIEW) for i in ids])).float()
    with torch.inference_mode():
        logits = [tail(features) for tail in sweep.bundle.tails.values()]
    margins = [(one[:, 1] - one[:, 0]) / sweep.bundle.temperature for one in logits]
    scores = torch.stack(margins).sigmoid().mean(dim=0).numpy()
    assert metrics["robustness_jpeg_1_auc"] == pytest.approx(auc(labels, scores))
    ordered = np.sort(scores)
    due = {float(at): float(((scores >= at) == labels).mean()) for at in (ordered[1:] + ordered[:-1]) / 2}
    assert len(set(due.values())) > 1
    for threshold in (min(due, key=due.__getitem__), max(due, key=due.__getitem__)):
        sweep.bundle = replace(sweep.bundle, policy=Policy(threshold))
        accuracy = judged(sweep, trained, ["jpeg-1"]).metrics["robustness_jpeg_1_accuracy"]
        assert accuracy == pytest.approx(due[threshold])
    write_json(tmp_path / "m.json", metrics)


def test_a_level_of_the_training_is_no_unseen_one(sweep: Sweep, trained: Trained) -> None:
    """The recipe that was trained with JPEGs: its figure on unseen levels leaves jpeg-30 out, and both mixes' parts say so."""
    plain = judged(sweep, trained, ["jpeg-30", "blur-2", "mix-2"])
    assert plain.metrics["robust_unseen_levels"] == plain.metrics["robust_levels"] - 1  # `seeds` changes the contrast
    policy = [{"name": "jpeg", "p": 0.5}]
    record = dict(sweep.bundle.record)
    sweep.bundle = replace(sweep.bundle, record=record | {"backbone": record["backbone"] | {"view_policy": policy}})
    metrics = judged(sweep, trained, ["jpeg-30", "blur-2", "mix-2"]).metrics
    seen = {level: metrics[f"robustness_{level}_seen"] for level in ("jpeg_30", "blur_2", "mix_2")}
    assert seen == {"jpeg_30": True, "blur_2": False, "mix_2": True}
    assert metrics["robust_unseen_auc"] == metrics["robustness_blur_2_auc"]
    aucs = [metrics[f"robustness_{level}_auc"] for level in seen]
    assert metrics["robust_auc"] == pytest.approx(np.mean(aucs)) and metrics["worst_auc"] == min(aucs)


def test_one_class_gives_nulls_with_reasons(sweep: Sweep, trained: Trained, tmp_path: Path) -> None:
    rows = sweep.tiny.rows[(sweep.tiny.rows["role"] == "train") | (sweep.tiny.rows["label"] == 1)]
    metrics = judged(sweep, trained, ["jpeg-30"], rows).metrics
    write_json(tmp_path / "m.json", metrics)
    assert metrics["robustness_jpeg_30_auc"] is None and metrics["robustness_jpeg_30_auc_reason"]
    assert metrics["robustness_jpeg_30_accuracy"] is not None


@pytest.mark.parametrize("recipes", ["[tiny]", "[]"])
def test_the_stage_judges_the_levels_of_its_recipes(recipes: str, trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    backbone = '{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}'
    (tmp_path / "params.yaml").write_text(
        f"data: {{root: {tiny.root}}}\nbackbones: {{tiny: {backbone}}}\nrecipes: {{tiny: {{backbone: tiny}}}}\n"
        "split: {embedding: tiny}\nladder: {recipe: tiny, backbone: tiny}\n"
        f"evaluate: {{bootstrap: 100, robustness: {{recipes: {recipes}, levels: [jpeg-30, crop-0.5]}}}}\n"
    )
    paths = {
        "params": tmp_path / "params.yaml",
        "images": tiny.images_file,
        "folds": tiny.folds_file,
        "features": trained.features,
        "model": shutil.copytree(trained.model, tmp_path / "models/tiny"),
        "perturbed": tmp_path / "levels",
        "out": tmp_path / "tiny.json",
        "details": tmp_path / "all.json",
        "plots": tmp_path / "plots",
        "timings": tmp_path / "timings",
    }
    arguments = ["--recipe", "tiny", *(part for name, path in paths.items() for part in (f"--{name}", str(path)))]
    stage = runpy.run_path(str(STAGE))["main"]
    outputs = []
    for _ in range(2):
        result = CliRunner().invoke(stage, arguments)
        assert result.exit_code == 0, result.output
        outputs.append({p.name: p.read_bytes() for p in [paths["out"], paths["details"], *paths["plots"].iterdir()]})
    assert outputs[0] == outputs[1] and "robustness.csv" in outputs[0]
    metrics = json.loads(paths["details"].read_text())
    assert tuple(json.loads(paths["out"].read_text())) == OF_RECIPE
    asked = recipes == "[tiny]"
    assert ("robustness_jpeg_30_auc" in metrics, "robustness_crop_0_5_accuracy" in metrics) == (asked, asked)
    assert (tmp_path / "levels").exists() == asked
    times = json.loads((tmp_path / "timings/evaluate-tiny.json").read_text())
    assert times["images"] == metrics["n_test"] and 0 < times["tails"] <= times["seconds"]


def test_features_of_another_model_fill_no_cache(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    """They would be reused, once a model has that fingerprint: nothing may be written under it by this one."""
    spec = replace(FeatureStore(trained.features).spec, weights_sha256="f" * 64)
    sweep = PerturbationSweep(["jpeg-50"], tmp_path / "levels", ImageSource(tiny.root, 10**6), SETTINGS)
    test = tiny.rows[tiny.rows["role"] == "test"]
    with pytest.raises(ShardError, match="are not those of the model"):
        perturbed_features(load_bundle(trained.model), spec, test, sweep)
    assert not (tmp_path / "levels").exists()
