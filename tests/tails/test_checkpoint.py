"""Interrupted training resumes to the same bytes, and only from a checkpoint of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_recipe
from small_training import killed_at
from torch import Tensor, nn

from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Checkpoints, Epoch, Fit, training_key
from ffdi.tails.feature_source import InMemory
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import Tail
from ffdi.tails.optimisation import Mix, Optimizer, Schedule
from ffdi.tails.recipe import Recipe
from ffdi.tails.train import cross_validate

CPU = torch.device("cpu")
# Everything that has a state or draws at random: dropout, BatchNorm, moments, an average, a schedule, mixing, flips.
RECIPE = tiny_recipe(
    epochs=4,
    batch_size=8,
    lr=0.01,
    ema=0.9,
    mix=Mix(0.2, 1.0),
    augment=("hflip",),
    schedule=Schedule("cosine", 1, 0.1, 1),
)
FOLDS = [(n // 2) % 3 for n in range(36)]


def fresh_tail(seed: int) -> Tail:
    """With a 3x3 convolution over several channels, whose memory differs with the layout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        return Tail(body, nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, 2)), None)


def make_table() -> FeatureTable:
    rng = np.random.default_rng(0)
    features = torch.tensor(rng.normal(size=(72, 4, 3, 3)), dtype=torch.float16)
    count = torch.arange(36)
    return FeatureTable(
        tuple(f"i{n}" for n in range(36)), InMemory(features), 2 * count, torch.full((36,), 2), count % 2
    )


def cross_validated(folder: Path, key: str = "k", recipe: Recipe = RECIPE, **options: Any) -> dict[int, Fit]:
    checkpoints = Checkpoints(folder, key)
    images = FoldedTable.of(make_table(), FOLDS)
    return cross_validate(fresh_tail, images, recipe, device=CPU, checkpoints=checkpoints, **options)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[k], other[k]) for k in one) and set(one) == set(other)


def equal(one: dict[int, Fit], other: dict[int, Fit]) -> bool:
    return set(one) == set(other) and all(
        same(one[f].state, other[f].state)
        and np.array_equal(one[f].logits, other[f].logits)
        and (one[f].history, one[f].best_epoch) == (other[f].history, other[f].best_epoch)
        for f in one
    )


@pytest.mark.parametrize(
    "optimizer",
    [Optimizer("adam", 0.1), Optimizer("adamw", 0.1), Optimizer("sgd", 0.0, 0.9)],
    ids=lambda optimizer: optimizer.name,
)
@pytest.mark.parametrize(("fold", "epoch"), [(0, 0), (0, 2), (1, 3), (2, 1)])
def test_a_broken_run_goes_on_to_the_same_bytes(tmp_path: Path, optimizer: Optimizer, fold: int, epoch: int) -> None:
    recipe = replace(RECIPE, optimizer=optimizer)
    whole = cross_validated(tmp_path / "whole", recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        cross_validated(tmp_path / "broken", recipe=recipe, on_epoch=killed_at(fold, epoch))
    torch.manual_seed(99)
    told: list[Epoch] = []
    assert equal(cross_validated(tmp_path / "broken", recipe=recipe, on_epoch=told.append), whole)
    assert told == [e for f in whole.values() for e in f.history]  # curves are whole, too


def test_only_what_is_missing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        cross_validated(tmp_path, on_epoch=killed_at(1, 2))
    epochs = []
    real = FeatureTable.shuffled
    monkeypatch.setattr(FeatureTable, "shuffled", lambda *a: epochs.append(1) or real(*a))
    cross_validated(tmp_path)
    assert len(epochs) == 1 + 4  # the last of fold 1, all of fold 2
    cross_validated(tmp_path)
    assert len(epochs) == 5


def test_a_fit_that_had_lost_patience_stays_over(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=30, patience=1)
    first = cross_validated(tmp_path, recipe=recipe)
    assert all(len(f.history) < 30 for f in first.values())
    assert equal(cross_validated(tmp_path, recipe=recipe), first)


def test_a_checkpoint_of_another_training_is_as_good_as_none(tmp_path: Path) -> None:
    whole = cross_validated(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        cross_validated(tmp_path / "broken", "other", replace(RECIPE, lr=0.1), on_epoch=killed_at(0, 2))
    assert equal(cross_validated(tmp_path / "broken"), whole)


@pytest.mark.parametrize("harm", ["flipped bit", "cut short", "empty", "no checkpoint"])
def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path: Path, harm: str) -> None:
    whole = cross_validated(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        cross_validated(tmp_path / "broken", on_epoch=killed_at(0, 2))
    file = Checkpoints(tmp_path / "broken", "").file(0)
    raw = bytearray(file.read_bytes())
    size = 8 + int.from_bytes(raw[:8], "little")
    weight = json.loads(raw[8:size])["tail/body.0.weight"]["data_offsets"][0]
    raw[size + weight + 2] ^= 1 << 6  # of the exponent
    changed = {"flipped bit": bytes(raw), "cut short": bytes(raw[: len(raw) // 2]), "empty": b"", "no checkpoint": b"x"}
    file.write_bytes(changed[harm])
    assert equal(cross_validated(tmp_path / "broken"), whole)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    real, calls = safetensors.torch.save_file, []

    def half(tensors: Any, file: Path, header: Any) -> None:
        calls.append(file)
        real(tensors, file, header)
        if len(calls) == 3:
            file.write_bytes(file.read_bytes()[:100])
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", half)
        with pytest.raises(KeyboardInterrupt):
            cross_validated(tmp_path / "broken")
    assert equal(cross_validated(tmp_path / "broken"), cross_validated(tmp_path / "whole"))


def test_the_key_knows_settings_threads_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    key = training_key({"lr": 1})
    assert key == training_key({"lr": 1}) != training_key({"lr": 2})
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 99)
        assert training_key({"lr": 1}) != key
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **o: real(self, **o) + "#" * (self.name == "batches.py"))
    assert training_key({"lr": 1}) != key
