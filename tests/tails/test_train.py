"""Training: fresh for each fold, without its validation fold and test rows, deterministic, unchanged by evaluation."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_recipe
from torch import Tensor, nn

from ffdi.errors import FfdiError
from ffdi.metrics import auc
from ffdi.tails import train as training_module
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Epoch, Fit, Running
from ffdi.tails.feature_source import InMemory
from ffdi.tails.folds import FoldedTable, Split
from ffdi.tails.heads import Tail
from ffdi.tails.recipe import Mix, Optimizer, Recipe, Schedule
from ffdi.tails.train import (
    add_l1_gradient,
    build_optimizer,
    class_weights,
    cross_validate,
    fit,
    fold_seed,
    predict_logits,
    start,
    train_epoch,
)

CPU = torch.device("cpu")
NONE = Schedule()
PLAIN = tiny_recipe(epochs=3, batch_size=8, lr=0.01)


def fresh_tail(seed: int) -> Tail:
    """A body with BatchNorm and a head with dropout on 4x2x2 features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        return Tail(body, nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, 2)), None)


def make_table(count: int = 36, views: int = 2, seed: int = 0) -> FeatureTable:
    """Fakes have a brighter first channel."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = rng.normal(size=(count, views, 4, 2, 2))
    features[:, :, 0] += 2.0 * labels[:, None, None, None]
    return FeatureTable(
        tuple(f"i{n}" for n in range(count)),
        InMemory(torch.tensor(features.reshape(-1, 4, 2, 2), dtype=torch.float16)),
        torch.arange(count) * views,
        torch.full((count,), views),
        torch.tensor(labels),
    )


TABLE = make_table()
FOLDS = [(n // 2) % 3 for n in range(36)]


IMAGES = FoldedTable.of(TABLE, FOLDS)
FIRST_24 = Split(0, TABLE.of(torch.arange(24)), TABLE.of(torch.arange(24, 36)))


def cross_validated(recipe: Recipe = PLAIN, images: FoldedTable = IMAGES, **options: Any) -> dict[int, Fit]:
    return cross_validate(fresh_tail, images, recipe, device=CPU, **options)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[k], other[k]) for k in one) and set(one) == set(other)


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


# The loss, the step, the schedule


@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_l1_is_the_gradient_of_the_sum_of_magnitudes(l1: float) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, 4, 2, 2), torch.tensor([0, 1, 0, 1, 1])
    tail = fresh_tail(0).eval()
    parameters = list(tail.parameters())
    nn.functional.cross_entropy(tail(x), y).backward()
    add_l1_gradient(parameters, l1)
    twin = fresh_tail(0).eval()
    loss = nn.functional.cross_entropy(twin(x), y) + l1 * sum(p.abs().sum() for p in twin.parameters())
    loss.backward()
    for p, q in zip(parameters, twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (NONE, {0: 1, 2.5: 1}),
        (Schedule("step", 2, 0.1, 0), {0: 1, 1.9: 1, 2: 0.1, 3.5: 0.1, 4: 0.01}),
        (Schedule("cosine", 1, 0.1, 0), {0: 1, 2: 0.5, 4: 0, 1: 0.5 + math.sqrt(0.125)}),
        (Schedule("cosine", 1, 0.1, 2), {0: 0.0005, 1: 0.5005, 2: 1, 3: 0.5, 4: 0}),
    ],
    ids=["none", "step", "cosine", "warmup"],
)
def test_schedules_by_hand(schedule: Schedule, factors: dict[float, float]) -> None:
    for epoch, due in factors.items():
        assert schedule.factor(epoch, 4) == pytest.approx(due)


def test_a_warmup_as_long_as_the_training_is_no_division_by_zero() -> None:
    assert 0 < Schedule("cosine", 1, 0.1, 4).factor(3.9, 4) < 1


def test_the_schedule_reaches_the_optimizer() -> None:
    history = cross_validated(replace(PLAIN, schedule=Schedule("step", 1, 0.1, 0)))[0].history
    assert [e.lr for e in history] == pytest.approx([0.01, 0.001, 0.0001])


@pytest.mark.parametrize(
    ("optimizer", "kind", "momentum"),
    [
        (Optimizer("adam", 0.1, None), torch.optim.Adam, None),
        (Optimizer("adamw", 0.1, None), torch.optim.AdamW, None),
        (Optimizer("sgd", 0.1, None), torch.optim.SGD, 0.9),
        (Optimizer("sgd", 0.1, 0.5), torch.optim.SGD, 0.5),
    ],
)
def test_optimizers(optimizer: Optimizer, kind: type, momentum: float | None) -> None:
    made = build_optimizer(optimizer, [nn.Parameter(torch.zeros(1))], 0.3)
    assert type(made) is kind
    group = made.param_groups[0]
    assert (group["lr"], group["weight_decay"], group.get("momentum")) == (0.3, 0.1, momentum)


@pytest.mark.parametrize(
    "change",
    [
        {"l1": 0.01},
        {"label_smoothing": 0.2},
        {"mix": Mix(mixup=0.5)},
        {"mix": Mix(cutmix=0.5)},
        {"augment": ("hflip",)},
        {"views": "all"},
        {"batch_size": 5},
        {"lr": 0.02},
        {"optimizer": Optimizer("adamw", 0.5, None)},
        {"class_weights": (0.2, 0.8)},
        {"clip_grad": 0.01},
        {"ema": 0.9},
        {"precision": "bfloat16"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_reaches_the_training(change: dict[str, Any]) -> None:
    base, changed = cross_validated(replace(PLAIN, epochs=1)), cross_validated(replace(PLAIN, epochs=1, **change))
    assert not same(base[0].state, changed[0].state)
    assert changed[0].history[0].loss > 0


@pytest.mark.parametrize(
    ("weights", "due"),
    [(None, None), ((1.0, 3.0), [1, 3]), ("balanced", [4 / 6, 4 / 2])],  # three reals and a fake: N / (2 x count)
    ids=["none", "given", "balanced"],
)
def test_class_weights_by_hand(weights: Any, due: list[float] | None) -> None:
    made = class_weights(replace(PLAIN, class_weights=weights), torch.tensor([0, 0, 1, 0]))
    assert made is None if due is None else made.tolist() == pytest.approx(due)


def test_balanced_classes_weigh_the_same_as_none() -> None:
    plain, balanced = (cross_validated(replace(PLAIN, epochs=1, class_weights=w))[0].state for w in (None, "balanced"))
    assert all(torch.allclose(plain[k], balanced[k]) for k in plain)  # the table has as many fakes as reals


def test_clipping_bounds_the_step() -> None:
    """Plain SGD moves by lr x gradient: the parameters' move in one step is lr x the bound."""
    tail = fresh_tail(0)
    before = [p.detach().clone() for p in tail.parameters()]
    settings = replace(PLAIN, epochs=1, batch_size=64, clip_grad=0.05, lr=0.5, optimizer=Optimizer("sgd", 0.0, 0.0))
    train_epoch(start(tail, settings, torch.Generator(), CPU), TABLE, settings, 0)
    moved = [p.detach() - q for p, q in zip(tail.parameters(), before, strict=True)]
    assert torch.cat([m.flatten() for m in moved]).norm() == pytest.approx(0.5 * 0.05, rel=1e-3)


