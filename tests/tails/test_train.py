"""Training: fresh for each fold, without its validation fold and test rows, deterministic, unchanged by evaluation."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_training import (
    CPU,
    FIRST_24,
    FOLDS,
    IMAGES,
    PLAIN,
    TABLE,
    cross_validated,
    fresh_tail,
    same,
)
from torch import nn

from ffdi.errors import FfdiError
from ffdi.metrics import auc
from ffdi.tails import train as training_module
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Epoch, Fit, Running
from ffdi.tails.folds import FoldedTable, Split
from ffdi.tails.heads import Tail
from ffdi.tails.optimisation import Optimizer
from ffdi.tails.recipe import Recipe
from ffdi.tails.train import (
    cross_validate,
    fit,
    fold_seed,
    predict_logits,
)


def test_it_learns() -> None:
    fits = cross_validated(replace(PLAIN, epochs=15))
    for fold, fitted in fits.items():
        tail = fresh_tail(0)
        tail.load_state_dict(fitted.state)
        mine = torch.tensor(FOLDS) != fold
        scores = predict_logits(tail, TABLE.of(torch.nonzero(mine).flatten()), 8, CPU)
        assert auc(TABLE.labels[mine].numpy(), scores) > 0.9
        assert fitted.history[-1].loss < fitted.history[0].loss
        assert [e.epoch for e in fitted.history] == list(range(15))


def test_training_repeats_and_ignores_the_global_generator() -> None:
    torch.manual_seed(1)
    first = cross_validated()
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    second = cross_validated()
    assert all(same(first[f].state, second[f].state) and first[f].history == second[f].history for f in first)
    assert all(np.array_equal(first[f].logits, second[f].logits) for f in first)
    torch.manual_seed(1)
    cross_validated(replace(PLAIN, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not same(first[0].state, cross_validated(replace(PLAIN, seed=1))[0].state)


# Invariant 3: every fold starts from a fresh tail and a fresh optimizer


def test_a_fold_does_not_know_which_folds_ran_before() -> None:
    every = cross_validated()
    place = torch.tensor(FOLDS)
    train, validation = (TABLE.of(torch.nonzero(side).flatten()) for side in (place != 2, place == 2))
    alone = fit(fresh_tail(fold_seed(0, 2)), Split(2, train, validation), PLAIN, device=CPU)
    assert same(alone.state, every[2].state) and alone.history == every[2].history


def test_every_fold_has_its_own_tail_and_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.optim.Optimizer] = []
    seeds: list[int] = []
    tails: list[Tail] = []
    build = training_module.build_optimizer

    def spy(settings: Optimizer, parameters: Any, lr: float) -> torch.optim.Optimizer:
        made.append(build(settings, parameters, lr))
        assert not made[-1].state  # no moments yet
        return made[-1]

    def fresh(seed: int) -> Tail:
        seeds.append(seed)
        tails.append(fresh_tail(seed))
        return tails[-1]

    monkeypatch.setattr(training_module, "build_optimizer", spy)
    cross_validate(fresh, IMAGES, PLAIN, device=CPU)
    assert seeds == [fold_seed(0, fold) for fold in range(3)] and len(set(seeds)) == 3
    assert len({id(o) for o in made}) == len({id(t) for t in tails}) == 3
    for optimizer, tail in zip(made, tails, strict=True):
        assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in tail.parameters()}


@pytest.mark.parametrize("kept", ["tail", "optimizer", "generator"])
def test_what_is_kept_over_folds_is_seen(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake planted: fold 2 is then no longer what it is alone."""
    every = cross_validated()
    if kept == "tail":
        one = fresh_tail(0)
        planted = cross_validate(lambda seed: one, IMAGES, PLAIN, device=CPU)
    else:
        real = training_module.start
        first: list[Running] = []

        def keep(*given: Any) -> Running:
            run = real(*given)
            first.append(run)
            if kept == "generator":
                return replace(run, generator=first[0].generator)
            moments = first[0].optimizer.state_dict() | {"param_groups": run.optimizer.state_dict()["param_groups"]}
            run.optimizer.load_state_dict(copy.deepcopy(moments))
            return run

        monkeypatch.setattr(training_module, "start", keep)
        planted = cross_validated()
        assert same(planted[0].state, every[0].state)
    assert not same(planted[2].state, every[2].state)


