"""What is unlike the training: the index of a bundle, its limit, and the distances that it gives."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe
from PIL import Image
from small_training import CPU, FOLDS, contents, fresh_tail, make_table, tiny_inputs

from ffdi.features.backbone import Views
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.feature_spec import Features
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.files import write_json
from ffdi.intake.decoding.images import ImageSource, read_bytes
from ffdi.tails import bundle as bundle_module
from ffdi.tails import unlike
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.bundle import load_bundle
from ffdi.tails.folds import FoldedTable
from ffdi.tails.model import Model
from ffdi.tails.predict import score_files, score_images
from ffdi.tails.record import record_hash
from ffdi.tails.scoring import ImageScore
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs
from ffdi.tails.unlike import TrainingIndex, embeddings, farthest, pooled_features


def folded(features: Features, groups: list[str] | None = None, validates: list[bool] | None = None) -> FoldedTable:
    """Images of one view in two folds."""
    table = FeatureTable.of_features(features)
    return FoldedTable.of(table, [n % 2 for n in range(len(features))], validates, groups)


def index_of(*arguments: object) -> TrainingIndex:
    found = TrainingIndex.of_features(folded(*arguments), CPU)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_limit_is_the_distance_between_groups_that_almost_all_images_keep_to() -> None:
    """Vectors 0, 1, 3, 7 with mean 2.75 and standard deviation sqrt(7.1875): 7 is the farthest, 4 from its nearest."""
    line = np.array([[0.0], [1.0], [3.0], [7.0]], np.float32)
    index = index_of(line)
    assert index.limit == pytest.approx(4 / np.sqrt(7.1875), rel=1e-3)
    assert index.facts == {"limit": index.limit, "rows": 4, "quantile": 0.99}
    assert index.distances(torch.tensor([[7.0], [11.0], [12.0], [-8.0]])) == pytest.approx(
        [0, 1, 1.25, 2], abs=2e-3
    )  # in units of the limit, the distance 4


def test_an_image_of_the_same_group_is_no_stranger() -> None:
    line = np.array([[0.0], [0.1], [3.0], [3.1]], np.float32)
    unit = float(line.std())
    assert index_of(line).limit == pytest.approx(0.1 / unit, rel=1e-2)
    assert index_of(line, ["a", "a", "b", "b"]).limit == pytest.approx(3.0 / unit, rel=1e-2)  # of 0.0: to 3.0
    assert TrainingIndex.of_features(folded(line, ["a"] * 4), CPU) is None  # nothing tells strangers apart
    assert TrainingIndex.of_features(folded(np.ones((4, 2), np.float32)), CPU) is None


def test_places_are_averaged_and_synthesised_images_left_out() -> None:
    maps = np.random.default_rng(0).normal(size=(6, 3, 2, 2)).astype(np.float32)
    assert pooled_features(FeatureTable.of_features(maps), CPU).numpy() == pytest.approx(maps.mean((2, 3)), abs=1e-6)
    tokens = maps.reshape(6, 3, 4).transpose(0, 2, 1)
    assert pooled_features(FeatureTable.of_features(tokens.copy()), CPU).numpy() == pytest.approx(maps.mean((2, 3)))
    assert index_of(maps, None, [True] * 5 + [False]).facts["rows"] == 5


def test_the_index_is_bounded_and_drawn_by_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A projection keeps distances about as they are (Johnson and Lindenstrauss): here of 300 channels in 128."""
    wide = np.random.default_rng(0).normal(size=(60, 300)).astype(np.float32)
    strangers = torch.from_numpy(wide[:9] + 0.7)
    whole = index_of(wide).distances(strangers)
    monkeypatch.setattr(unlike, "ROWS", 40)
    monkeypatch.setattr(unlike, "CHANNELS", 128)
    index = index_of(wide)
    assert (index.rows.shape, index.rows.dtype) == ((40, 128), torch.float16)
    assert torch.equal(index.rows, index_of(wide).rows)
    monkeypatch.setattr(unlike, "ROWS", 60)
    assert index_of(wide).distances(strangers) == pytest.approx(whole, rel=0.15)


def test_of_whole_networks_the_limit_is_that_of_images_that_did_not_train_the_tail() -> None:
    """The body knows its own training images: what is far from them is measured on the fold that it never saw."""
    images, tail = FoldedTable.of(make_table(), FOLDS), fresh_tail(0)
    found = TrainingIndex.of_tail(images, CPU, tail, 1)
    assert found is not None and found.facts["rows"] == 24
    held = pooled_features(images.split(1).validation, CPU, tail)
    assert held.shape == (12, 6)
    assert found.distances(held).max() == pytest.approx(1)
    assert tail.training  # as it was
    refit = TrainingIndex.of_refit(images, CPU, tail, tail, 1)  # of the same tail: 36 rows, and about the same limit
    assert refit is not None and refit.facts["rows"] == 36
    assert refit.limit == pytest.approx(found.limit, rel=0.3)


def test_the_farthest_of_several_backbones_counts_and_one_without_an_index_does_not() -> None:
    one, other = np.array([0.2, 3.0]), np.array([0.9, 0.1])
    found = farthest([one, None, other])
    assert found is not None and found.tolist() == [0.9, 3.0]
    assert farthest([None, None]) is None


def test_a_tail_that_another_thread_scores_with_is_not_overheard() -> None:
    tail, table = fresh_tail(0).eval(), make_table()
    with embeddings(tail) as kept:
        other = Thread(target=pooled_features, args=(make_table(seed=1), CPU, tail))
        other.start()
        other.join()
        due = pooled_features(table, CPU, tail)
    assert torch.equal(torch.cat(kept), due)