def test_an_average_follows_the_weights_and_is_what_is_kept() -> None:
    """After two steps: decay x first + (1 - decay) x second, buffers as well."""
    settings = replace(PLAIN, epochs=1, batch_size=18, ema=0.75)
    plain, averaged = fresh_tail(0), fresh_tail(0)
    seen: list[dict[str, Tensor]] = []
    run = start(plain, settings, torch.Generator().manual_seed(3), CPU)
    update = run.average.update_parameters  # type: ignore[union-attr]

    def spy(module: nn.Module) -> None:
        seen.append({k: v.clone() for k, v in module.state_dict().items()})
        update(module)

    run.average.update_parameters = spy  # type: ignore[union-attr,method-assign]
    torch.manual_seed(0)
    train_epoch(run, TABLE, settings, 0)
    assert len(seen) == 2 and run.judged is not plain
    for key, value in run.judged.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * seen[0][key] + 0.25 * seen[1][key])
    fitted = fit(averaged, FIRST_24, settings, device=CPU)
    assert not same(fitted.state, averaged.state_dict())
    tail = fresh_tail(0)
    tail.load_state_dict(fitted.state)
    assert np.array_equal(predict_logits(tail, FIRST_24.validation, 18, CPU), fitted.logits)


def test_frozen_parameters_stay() -> None:
    tail = fresh_tail(0)
    tail.body.requires_grad_(False)
    before = tail.body[0].weight.clone()
    fit(tail, FIRST_24, PLAIN, device=CPU)
    assert torch.equal(tail.body[0].weight, before)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("batch_size", [8, 64], ids=["many-steps", "one-step"])
def test_a_training_that_diverges_is_an_error_that_names_the_rate(epochs: int, batch_size: int) -> None:
    """With one step an epoch the loss is still finite when the weights no longer are."""
    diverging = replace(PLAIN, lr=1e38, epochs=epochs, batch_size=batch_size, optimizer=Optimizer("sgd", 0.0, 0.0))
    with pytest.raises(FfdiError, match=r"fold 0, epoch 0: .*lower lr \(is 1e\+38\)"):
        cross_validated(diverging)


def test_batches_of_one_are_trained_when_asked_for() -> None:
    history = cross_validated(replace(PLAIN, batch_size=1, epochs=1))[0].history
    assert math.isfinite(history[0].loss)


def test_out_of_memory_is_an_error_that_names_the_batch_size_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(training_module, "add_l1_gradient", no_room)
    with pytest.raises(FfdiError, match="fold 0: out of memory on cpu with batch_size 12: set batch_size to 6"):
        cross_validated(replace(PLAIN, batch_size=12))
