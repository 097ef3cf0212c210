"""Fit one tail; cross-validate a recipe. Test images never reach this code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import assert_never

from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError, placed
from ffdi.features.devices import precision_on
from ffdi.metrics import auc
from ffdi.tails.augment import augmentation, mixing
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.average import MovingAverage
from ffdi.tails.batches import FeatureTable
from ffdi.tails.blocks import blocks_in_order
from ffdi.tails.checkpoint import Checkpoints, Epoch, Fit, Running, Scores, margin
from ffdi.tails.class_weights import class_weights
from ffdi.tails.failures import batches_for_batchnorm, refuse_divergence
from ffdi.tails.fitted import fit_at_once
from ffdi.tails.folds import FoldedTable, Split
from ffdi.tails.heads import Tail
from ffdi.tails.losses import extra_losses
from ffdi.tails.modes import judging
from ffdi.tails.norms import settle_norm
from ffdi.tails.optimisation import Optimizer
from ffdi.tails.ranks import ALONE, Team, current_team
from ffdi.tails.recipe import Recipe
from ffdi.tails.share import Share
from ffdi.tails.steps import EpochTally, part_of_loss
from ffdi.tails.synced_batch_norm import whole_batch_statistics
from ffdi.tails.trainable import parameter_groups, trained_part

OnEpoch = Callable[[Epoch], None]


def ignore_epoch(epoch: Epoch) -> None:
    """The `on_epoch` that does nothing."""


def fit(
    tail: Tail,
    split: Split,
    recipe: Recipe,
    *,
    device: torch.device,
    on_epoch: OnEpoch = ignore_epoch,
    checkpoints: Checkpoints | None = None,
    team: Team = ALONE,
) -> Fit:
    """Train `tail` and keep its epoch of highest validation AUC (the earliest of equals); the last one where the split
    has no validation images.

    Deterministic on one machine: everything random comes from (recipe.seed, split.fold). With `checkpoints`, a fit that
    was killed continues after its last complete epoch; `on_epoch` is called for the epochs before it, too. The ranks of a
    `team` fit one tail together; each returns it.
    """
    fold, seed = split.fold, fold_seed(recipe.seed, split.fold)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        settle_norm(tail, split.train, recipe.batch_size, device)
        run = start(tail, recipe, split.train, torch.Generator().manual_seed(seed), device)
        run.team = team
        if checkpoints and checkpoints.load(fold, run):
            for finished in run.history:
                on_epoch(finished)
        team.refuse_difference(len(run.history), f"{split.name}: the ranks see other checkpoints, so many epochs")
        while not run.is_over(recipe.epochs, recipe.patience):
            epoch = len(run.history)
            score = partial(predict_logits, run.judged, split.validation, recipe.batch_size, device, team)
            with placed(f"{split.name}, epoch {epoch}"):
                with batches_for_batchnorm(recipe.batch_size):
                    loss, train_auc, lr = train_epoch(run, split.train, recipe, epoch)
                logits = score() if len(split.validation) else np.empty(0)
                refuse_divergence(loss, logits, run.judged, score, recipe.lr)
            now = Epoch(fold, epoch, loss, train_auc, auc(split.validation.labels.numpy(), logits), lr)
            run.ended(now, logits)
            if checkpoints and team.leads:
                checkpoints.save(fold, run)
            on_epoch(now)
        return run.outcome()


def build_optimizer(
    settings: Optimizer, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float
) -> torch.optim.Optimizer:
    """A fresh optimizer over `parameters`, or over groups of them; the momentum of SGD is .9 where it is not set."""
    decay = settings.weight_decay
    match settings.name:
        case "sgd":
            momentum = 0.9 if settings.momentum is None else settings.momentum
            return torch.optim.SGD(parameters, lr, momentum=momentum, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True)
    assert_never(settings.name)


def start(tail: Tail, recipe: Recipe, table: FeatureTable, generator: torch.Generator, device: torch.device) -> Running:
    """A fit on `table` before its first epoch: a fresh optimizer over what trains of `tail`.

    `generator` draws views and their order. Raises ParamsError for a precision that the device does not have, when what the
    recipe trains is not in this tail, or when no images of `table` can be paired as it asks.
    """
    if recipe.precision == "tf32" and device.type != "cuda":
        raise ParamsError(f"precision: tf32 needs CUDA; here the tail is trained on the {device.type}: leave it out")
    if recipe.pairing == "group":
        table.refuse_without_couples()
    tail.to(device)

    @cache
    def blocks() -> list[tuple[str, ...]]:
        return blocks_in_order(tail, next(table.of(torch.tensor([0])).clean(1, device))[0])

    trained = trained_part(tail, recipe, blocks)
    optimizer = build_optimizer(recipe.optimizer, parameter_groups(tail, recipe, blocks), recipe.lr)
    average = None if recipe.ema is None else MovingAverage(tail, recipe.ema, trained)
    return Running(tail, trained, optimizer, average, generator, device)


def train_epoch(run: Running, table: FeatureTable, recipe: Recipe, epoch: int) -> tuple[float, float, float]:
    """One pass over `table`: (mean cross-entropy alone, AUC of the scores of its batches, last learning rate)."""
    t, tail, optimizer, device, team = recipe, run.tail, run.optimizer, run.device, run.team
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    augment, mix, weights = (
        augmentation(resolve_augment(t.augment)),
        mixing(t.mix.mixup, t.mix.cutmix),
        class_weights(t, table.labels),
    )
    weights = None if weights is None else weights.to(device)
    steps = math.ceil(table.samples(t.views) / t.batch_size)
    tally, lr = EpochTally(team), t.lr
    share_of = partial(team.share, before=t.mix.wanted)
    run.trained.train_mode(tail)
    team.as_leader(list(run.trained.state(tail).values()))
    batches = table.shuffled(t.batch_size, t.views, run.generator, device, t.pairing, share_of)
    with team.own_draws((run.generator.initial_seed(), epoch)) as drawing_alike:
        for step, (features, labels) in enumerate(batches):
            lr = t.lr * t.schedule.factor(epoch + step / steps, t.epochs)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["scale"]
            share = share_of(len(labels))
            with drawing_alike():
                features, mixed = share.without_the_one_before(*mix(augment(features, share), share.taken(labels)))
            optimizer.zero_grad()
            with precision_on(device, t.precision):
                with (
                    torch.autocast(device.type, torch.bfloat16, enabled=t.precision == "bfloat16"),
                    whole_batch_statistics(team, share),
                ):
                    embedded = tail.embed(features) if t.loss.wanted else None
                    logits = tail(features) if embedded is None else tail.head(embedded)
                logits = logits.float()
                loss = nn.functional.cross_entropy(logits, mixed, weights, label_smoothing=t.label_smoothing)
                loss = loss * part_of_loss(share, mixed, labels, weights)
                extra = 0.0 if embedded is None else extra_losses(t.loss, team.whole(embedded, share), labels)
                (loss + extra / share.copies).backward()
            team.sum_gradients(parameters)
            add_l1_gradient(parameters, t.l1)
            if t.clip_grad is not None:
                nn.utils.clip_grad_norm_(parameters, t.clip_grad)
            optimizer.step()
            if run.average is not None:
                run.average.update()
            tally.add(share, loss.detach(), logits.detach(), labels)
    mean, target, scores = tally.ended()
    return mean, auc(target, scores), lr


def add_l1_gradient(parameters: Sequence[nn.Parameter], l1: float) -> None:
    """Add the gradient of l1 * sum |p| to that of each parameter, without a graph over all parameters."""
    if l1:
        tensors: list[Tensor] = [p for p in parameters if p.grad is not None]
        torch._foreach_add_([p.grad for p in tensors if p.grad is not None], torch._foreach_sign(tensors), alpha=l1)


def predict_logits(
    tail: nn.Module, table: FeatureTable, batch_size: int, device: torch.device, team: Team = ALONE
) -> Scores:
    """(N,) logit of fake minus logit of real for view 0 of every image, in eval and inference mode. The tail is unchanged.

    The ranks of a `team` share the batches, and each gets all logits.
    """
    batches = team.share(-(-len(table) // batch_size))
    share = Share(
        len(table), batches.start * batch_size, min(batches.stop * batch_size, len(table)), copies=batches.copies
    )
    mine = table if share.is_all else table.of(share.positions)
    with judging(tail), torch.inference_mode():
        parts = []
        for features, _ in mine.clean(batch_size, device):
            with precision_on(device, "float32"):
                parts.append(tail(features))
        return margin(team.whole(torch.cat(parts), share))


def cross_validate(
    fresh_tail: Callable[[int], Tail],
    images: FoldedTable,
    recipe: Recipe,
    *,
    device: torch.device,
    on_epoch: OnEpoch = ignore_epoch,
    checkpoints: Checkpoints | None = None,
    console: Console = Console(),
) -> dict[int, Fit]:
    """Train a fresh tail with a fresh optimizer for each of the recipe's folds; or fit it, when its head has no epochs.

    With `checkpoints`, finished folds are read and an interrupted one continues. When a GPU's memory runs out, the
    features leave it, `console` says so, and the fold starts again; FfdiError when that is not enough. Where torchrun
    has started several processes, they train each tail together.
    """
    team = current_team()
    team.refuse_idle(recipe)
    if recipe.head.is_fitted:
        return fit_at_once(fresh_tail, images, recipe, device=device, on_epoch=on_epoch)
    fits = {}
    for fold in images.wanted(recipe.folds):
        split, report = images.split(fold), _once(on_epoch)

        def attempt(split: Split = split, report: OnEpoch = report) -> Fit | None:
            """None when the device's memory runs out: the error itself would keep the activations in memory."""
            tail = fresh_tail(fold_seed(recipe.seed, split.fold))
            try:
                return fit(tail, split, recipe, device=device, on_epoch=report, checkpoints=checkpoints, team=team)
            except torch.OutOfMemoryError:
                return None

        fitted = attempt()
        if fitted is None and team.size == 1 and images.table.source.leave_gpu():
            console.say(f"{split.name}: out of memory on {device}: the features leave it, batches are copied")
            torch.cuda.empty_cache()
            fitted = attempt()
        if fitted is None:  # halving the batch here would make it another recipe
            size = recipe.batch_size
            raise FfdiError(
                f"{split.name}: out of memory on {device} with batch_size {size}: set batch_size to {max(1, size // 2)}"
            )
        fits[fold] = fitted
    return fits


def _once(on_epoch: OnEpoch) -> OnEpoch:
    """Report each epoch of a fold once, although a fold that starts again repeats its first epochs."""
    reported: set[int] = set()

    def report(epoch: Epoch) -> None:
        if epoch.epoch not in reported:
            reported.add(epoch.epoch)
            on_epoch(epoch)

    return report


def fold_seed(seed: int, fold: int) -> int:
    """A seed for (recipe seed, fold); neighbouring pairs have unrelated seeds."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])
