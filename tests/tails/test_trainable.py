"""What trains: the choice, and that everything else is byte for byte what it was and costs nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import CPU, FIRST_24, IMAGES, PLAIN, TABLE, killed_at, same
from torch import Tensor, nn

from ffdi.errors import ParamsError
from ffdi.tails import train as training_module
from ffdi.tails.checkpoint import Checkpoints, Fit, Running
from ffdi.tails.heads import Tail
from ffdi.tails.optimisation import Optimizer
from ffdi.tails.recipe import Recipe, Trainable
from ffdi.tails.train import cross_validate, fit, start, train_epoch
from ffdi.tails.trainable import load_trained


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1))


def fresh_tail(seed: int = 0) -> Tail:
    """Three blocks with BatchNorm and dropout, a last norm that stands alone, and a head, on 4x2x2 features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(convolution(), convolution(), convolution(), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))
        return Tail(body, nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(4, 2)), None)


def begun(recipe: Recipe, tail: Tail | None = None) -> Running:
    return start(tail or fresh_tail(), recipe, TABLE, torch.Generator().manual_seed(0), CPU)


NORMS = [f"{at}.{name}" for at in ("0.1", "1.1", "2.1", "3") for name in ("weight", "bias")]
STATISTICS = [f"{at}.{n}" for at in ("0.1", "1.1", "2.1", "3") for n in ("running_mean", "running_var")]


@pytest.mark.parametrize(
    ("trainable", "parameters", "moving"),
    [
        ("head", [], []),
        ("norms", NORMS, STATISTICS),
        ({"last": 1}, ["2.0.weight", "2.0.bias", *NORMS[4:]], STATISTICS[4:]),
        ({"last": 3}, [f"{n}.0.{p}" for n in range(3) for p in ("weight", "bias")] + NORMS, STATISTICS),
        (("1",), ["1.0.weight", "1.0.bias", *NORMS[2:4]], STATISTICS[2:4]),
        (("*.bias",), [f"{n}.0.bias" for n in range(3)] + [n for n in NORMS if "bias" in n], STATISTICS),
        (("2.0.weight", "3"), ["2.0.weight", "3.weight", "3.bias"], STATISTICS[6:]),
        (("[01].1",), NORMS[:4], STATISTICS[:4]),
    ],
    ids=str,
)
def test_what_trains_changes_and_nothing_else(trainable: Trainable, parameters: list[str], moving: list[str]) -> None:
    """The whole state before and after: weights, and the running statistics of BatchNorm."""
    tail = fresh_tail()
    with torch.no_grad():
        tail.body[0][0].weight[0] = -0.0  # adding 0 to it would change its bytes
    before = copy.deepcopy(tail.state_dict())
    fitted = fit(
        tail, FIRST_24, replace(PLAIN, trainable=trainable, ema=0.5, optimizer=Optimizer("adamw", 0.1)), device=CPU
    )
    after = tail.state_dict()
    changed = {k for k, v in after.items() if v.numpy().tobytes() != before[k].numpy().tobytes()}
    counts = {name.replace("running_mean", "num_batches_tracked") for name in moving if "mean" in name}
    due = {f"body.{name}" for name in (*parameters, *moving, *counts)} | {"head.2.weight", "head.2.bias"}
    assert changed == due
    assert set(fitted.state) == due  # and only these are kept


