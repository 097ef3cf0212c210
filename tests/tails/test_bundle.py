"""A loaded bundle equals what was trained, to the bit; a changed one is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained, picture
from small_training import contents
from torch import nn

from ffdi.errors import BundleError, ShardError
from ffdi.features.extractor import load_extractor
from ffdi.features.store import FeatureStore
from ffdi.metrics import best_threshold, fit_temperature
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.bundle import load_bundle, sigmoid
from ffdi.tails.checkpoint import Fit
from ffdi.tails.feature_source import InMemory
from ffdi.tails.folds import FoldedTable
from ffdi.tails.model import ModelScores
from ffdi.tails.record import record_hash
from ffdi.tails.trained_recipe import OutOfFold

CPU = torch.device("cpu")


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the bundle that the test may damage."""
    return Path(shutil.copytree(trained.model, tmp_path / "model"))


@pytest.fixture
def train_table(trained: Trained, tiny: Tiny) -> FeatureTable:
    rows = tiny.rows[tiny.rows["role"] == "train"]
    store = FeatureStore(trained.features)
    return load_table(store, list(rows["image_id"]), list(rows["label"]), views="all", memory_gb=1)


def test_a_bundle_has_these_files_and_no_pickle(trained: Trained) -> None:
    files = contents(trained.model)
    assert sorted(files) == [
        "bundle.json",
        "fold-0.safetensors",
        "fold-1.safetensors",
        "fold-2.safetensors",
        "index.safetensors",
        "oof.csv",
        "prefix.safetensors",
        "seen.csv",
    ]
    facts = json.loads(files["bundle.json"])
    assert set(facts["sha256"]) == set(files) - {"bundle.json"}
    assert facts["provenance"]["pretrained"] is False
    for name, data in files.items():
        assert not data.startswith((b"\x80", b"PK")), name  # pickle protocols 2 and up; torch's zip


def test_the_same_training_gives_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    """Twice in one process, and with the same network: saving must not change what it is given."""
    trained.save(tmp_path / "model")
    assert contents(tmp_path / "model") == contents(trained.model)


def test_a_round_trip_gives_the_logits_of_the_training(trained: Trained, tiny: Tiny, train_table: FeatureTable) -> None:
    bundle = load_bundle(trained.model)
    oof = pd.read_csv(trained.model / "oof.csv", dtype={"image_id": str}).set_index("image_id")
    scores = bundle.fold_scores(train_table, CPU)
    for at, image_id in enumerate(train_table.image_ids):
        fold = int(oof.loc[image_id, "fold"])
        assert scores[fold][at] == pytest.approx(oof.loc[image_id, "score"], rel=1e-5)
    np.testing.assert_allclose(bundle.scores(train_table, CPU), np.mean(list(scores.values()), axis=0))


def test_a_loaded_bundle_is_in_eval_mode_and_frozen(trained: Trained) -> None:
    bundle = load_bundle(trained.model)
    assert bundle.prefix is not None
    for module in (*bundle.tails.values(), bundle.prefix):
        assert not any(m.training for m in module.modules())
        assert not any(p.requires_grad for p in module.parameters())


def test_the_bundles_prefix_is_the_one_that_extracted(
    trained: Trained, weights: Path, backbone: Callable[..., Any]
) -> None:
    bundle, made = load_bundle(trained.model), load_extractor(backbone(), weights)
    assert bundle.prefix is not None and made.module is not None
    assert bundle.backbone.to_dict() == made.backbone.to_dict()
    image = torch.from_numpy(np.array(picture(5)))[None]
    with torch.inference_mode():
        assert torch.equal(bundle.prefix(image), made.module(image))


def test_every_image_is_scored_by_the_fold_that_did_not_train_on_it(trained: Trained, tiny: Tiny) -> None:
    oof = pd.read_csv(trained.model / "oof.csv", dtype={"image_id": str})
    train = tiny.rows[tiny.rows["role"] == "train"]
    assert list(oof["image_id"]) == sorted(train["image_id"])  # once each, and no test image
    assert dict(zip(oof["image_id"], oof["fold"], strict=True)) == dict(
        zip(train["image_id"], train["fold"], strict=True)
    )


def test_seen_is_every_image_of_the_training_and_no_other(trained: Trained, tiny: Tiny) -> None:
    seen, train = load_bundle(trained.model).seen, tiny.rows[tiny.rows["role"] == "train"]
    assert list(seen) == ["image_id", "phash"]
    assert dict(zip(seen["image_id"], seen["phash"], strict=True)) == dict(
        zip(train["image_id"], train["phash"], strict=True)
    )


def test_a_bundle_without_seen_is_of_a_former_format(copied: Path) -> None:
    """Format 3: it does not say what it was trained on, so that nobody could judge it on another data set."""
    facts = json.loads((copied / "bundle.json").read_text())
    (copied / "seen.csv").unlink()
    (copied / "bundle.json").write_text(json.dumps(facts | {"format_version": 3}))
    with pytest.raises(BundleError, match="bundle format 3, this ffdi reads 4"):
        load_bundle(copied)


def test_the_mean_score_is_the_mean_of_the_folds() -> None:
    assert ModelScores.of_folds({0: np.array([0.2, 1.0]), 3: np.array([0.4, 0.0])}).mean == pytest.approx([0.3, 0.5])


def test_a_bundles_extractor_has_a_true_spec(trained: Trained) -> None:
    """On the machine that extracted, what the bundle computes is what it was trained on, fingerprint included."""
    bundle, spec = load_bundle(trained.model), FeatureStore(trained.features).spec
    extractor = bundle.extractor()
    assert extractor.spec == spec and extractor.spec.fingerprint == bundle.record["fingerprint"]
    assert (extractor.provenance.source, extractor.provenance.pretrained) == ("random", False)
    other = replace(spec, policy={**spec.policy, "view_seed": 1})
    assert bundle.extractor(other).spec == other


