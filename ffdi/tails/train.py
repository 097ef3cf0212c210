"""Fit one tail; cross-validate a recipe. No test row ever comes here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ffdi.errors import FfdiError, ParamsError
from ffdi.features.devices import precision_on
from ffdi.metrics import auc
from ffdi.tails.augment import augmentation, mixing
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Checkpoints, Epoch, Fit, Running, Scores
from ffdi.tails.heads import CLASSES, Tail
from ffdi.tails.recipe import Optimizer, Recipe


def fit(
    tail: Tail,
    train: FeatureTable,
    validation: FeatureTable,
    recipe: Recipe,
    *,
    fold: int,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Train `tail` and keep its epoch of highest validation AUC (the earliest of equals).

    Deterministic on one machine: everything random comes from (recipe.seed, fold). With `checkpoints`, a fit that was
    killed goes on after its last whole epoch; `on_epoch` hears of the epochs before it, too.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(fold_seed(recipe.seed, fold))
        run = start(tail, recipe, torch.Generator().manual_seed(fold_seed(recipe.seed, fold)), device)
        if checkpoints and checkpoints.load(fold, run):
            for finished in run.history:
                on_epoch(finished)
        while not run.is_over(recipe.epochs, recipe.patience):
            epoch = len(run.history)
            loss, train_auc, lr = train_epoch(run, train, recipe, epoch)
            logits = predict_logits(run.judged, validation, recipe.batch_size, device)
            if not (math.isfinite(loss) and np.isfinite(logits).all()):
                raise FfdiError(
                    f"fold {fold}, epoch {epoch}: the training diverged (mean loss {loss:g}): lower lr (is {recipe.lr:g})"
                )
            now = Epoch(fold, epoch, loss, train_auc, auc(validation.labels.numpy(), logits), lr)
            run.ended(now, logits)
            if checkpoints:
                checkpoints.save(fold, run)
            on_epoch(now)
        return run.outcome()


def build_optimizer(settings: Optimizer, parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """A fresh optimizer over `parameters`; the momentum of SGD is .9 where it is not set."""
    if settings.name == "sgd":
        momentum = 0.9 if settings.momentum is None else settings.momentum
        return torch.optim.SGD(parameters, lr, momentum=momentum, weight_decay=settings.weight_decay, fused=True)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr, weight_decay=settings.weight_decay, fused=True)


def start(tail: Tail, recipe: Recipe, generator: torch.Generator, device: torch.device) -> Running:
    """A fit before its first epoch: a fresh optimizer over `tail`; `generator` draws views and their order.

    Raises ParamsError for a precision that the device has not.
    """
    if recipe.precision == "tf32" and device.type != "cuda":
        raise ParamsError(f"precision: tf32 needs CUDA; here the tail is trained on the {device.type}")
    tail.to(device)
    optimizer = build_optimizer(recipe.optimizer, [p for p in tail.parameters() if p.requires_grad], recipe.lr)
    average = None
    if recipe.ema is not None:
        average = AveragedModel(tail, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
    return Running(tail, optimizer, average, generator, device)


def train_epoch(run: Running, table: FeatureTable, recipe: Recipe, epoch: int) -> tuple[float, float, float]:
    """One pass over `table`: (mean cross-entropy without L1, AUC of the scores on the way, last learning rate)."""
    t, tail, optimizer, device = recipe, run.tail, run.optimizer, run.device
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    augment, mix, weights = (
        augmentation(resolve_augment(t.augment)),
        mixing(t.mix.mixup, t.mix.cutmix),
        class_weights(t, table.labels),
    )
    weights = None if weights is None else weights.to(device)
    steps = math.ceil(table.samples(t.views) / t.batch_size)
    losses, margins, targets = [], [], []
    tail.train()
    for step, (features, labels) in enumerate(table.shuffled(t.batch_size, t.views, run.generator, device)):
        lr = t.lr * t.schedule.factor(epoch + step / steps, t.epochs)
        for group in optimizer.param_groups:
            group["lr"] = lr
        features, mixed = mix(augment(features), labels)
        optimizer.zero_grad()
        with precision_on(device, t.precision):
            with torch.autocast(device.type, torch.bfloat16, enabled=t.precision == "bfloat16"):
                logits = tail(features)
            logits = logits.float()
            loss = nn.functional.cross_entropy(logits, mixed, weights, label_smoothing=t.label_smoothing)
            loss.backward()
        add_l1_gradient(parameters, t.l1)
        if t.clip_grad is not None:
            nn.utils.clip_grad_norm_(parameters, t.clip_grad)
        optimizer.step()
        if run.average is not None:
            run.average.update_parameters(tail)
        losses.append(loss.detach() * len(labels))
        margins.append(logits.detach())
        targets.append(labels)
    target = torch.cat(targets).cpu().numpy()
    return float(torch.stack(losses).sum()) / len(target), auc(target, _margin(torch.cat(margins))), lr


def class_weights(recipe: Recipe, labels: Tensor) -> Tensor | None:
    """(2,) float32 weights of real and fake in the loss, or None; `balanced`: N / (2 x the class's number)."""
    if recipe.class_weights is None:
        return None
    if recipe.class_weights == "balanced":
        counts = torch.bincount(labels, minlength=CLASSES).clamp(min=1)
        return len(labels) / (CLASSES * counts.float())
    return torch.tensor(recipe.class_weights)


def add_l1_gradient(parameters: Sequence[nn.Parameter], l1: float) -> None:
    """Add the gradient of l1 * sum |p| to each parameter's, without a graph over every parameter."""
    if l1:
        tensors: list[Tensor] = [p for p in parameters if p.grad is not None]
        torch._foreach_add_([p.grad for p in tensors if p.grad is not None], torch._foreach_sign(tensors), alpha=l1)


def predict_logits(tail: nn.Module, table: FeatureTable, batch_size: int, device: torch.device) -> Scores:
    """(N,) logit of fake minus logit of real for view 0 of every image, in eval and inference mode; changes nothing."""
    training = tail.training
    tail.eval()
    with torch.inference_mode():
        parts = []
        for features, _ in table.clean(batch_size, device):
            with precision_on(device, "float32"):
                parts.append(tail(features))
        margin = _margin(torch.cat(parts))
    tail.train(training)
    return margin


def cross_validate(
    fresh_tail: Callable[[int], Tail],
    table: FeatureTable,
    folds: Sequence[int],
    recipe: Recipe,
    *,
    run_folds: int | None,
    device: torch.device,
    validated: Sequence[bool] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    checkpoints: Checkpoints | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[int, Fit]:
    """One fresh tail and optimizer per fold, each validated on its own fold and trained on all others.

    `folds` (N,) is the fold of every image of `table` (train rows alone); `run_folds`: the first so many, or all;
    `validated` (N,): false for images that train alone, synthesised fakes. With `checkpoints`, finished folds are read
    and a broken one goes on. Where a GPU's memory runs out, the features leave it, which `say` is told, and the fold
    begins again; FfdiError when that is not enough.
    """
    place = torch.tensor(list(folds))
    real_task = torch.ones(len(place), dtype=torch.bool) if validated is None else torch.tensor(list(validated))
    if (place < 0).any():
        raise FfdiError("a test row came to training: only rows of role train may")
    fits = {}
    for fold in sorted(set(place.tolist()))[:run_folds]:
        own, others = torch.nonzero((place == fold) & real_task).flatten(), torch.nonzero(place != fold).flatten()
        options: dict[str, Any] = {"fold": fold, "device": device, "checkpoints": checkpoints}
        options["on_epoch"] = _once(on_epoch)
        done = _fit_in_memory(fresh_tail, table.of(others), table.of(own), recipe, **options)
        if done is None and table.source.leave_gpu():
            say(f"fold {fold}: out of memory on {device}: the features leave it, batches are copied")
            torch.cuda.empty_cache()
            done = _fit_in_memory(fresh_tail, table.of(others), table.of(own), recipe, **options)
        if done is None:  # to halve the batch here would be another recipe
            size = recipe.batch_size
            raise FfdiError(
                f"fold {fold}: out of memory on {device} with batch_size {size}: set batch_size to {max(1, size // 2)}"
            )
        fits[fold] = done
    return fits


def _fit_in_memory(
    fresh_tail: Callable[[int], Tail], train: FeatureTable, validation: FeatureTable, recipe: Recipe, **options: Any
) -> Fit | None:
    """A fit of a fresh tail, or None where the device's memory runs out: the error would keep the activations."""
    try:
        return fit(fresh_tail(fold_seed(recipe.seed, options["fold"])), train, validation, recipe, **options)
    except torch.OutOfMemoryError:
        return None


def _once(on_epoch: Callable[[Epoch], None]) -> Callable[[Epoch], None]:
    """Tell of each epoch once, though a fold that begins again comes by it twice."""
    told: set[int] = set()

    def tell(epoch: Epoch) -> None:
        if epoch.epoch not in told:
            told.add(epoch.epoch)
            on_epoch(epoch)

    return tell


def fold_seed(seed: int, fold: int) -> int:
    """A seed for (recipe seed, fold), unlike that of any neighbour."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def _margin(logits: Tensor) -> Scores:
    return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