def test_randomness_from_elsewhere_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 7, the mistake planted: a step that draws from a generator of its own."""
    elsewhere, real = np.random.default_rng(), FeatureTable.shuffled
    monkeypatch.setattr(
        FeatureTable,
        "shuffled",
        lambda self, *given: ((x + elsewhere.normal(), y) for x, y in real(self, *given)),
    )
    assert not same(cross_validated()[0].state, cross_validated()[0].state)


def test_each_fold_has_an_order_of_its_own() -> None:
    """Without dropout the order of samples and the views drawn are all that is random."""
    ends = []
    for fold in (0, 0, 1):
        tail = fresh_tail(0)
        tail.head[1] = nn.Identity()
        ends.append(fit(tail, replace(FIRST_24, fold=fold), PLAIN, device=CPU).state)
    assert same(ends[0], ends[1]) and not same(ends[0], ends[2])


def test_fold_seeds_of_neighbours_differ() -> None:
    assert len({fold_seed(seed, fold) for seed in range(5) for fold in range(5)}) == 25  # (0, 1) is not (1, 0)


# Invariants 2 and 4: what training is handed


@pytest.mark.parametrize("place", [0, 17, 35])
def test_a_test_row_in_training_is_refused(place: int) -> None:
    folds = FOLDS.copy()
    folds[place] = -1
    with pytest.raises(FfdiError, match="a test row came to training"):
        FoldedTable.of(TABLE, folds)


@pytest.mark.parametrize("views", ["sample", "all"])
def test_a_fold_trains_on_no_view_of_its_own_images(views: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, validated = [], []
    real = training_module.fit

    def spy(tail: Tail, split: Split, recipe: Recipe, **rest: Any) -> Fit:
        trained.append(set(split.train.image_ids))
        validated.append(set(split.validation.image_ids))
        assert int(split.train.views.sum()) == 2 * len(split.train)
        return real(tail, split, recipe, **rest)

    monkeypatch.setattr(training_module, "fit", spy)
    cross_validated(replace(PLAIN, views=views, epochs=1))
    for fold in range(3):
        own = {f"i{n}" for n in range(36) if FOLDS[n] == fold}
        assert validated[fold] == own and trained[fold] == set(TABLE.image_ids) - own


def test_synthesised_images_train_but_do_not_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = training_module.fit

    def spy(tail: Tail, split: Split, recipe: Recipe, **rest: Any) -> Fit:
        seen.append((set(split.train.image_ids), set(split.validation.image_ids)))
        return real(tail, split, recipe, **rest)

    monkeypatch.setattr(training_module, "fit", spy)
    made_up = {n for n in range(36) if n % 5 == 0}
    cross_validated(replace(PLAIN, epochs=1), FoldedTable.of(TABLE, FOLDS, [n not in made_up for n in range(36)]))
    for fold, (trained, validated) in enumerate(seen):
        own = {n for n in range(36) if FOLDS[n] == fold}
        assert validated == {f"i{n}" for n in own - made_up}
        assert trained == {f"i{n}" for n in range(36) if n not in own}  # a source in this fold keeps its fakes out


@pytest.mark.parametrize(("asked", "ran"), [("all", [0, 1, 2]), (1, [0]), (2, [0, 1])])
def test_the_first_folds_can_be_run_alone(asked: Any, ran: list[int]) -> None:
    assert list(cross_validated(replace(PLAIN, epochs=1, folds=asked))) == ran


# Invariant 5: evaluation changes nothing


@pytest.mark.parametrize("mode", [True, False])
def test_prediction_changes_nothing_and_has_no_dropout(mode: bool) -> None:
    tail = fresh_tail(0).train(mode)
    before = {k: v.clone() for k, v in tail.state_dict().items()}
    generator = torch.random.get_rng_state()
    first = predict_logits(tail, TABLE, 8, CPU)
    assert np.array_equal(first, predict_logits(tail, TABLE, 8, CPU))
    assert same(before, tail.state_dict())
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert tail.training is mode
    assert first.dtype == np.float64
    np.testing.assert_allclose(first, predict_logits(tail, TABLE, 5, CPU), rtol=1e-5)  # nor on its batch


def test_a_missing_eval_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake planted: dropout makes two predictions differ, and BatchNorm learns from what it is shown."""
    monkeypatch.setattr(nn.Module, "eval", lambda self: self)
    tail = fresh_tail(0).train()
    before = {k: v.clone() for k, v in tail.state_dict().items()}
    assert not np.array_equal(predict_logits(tail, TABLE, 8, CPU), predict_logits(tail, TABLE, 8, CPU))
    assert not same(before, tail.state_dict())


def test_validation_does_not_change_what_is_learned() -> None:
    """The same tail trained with two validation sets: only the choice of the epoch may differ."""
    train = TABLE.of(torch.arange(24))
    ends = []
    for validation in (TABLE.of(torch.arange(24, 36)), TABLE.of(torch.arange(30, 32))):
        tail = fresh_tail(0)
        fit(tail, Split(0, train, validation), PLAIN, device=CPU)
        ends.append({k: v.clone() for k, v in tail.state_dict().items()})
    assert same(*ends)


# The choice of the epoch


def scripted(monkeypatch: pytest.MonkeyPatch, aucs: list[float]) -> None:
    """Validation AUCs as written; each epoch asks for two (the running one, then validation)."""
    values = iter([v for a in aucs for v in (0.5, a)])
    monkeypatch.setattr(training_module, "auc", lambda labels, scores: next(values))


@pytest.mark.parametrize(
    ("aucs", "patience", "epochs", "best"),
    [
        ([0.6, 0.9, 0.7, 0.8], None, 4, 1),
        ([0.6, 0.9, 0.9, 0.9], None, 4, 1),  # the earliest of equals
        ([0.6, 0.9, 0.7, 0.8, 0.95], 2, 4, 1),
        ([0.6, 0.9, 0.7, 0.95, 0.8], 2, 5, 3),
        ([0.9, 0.8], 1, 2, 0),
    ],
)
def test_the_best_epoch_is_kept(
    aucs: list[float], patience: int | None, epochs: int, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    tail = fresh_tail(0)
    scripted(monkeypatch, aucs)
    fitted = fit(
        tail,
        FIRST_24,
        replace(PLAIN, epochs=len(aucs), patience=patience),
        device=CPU,
        on_epoch=lambda epoch: states.append({k: v.clone() for k, v in tail.state_dict().items()}),
    )
    assert (len(fitted.history), fitted.best_epoch) == (epochs, best)
    assert same(fitted.state, states[best]) and not same(fitted.state, states[-1])
    tail.load_state_dict(fitted.state)
    assert np.array_equal(predict_logits(tail, TABLE.of(torch.arange(24, 36)), 8, CPU), fitted.logits)


def test_history_is_told_epoch_by_epoch() -> None:
    told: list[Epoch] = []
    fits = cross_validated(on_epoch=told.append)
    assert told == [epoch for fitted in fits.values() for epoch in fitted.history]
    assert [(e.fold, e.epoch) for e in told] == [(f, e) for f in range(3) for e in range(3)]