def test_a_module_of_which_nothing_trains_is_in_eval_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dropout, too; dropout beside something that trains is as random as ever."""
    modes: list[dict[str, bool]] = []
    real = training_module.add_l1_gradient
    tail = fresh_tail()

    def spy(*given: Any) -> None:
        modes.append({name: module.training for name, module in tail.named_modules()})
        real(*given)

    monkeypatch.setattr(training_module, "add_l1_gradient", spy)
    fit(tail, FIRST_24, replace(PLAIN, trainable={"last": 1}), device=CPU)
    assert len(modes) == 9  # also after a validation, which leaves each module in the mode it had
    for mode in modes:
        still = {name for name in mode if name.startswith(("body.0", "body.1"))}
        assert [name for name, training in mode.items() if training is (name in still)] == []


def test_what_is_frozen_has_no_gradient_and_no_moments() -> None:
    run = begun(replace(PLAIN, trainable={"last": 1}))
    train_epoch(run, TABLE, replace(PLAIN, trainable={"last": 1}), 0)
    for name, parameter in run.tail.named_parameters():
        assert (parameter.grad is None) is name.startswith(("body.0", "body.1")), name
    trained = {id(p) for p in run.tail.parameters() if p.requires_grad}
    assert {id(p) for p in run.optimizer.state} == trained


@pytest.mark.parametrize(("trainable", "kept"), [("all", True), ("head", False), ({"last": 1}, False), (("0",), True)])
def test_activations_of_a_frozen_beginning_are_not_kept(trainable: Trainable, kept: bool) -> None:
    run = begun(replace(PLAIN, trainable=trainable))
    run.trained.train_mode(run.tail)
    inside: list[bool] = []
    saved: list[Tensor] = []
    first = run.tail.get_submodule("body.0")
    first.register_forward_pre_hook(lambda module, given: inside.append(True))
    first.register_forward_hook(lambda module, given, result: inside.clear())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (inside and saved.append(t), t)[1], lambda t: t):
        run.tail(TABLE.source.features[:8]).sum().backward()  # type: ignore[attr-defined]
    assert bool(saved) is kept


@pytest.mark.parametrize(
    ("trainable", "says"),
    [
        ({"last": 4}, r"recipe tiny: trainable: last: 4: the body has 3 blocks at this cut: 0.0, 1.0, 2.0$"),
        (("2.1.wait",), r"trainable: '2.1.wait' matches no parameter of the body; near names: .*2\.1\.weight"),
        (("0", "zzz"), r"trainable: 'zzz' matches no parameter of the body; near names: 0.0.weight, 0.0, 0"),
    ],
)
def test_a_choice_that_names_nothing_is_an_error(trainable: Trainable, says: str) -> None:
    with pytest.raises(ParamsError, match=says) as error:
        begun(replace(PLAIN, trainable=trainable))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("trainable", "says"),
    [
        ("norms", "norms: the body has none at this cut"),
        ({"last": 1}, "the body has 0 blocks at this cut$"),
        (("*",), "matches no parameter of the body: at this cut it has none"),
    ],
)
def test_a_tail_without_a_body_has_only_its_head_to_train(trainable: Trainable, says: str) -> None:
    def bare() -> Tail:
        return Tail(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), None)

    with pytest.raises(ParamsError, match=says):
        begun(replace(PLAIN, trainable=trainable), bare())
    run = begun(replace(PLAIN, trainable="head"), bare())
    assert run.trained.names == {"head.1.weight", "head.1.bias"}


def test_what_the_network_has_frozen_stays_frozen() -> None:
    tail = fresh_tail()
    tail.body[2][0].weight.requires_grad_(False)
    run = begun(replace(PLAIN, trainable={"last": 1}), tail)
    assert "body.2.0.bias" in run.trained.names and "body.2.0.weight" not in run.trained.names


# Groups of the optimizer


def test_the_rate_falls_from_block_to_block() -> None:
    """The head has the full rate, the last block and its norm half of it, and so on."""
    recipe = replace(PLAIN, lr_decay=0.5)
    tail = fresh_tail()
    tail.body.register_parameter("position", nn.Parameter(torch.zeros(4)))  # of no block: the rate of the first
    run = begun(recipe, tail)
    train_epoch(run, TABLE, recipe, 0)
    names = {id(p): name for name, p in tail.named_parameters()}
    rates = {names[id(p)]: group["lr"] / 0.01 for group in run.optimizer.param_groups for p in group["params"]}
    due = {"head": 1, "body.3": 0.5, "body.2": 0.5, "body.1": 0.25, "body.0": 0.125, "body.position": 0.125}
    assert rates == {name: due[next(start for start in due if name.startswith(start))] for name in rates}
    assert set(rates) == {name for name, _ in tail.named_parameters()}


def test_weights_alone_decay() -> None:
    tail = fresh_tail()
    tail.body.register_parameter("class_token", nn.Parameter(torch.zeros(1, 1, 4)))
    tail.body.register_module("scale", nn.PReLU(4))
    tail.body.register_module("wide", nn.LayerNorm((4, 2, 2)))
    optimizer = Optimizer("adamw", 0.3, decayed="weights")
    run = begun(replace(PLAIN, optimizer=optimizer), tail)
    names = {id(p): name for name, p in tail.named_parameters()}
    decays = {names[id(p)]: group["weight_decay"] for group in run.optimizer.param_groups for p in group["params"]}
    weights = {"body.0.0.weight", "body.1.0.weight", "body.2.0.weight", "head.2.weight"}
    assert decays == {name: 0.3 if name in weights else 0.0 for name in names.values()}


def test_by_default_there_is_one_group_in_the_order_of_the_parameters() -> None:
    """On which the bytes of clipping depend."""
    run = begun(replace(PLAIN, optimizer=Optimizer("adam", 0.1)))
    groups = run.optimizer.param_groups
    assert [id(p) for g in groups for p in g["params"]] == [id(p) for p in run.tail.parameters()] and len(groups) == 1


# Checkpoints


def cross_validated(recipe: Recipe, folder: Path, **options: Any) -> dict[int, Fit]:
    return cross_validate(fresh_tail, IMAGES, recipe, device=CPU, checkpoints=Checkpoints(folder, "k"), **options)


@pytest.mark.parametrize("trainable", ["norms", {"last": 1}, ("1",), "head"], ids=str)
def test_a_broken_run_goes_on_to_the_same_bytes(trainable: Trainable, tmp_path: Path) -> None:
    optimizer = Optimizer("adamw", 0.1, decayed="weights")
    decay = 1.0 if trainable == "head" else 0.7
    recipe = replace(PLAIN, trainable=trainable, ema=0.9, optimizer=optimizer, lr_decay=decay)
    whole = cross_validated(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        cross_validated(recipe, tmp_path / "broken", on_epoch=killed_at(1, 1))
    again = cross_validated(recipe, tmp_path / "broken")
    for fold, fitted in whole.items():
        assert same(fitted.state, again[fold].state) and fitted.history == again[fold].history


def test_a_checkpoint_holds_what_trains_alone(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    cross_validated(replace(PLAIN, trainable={"last": 1}, ema=0.9), tmp_path)
    names = set(load_file(tmp_path / "checkpoint-0.safetensors"))
    for part in ("tail", "best", "average"):
        of_part = {name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")}
        assert {name.rpartition(".")[0] for name in of_part} == {"body.2.0", "body.2.1", "body.3", "head.2"}
    assert len({name.split("/")[1] for name in names if name.startswith("optimizer/")}) == 8  # parameters


def test_an_average_shares_what_is_frozen_with_the_tail() -> None:
    run = begun(replace(PLAIN, trainable={"last": 1}, ema=0.9))
    assert run.average is not None
    mine, theirs = (m.state_dict() for m in (run.average.module, run.tail))
    for name in mine:
        assert (mine[name].data_ptr() == theirs[name].data_ptr()) is (name not in run.trained.names), name


def test_trained_tensors_of_another_tail_are_refused() -> None:
    with pytest.raises(RuntimeError, match="unheard"):
        load_trained(fresh_tail(), {"unheard": torch.zeros(1)})