def scored(model: Model, files: list[Path]) -> list[ImageScore]:
    images = [(file.name, partial(read_bytes, file.parent, file.name)) for file in files]
    found = list(score_images(model, images, max_pixels=10**6, device=CPU))
    assert all(isinstance(score, ImageScore) for score in found)
    return found  # type: ignore[return-value]


def test_files_are_judged_by_the_bundle_alone(
    trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(trained.model)
    assert bundle.index is not None and bundle.record["unlike"] == bundle.index.facts
    rows = tiny.rows[tiny.rows["role"] == "train"]
    assert bundle.index.facts["rows"] == len(rows)
    known = scored(bundle, [tiny.root / path for path in rows["path"].head(3)])
    assert [score.distance for score in known] == pytest.approx([0, 0, 0], abs=1e-2)
    assert [score.unlike for score in known] == [False] * 3
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (noisy,) = scored(bundle, [tmp_path / "noise.png"])
    assert noisy.distance is not None and noisy.distance > 0.5
    strict = replace(bundle, index=replace(bundle.index, limit=bundle.index.limit / 2))
    (stranger,) = scored(strict, [tmp_path / "noise.png"])
    assert stranger.unlike is True and stranger.distance == pytest.approx(2 * noisy.distance)
    test = tiny.rows[tiny.rows["role"] == "test"]
    found = score_files(bundle, test, ImageSource(tiny.root, 10**6), device=CPU).distance
    store = FeatureStore(trained.features)
    table = load_table(store, list(test["image_id"]), list(test["label"]), views=0, memory_gb=1)
    due = bundle.distances(table, CPU)
    assert found is not None and due is not None and found == pytest.approx(due, abs=1e-3)
    sizes, true_pooled = list[int](), bundle_module.pooled_features

    def pooled(table: FeatureTable, *rest: Any) -> torch.Tensor:
        sizes.append(len(table))
        return true_pooled(table, *rest)

    monkeypatch.setattr(bundle_module, "pooled_features", pooled)
    monkeypatch.setattr(bundle_module, "POOLED", 5)  # vectors of so many images are in memory at a time
    assert bundle.distances(table, CPU) == pytest.approx(due, abs=1e-4) and sizes == [5, 5, 2]


def test_a_bundle_from_before_the_index_says_nothing(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name, data in contents(trained.model).items():
        (old / name).write_bytes(data)
    (old / "index.safetensors").unlink()
    record = json.loads((old / "bundle.json").read_text())
    del record["unlike"], record["sha256"]["index.safetensors"]
    write_json(old / "bundle.json", record | {"facts_sha256": record_hash(record)})
    bundle, file = load_bundle(old), tiny.root / tiny.rows["path"].iloc[0]
    assert bundle.index is None
    (score,) = scored(bundle, [file])
    (now,) = scored(load_bundle(trained.model), [file])
    assert (score.unlike, score.distance) == (None, None)
    assert score == replace(now, unlike=None, distance=None)


def test_a_whole_network_is_indexed_by_the_tail_that_scores(tiny: Tiny, weights: Path, tmp_path: Path) -> None:
    """Of a refit recipe that is the refit tail: the images that it trained on lie on their own rows."""
    backbone, source = tiny_backbone(cut="input", image_size=32, views=Views()), ImageSource(tiny.root, 10**6)
    settings = ExtractSettings(workers=1, shard_rows=32)
    extract_features(tiny.rows, load_extractor(backbone, weights), tmp_path / "f", source=source, settings=settings)
    inputs = TrainingInputs("tiny", tiny.rows, backbone, tmp_path / "f", weights)
    recipe = tiny_recipe(epochs=1, folds=2, refit=True)
    trained = train_recipe(recipe, inputs, TrainSettings(memory_gb=1), device=CPU)
    trained.save(tmp_path / "model")
    bundle, rows = load_bundle(tmp_path / "model"), inputs.training_rows
    assert bundle.index is not None and bundle.index.rows.shape == (len(rows), 512)  # of 1280 channels
    table = load_table(FeatureStore(tmp_path / "f"), list(rows.index), list(rows["label"]), views=0, memory_gb=1)
    distances = bundle.distances(table, CPU)
    assert distances is not None and distances.max() < 0.05
    folds = replace(bundle, tails=bundle.fold_tails)
    apart = folds.distances(table, CPU)
    assert apart is not None and apart.min() > 0.1
    runs: list[int] = []
    next(iter(folds.tails.values())).body.register_forward_hook(lambda *_: runs.append(1))
    scores, same = folds.scores_and_distances(table, CPU)
    assert len(runs) == 1 and list(scores) == [0, 1]  # one pass of one batch gives both
    assert same is not None and np.array_equal(same, apart)


def test_streamed_features_give_the_same_index(trained: Trained, tiny: Tiny, weights: Path, tmp_path: Path) -> None:
    inputs, recipe = tiny_inputs(tiny, trained, weights), tiny_recipe(epochs=1)
    for memory, name in ((1.0, "kept"), (1e-4, "streamed")):
        settings = TrainSettings(memory_gb=memory)
        train_recipe(recipe, inputs, settings, device=CPU).save(tmp_path / name)
    kept, streamed = (contents(tmp_path / name)["index.safetensors"] for name in ("kept", "streamed"))
    assert kept == streamed == contents(trained.model)["index.safetensors"]