def test_threshold_and_temperature_come_from_out_of_fold_scores(trained: Trained) -> None:
    bundle = load_bundle(trained.model)
    oof = pd.read_csv(trained.model / "oof.csv")
    labels, logits = oof["label"].to_numpy(), oof["logit"].to_numpy()
    assert bundle.temperature == pytest.approx(fit_temperature(labels, logits), rel=1e-4)
    assert bundle.threshold == pytest.approx(best_threshold(labels, oof["score"].to_numpy()))
    np.testing.assert_allclose(oof["score"], 1 / (1 + np.exp(-logits / bundle.temperature)), rtol=1e-6)


def test_out_of_fold_puts_each_folds_logits_at_its_own_images() -> None:
    table = FeatureTable(
        ("b", "a", "d", "c"),
        InMemory(torch.zeros(4, 1, 1, 1)),
        torch.arange(4),
        torch.ones(4, dtype=torch.long),
        torch.tensor([1, 0, 0, 1]),
    )
    images = FoldedTable.of(table, [1, 0, 1, 0])
    fits = {0: Fit({}, np.array([-1.0, 2.0]), (), 0), 1: Fit({}, np.array([3.0, -4.0]), (), 0)}  # a, c and b, d
    out_of_fold = OutOfFold.of(fits, images)
    oof = out_of_fold.scores
    assert oof[["image_id", "fold", "label", "logit"]].to_numpy().tolist() == [
        ["a", 0, 0, -1.0],
        ["b", 1, 1, 3.0],
        ["c", 0, 1, 2.0],
        ["d", 1, 0, -4.0],
    ]
    assert oof["score"][0] < out_of_fold.policy.threshold < oof["score"][2]


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "name", ["prefix.safetensors", "fold-1.safetensors", "index.safetensors", "oof.csv", "seen.csv"]
)
def test_a_flipped_bit_is_found(name: str, copied: Path) -> None:
    data = bytearray((copied / name).read_bytes())
    data[-3] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: sha256 differs"):
        load_bundle(copied)


@pytest.mark.parametrize("key", ["threshold", "temperature", "fingerprint", "recipe"])
def test_a_changed_entry_of_bundle_json_is_found(key: str, copied: Path) -> None:
    file = copied / "bundle.json"
    facts = json.loads(file.read_text())
    assert load_bundle(copied).threshold == facts["threshold"]
    facts[key] = facts[key] + 2**-40 if isinstance(facts[key], float) else f"{facts[key]} "
    file.write_text(json.dumps(facts))
    with pytest.raises(BundleError, match=r"bundle\.json: was changed"):
        load_bundle(copied)


def test_a_bundle_needs_neither_dvc_nor_shards(copied: Path, tmp_path: Path) -> None:
    """In a process where DVC cannot be imported, in a folder with nothing but the bundle and a picture."""
    picture(0, 64).save(tmp_path / "face.png")
    code = """
import sys
sys.modules |= {"dvc": None, "dvclive": None}
from pathlib import Path
import torch
from ffdi.tails.bundle import load_bundle
from ffdi.tails.predict import predict_files
print(list(predict_files(load_bundle(Path("model")), [Path("face.png")], max_pixels=10**6, device=torch.device("cpu"))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout.split(",")[-1].strip(" )]\n")) <= 1


@pytest.mark.parametrize("name", ["prefix.safetensors", "fold-1.safetensors", "oof.csv", "seen.csv", "bundle.json"])
def test_a_missing_file_is_said(name: str, copied: Path) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: missing"):
        load_bundle(copied)


def edited(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda facts: facts | {key: value}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda facts: [facts], "bundle format None"),
        (edited("format_version", 99), "bundle format 99, this ffdi reads 4"),
        (edited("backbone", {}), "does not fit its files"),
        (edited("shape", [7, 2, 2]), "does not fit its files"),
        (lambda facts: {k: v for k, v in facts.items() if k != "threshold"}, "does not fit its files"),
        (lambda facts: facts | {"head": facts["head"] | {"hidden": [5]}}, "does not fit its files"),
    ],
)
def test_a_bundle_json_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], Any], says: str, copied: Path
) -> None:
    file = copied / "bundle.json"
    facts = change(json.loads(file.read_text()))
    if isinstance(facts, dict):
        facts["facts_sha256"] = record_hash(facts)
    file.write_text(json.dumps(facts))
    with pytest.raises(BundleError, match=says) as error:
        load_bundle(copied)
    assert "\n" not in str(error.value)


def test_a_bundle_json_cut_short_is_refused(copied: Path) -> None:
    (copied / "bundle.json").write_text((copied / "bundle.json").read_text()[:100])
    with pytest.raises(BundleError, match="not JSON"):
        load_bundle(copied)


def test_shards_of_other_features_are_refused_naming_both(trained: Trained) -> None:
    made, spec = load_bundle(trained.model), FeatureStore(trained.features).spec
    made.refuse_other_features(spec)
    with pytest.raises(ShardError, match=r"cut at features\.15 .* are not those of the model: .* cut at features\.16"):
        made.refuse_other_features(replace(spec, cut="features.15"))


def test_what_a_former_bundle_left_is_deleted(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "fold-7.safetensors").write_text("stale")
    trained.save(folder)
    assert contents(folder) == contents(trained.model)


def test_a_head_that_is_the_whole_tail_shares_nothing_between_folds(trained: Trained) -> None:
    tails: list[nn.Module] = list(load_bundle(trained.model).tails.values())
    pointers = [{t.data_ptr() for t in tail.state_dict().values()} for tail in tails]
    assert not pointers[0] & pointers[1] and not pointers[1] & pointers[2]
