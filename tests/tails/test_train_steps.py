"""Training: the loss, the step, the schedule, the optimizer and the average, by hand where they can be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_training import (
    CPU,
    FIRST_24,
    NONE,
    PLAIN,
    TABLE,
    cross_validated,
    fresh_tail,
    same,
)
from torch import Tensor, nn

from ffdi.errors import FfdiError
from ffdi.tails import train as training_module
from ffdi.tails.class_weights import class_weights
from ffdi.tails.optimisation import Mix, Optimizer, Schedule
from ffdi.tails.train import (
    add_l1_gradient,
    build_optimizer,
    fit,
    predict_logits,
    start,
    train_epoch,
)


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
    train_epoch(start(tail, settings, TABLE, torch.Generator(), CPU), TABLE, settings, 0)
    moved = [p.detach() - q for p, q in zip(tail.parameters(), before, strict=True)]
    assert torch.cat([m.flatten() for m in moved]).norm() == pytest.approx(0.5 * 0.05, rel=1e-3)


def test_an_average_follows_the_weights_and_is_what_is_kept() -> None:
    """After two steps: decay x first + (1 - decay) x second, buffers as well."""
    settings = replace(PLAIN, epochs=1, batch_size=18, ema=0.75)
    plain, averaged = fresh_tail(0), fresh_tail(0)
    seen: list[dict[str, Tensor]] = []
    run = start(plain, settings, TABLE, torch.Generator().manual_seed(3), CPU)
    update = run.average.update  # type: ignore[union-attr]

    def spy() -> None:
        seen.append({k: v.clone() for k, v in plain.state_dict().items()})
        update()

    run.average.update = spy  # type: ignore[union-attr,method-assign]
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
