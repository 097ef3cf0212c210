"""Several ranks train as one process does at the same batch size."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_recipe
from small_team import together
from small_training import FOLDS, fresh_tail, killed_at, make_table, same
from torch import nn

from ffdi.errors import ParamsError
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Checkpoints, Fit
from ffdi.tails.feature_source import InMemory
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import Tail
from ffdi.tails.optimisation import ExtraLosses, Mix, Optimizer
from ffdi.tails.ranks import LostRankError, Team
from ffdi.tails.recipe import Head, Recipe
from ffdi.tails.train import cross_validate

CPU = torch.device("cpu")
GROUPS = [f"g{n // 2}" for n in range(36)]
PLAIN = tiny_recipe(epochs=2, batch_size=7, lr=0.01, folds=1)  # 24 images: 7, 7, 7, 3
RECIPES = {
    "plain": PLAIN,
    "all at once": replace(
        PLAIN,
        optimizer=Optimizer("sgd", 0.01),
        class_weights=(1.0, 3.0),
        label_smoothing=0.1,
        clip_grad=0.5,
        ema=0.8,
        l1=1e-3,
        views="all",
    ),
    "mixed": replace(PLAIN, mix=Mix(0.4, 0.4), class_weights=(1.0, 3.0)),
    "sphere": replace(PLAIN, loss=ExtraLosses(0.1, 0.5), pairing="group", batch_size=8),
    "few": replace(PLAIN, batch_size=5, epochs=1),  # the last batch has 4 images
}
AVERAGED = replace(PLAIN, ema=0.9)
AUGMENT = ("hflip", {"jitter": {"brightness": 0.5, "hue": 0.3}}, "crop", "blur", "noise", "jpeg", "webp")


def without_dropout(seed: int, channels: int = 4, kernel: int = 1, pixels: Any = None) -> Tail:
    """A body with BatchNorm, and no bias before it: the gradient of one is 0 but for rounding, which Adam makes a step of."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convolution = nn.Conv2d(channels, 6, kernel, bias=False)
        body = nn.Sequential(convolution, nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        return Tail(body, nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), pixels)


def of_images(seed: int) -> Tail:
    return without_dropout(seed, 3, 3, ((0.5,) * 3, (0.3,) * 3))


def pictures() -> FoldedTable:
    drawn = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (36, 3, 12, 12), dtype=np.uint8))
    ones = torch.ones(36, dtype=torch.int64)
    ids = tuple(map(str, range(36)))
    return FoldedTable.of(FeatureTable(ids, InMemory(drawn), torch.arange(36), ones, torch.arange(36) % 2), FOLDS)


def trained(recipe: Recipe, fresh: Callable[[int], Tail] = without_dropout, **options: Any) -> Fit:
    images = FoldedTable.of(make_table(), FOLDS, groups=GROUPS)
    return cross_validate(fresh, images, recipe, device=CPU, **options)[0]


def of_pictures(team: Team | None = None) -> Fit:
    recipe = replace(PLAIN, augment=AUGMENT, mix=Mix(0.4), epochs=1)
    return cross_validate(of_images, pictures(), recipe, device=CPU)[0]


def every(team: Team | None = None) -> dict[str, Fit]:
    return {name: trained(recipe) for name, recipe in RECIPES.items()} | {"pictures": of_pictures()}


def alike(one: Fit, other: Fit) -> None:
    """Rounding is all that differs: weights within 2e-5, logits and losses within 1e-4."""
    for name, value in one.state.items():
        torch.testing.assert_close(other.state[name], value, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(other.logits, one.logits, rtol=1e-4, atol=1e-4)
    assert one.best_epoch == other.best_epoch
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert (mine.loss, mine.train_auc) == pytest.approx((theirs.loss, theirs.train_auc), abs=1e-4)


@pytest.mark.parametrize("ranks", [2, 5])
def test_ranks_train_as_one_process_does(ranks: int) -> None:
    due, found = every(), together(ranks, every)
    for name, fitted in due.items():
        alike(fitted, found[0][name])
        for other in found[1:]:
            assert same(found[0][name].state, other[name].state) and found[0][name].history == other[name].history


def _killed(folder: Path, team: Team) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(AVERAGED, fresh_tail, on_epoch=killed_at(0, 0), checkpoints=Checkpoints(folder, "key"))


def _gone_on(folder: Path, team: Team) -> tuple[Fit, Fit]:
    return trained(AVERAGED, fresh_tail, checkpoints=Checkpoints(folder, "key")), trained(AVERAGED, fresh_tail)


def test_a_killed_training_of_ranks_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Also what dropout drops, which each rank draws for itself."""
    together(2, partial(_killed, tmp_path))
    gone_on, whole = together(2, partial(_gone_on, tmp_path))[0]
    assert same(whole.state, gone_on.state) and whole.history == gone_on.history
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-0.safetensors"]


def _draws(team: Team) -> tuple[Any, Any]:
    torch.manual_seed(0)
    with team.own_draws((1, 2)) as alike:
        own = torch.rand(3 + team.rank)
        with alike():
            common = torch.rand(3)
    return own, common


def test_each_rank_drops_something_else() -> None:
    """Were all ranks seeded alike, or were the draws of augmentation moved on by dropout, one of these would fail."""
    (first, common), (second, other) = together(2, _draws)
    torch.manual_seed(0)
    assert torch.equal(common, other) and torch.equal(common, torch.rand(3)) and not torch.equal(first, second[:3])


def _trained_by_the_first(team: Team) -> Any:
    def die(epoch: Any) -> None:
        if not team.leads:
            os.kill(os.getpid(), signal.SIGKILL)

    return trained(PLAIN, on_epoch=die)


def test_a_rank_that_dies_ends_the_others_with_one_line() -> None:
    lost, dead = together(2, _trained_by_the_first)
    assert dead is None and isinstance(lost, LostRankError)
    assert str(lost).startswith("fold 0, epoch 1: rank 0 of 2 lost another one") and "\n" not in str(lost)


def _trained_in_its_own_folder(folder: Path, team: Team) -> Any:
    return trained(PLAIN, checkpoints=Checkpoints(folder / str(team.rank), "key"))


def test_ranks_that_see_other_checkpoints_say_so(tmp_path: Path) -> None:
    trained(PLAIN, checkpoints=Checkpoints(tmp_path / "0", "key"))
    found = together(2, partial(_trained_in_its_own_folder, tmp_path))[1]
    assert "see other checkpoints, so many epochs: rank 0: 2, rank 1: 0" in str(found)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (replace(PLAIN, batch_size=1), "batch_size 1 is of all 2 processes together"),
        (replace(PLAIN, head=Head("probe")), "head probe is fitted at once: one process is enough"),
    ],
)
def test_ranks_without_work_are_refused(recipe: Recipe, says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        Team(0, 2).refuse_idle(recipe)
