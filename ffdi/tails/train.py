"""Fit one tail; cross-validate a recipe. No test row ever comes here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ffdi.errors import FfdiError
from ffdi.metrics import auc
from ffdi.tails.batches import FeatureTable, Operation, augmentation, mixing
from ffdi.tails.heads import Tail

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Optimizer:
    """`adam` couples weight decay with the gradient; `adamw` decouples it."""

    name: str
    weight_decay: float
    momentum: float | None

    def over(self, parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """A fresh optimizer; momentum (SGD only) defaults to .9."""
        if self.name == "sgd":
            momentum = 0.9 if self.momentum is None else self.momentum
            return torch.optim.SGD(parameters, lr, momentum=momentum, weight_decay=self.weight_decay)
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return kind(parameters, lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Schedule:
    """none; step: times `gamma` every `size` epochs; cosine: to zero, after `warmup` epochs of linear rise."""

    name: str
    size: int
    gamma: float
    warmup: int

    def factor(self, epoch: float, epochs: int) -> float:
        """What the learning rate is multiplied by at a fractional epoch."""
        if self.name == "step":
            return float(self.gamma ** (int(epoch) // self.size))
        if self.name == "cosine":
            if epoch < self.warmup:
                return (epoch + 1e-3) / self.warmup
            return 0.5 * (1 + math.cos(math.pi * (epoch - self.warmup) / max(epochs - self.warmup, 1e-9)))
        return 1.0


@dataclass(frozen=True)
class Training:
    """How a tail is trained; the fields are those of a recipe in params.yaml."""

    epochs: int
    patience: int | None
    batch_size: int
    views: str
    optimizer: Optimizer
    lr: float
    schedule: Schedule
    l1: float
    label_smoothing: float
    mixup: float
    cutmix: float
    augment: tuple[Operation, ...]
    seed: int


@dataclass(frozen=True)
class Epoch:
    """One line of history.csv: mean cross-entropy (without L1) and AUC of the running scores; AUC on the own fold."""

    fold: int
    epoch: int
    loss: float
    train_auc: float
    val_auc: float
    lr: float


@dataclass(frozen=True)
class Fit:
    """A trained tail at its best epoch: state, validation logits (fake - real) in table order, history."""

    state: dict[str, Tensor]
    logits: Scores
    history: tuple[Epoch, ...]
    best_epoch: int


def fit(
    tail: Tail,
    train: FeatureTable,
    validation: FeatureTable,
    training: Training,
    *,
    fold: int,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Fit:
    """Train `tail` and keep its epoch of highest validation AUC (the earliest of equals).

    Deterministic on one machine: everything random comes from (training.seed, fold).
    """
    t = training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(fold_seed(t.seed, fold))
        generator = torch.Generator().manual_seed(fold_seed(t.seed, fold))
        tail.to(device)
        parameters = [p for p in tail.parameters() if p.requires_grad]
        optimizer = t.optimizer.over(parameters, t.lr)
        augment, mix = augmentation(t.augment), mixing(t.mixup, t.cutmix)
        samples = int(train.views.sum()) if t.views == "all" else len(train)
        steps = math.ceil(samples / t.batch_size)
        history: list[Epoch] = []
        best: tuple[float, dict[str, Tensor], Scores] | None = None

        for epoch in range(t.epochs):
            tail.train()
            losses, seen, targets = [], [], []
            for step, (features, labels) in enumerate(train.shuffled(t.batch_size, t.views, generator)):
                for group in optimizer.param_groups:
                    group["lr"] = t.lr * t.schedule.factor(epoch + step / steps, t.epochs)
                features, mixed = mix(augment(features.to(device)), labels.to(device))
                logits = tail(features)
                loss = nn.functional.cross_entropy(logits, mixed, label_smoothing=t.label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                add_l1_gradient(parameters, t.l1)
                optimizer.step()
                losses.append(float(loss.detach()) * len(labels))
                seen.append(_margin(logits.detach()))
                targets.append(labels.numpy())
            target = np.concatenate(targets)
            scores = predict_logits(tail, validation, t.batch_size, device)
            val_auc = auc(validation.labels.numpy(), scores)
            train_auc = auc(target, np.concatenate(seen))
            now = Epoch(fold, epoch, sum(losses) / len(target), train_auc, val_auc, optimizer.param_groups[0]["lr"])
            if not (math.isfinite(now.loss) and np.isfinite(scores).all()):
                raise FfdiError(
                    f"fold {fold}, epoch {epoch}: the training diverged (mean loss {now.loss:g}): lower lr (is {t.lr:g})"
                )
            history.append(now)
            on_epoch(now)
            if best is None or val_auc > best[0]:
                state = {k: v.detach().cpu().clone() for k, v in tail.state_dict().items()}
                best, best_epoch = (val_auc, state, scores), epoch
            if t.patience is not None and epoch - best_epoch >= t.patience:
                break
    assert best is not None  # epochs >= 1
    return Fit(best[1], best[2], tuple(history), best_epoch)


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
        parts = [_margin(tail(features.to(device))) for features, _ in table.clean(batch_size)]
    tail.train(training)
    return np.concatenate(parts)


def cross_validate(
    fresh_tail: Callable[[int], Tail],
    table: FeatureTable,
    folds: Sequence[int],
    training: Training,
    *,
    run_folds: int | None,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> dict[int, Fit]:
    """One fresh tail and optimizer per fold, each validated on its own fold and trained on all others.

    `folds` (N,) is the fold of every image of `table` (train rows alone); `run_folds`: the first so many, or all.
    """
    place = torch.tensor(list(folds))
    if (place < 0).any():
        raise FfdiError("a test row came to training: only rows of role train may")
    fits = {}
    for fold in sorted(set(place.tolist()))[:run_folds]:
        tail = fresh_tail(fold_seed(training.seed, fold))
        own, others = torch.nonzero(place == fold).flatten(), torch.nonzero(place != fold).flatten()
        try:
            fits[fold] = fit(
                tail, table.of(others), table.of(own), training, fold=fold, device=device, on_epoch=on_epoch
            )
        except torch.OutOfMemoryError as error:  # to halve the batch here would be another recipe
            size = training.batch_size
            raise FfdiError(
                f"fold {fold}: out of memory on {device} with batch_size {size}: set batch_size to {max(1, size // 2)}"
            ) from error
    return fits


def fold_seed(seed: int, fold: int) -> int:
    """A seed for (recipe seed, fold), unlike that of any neighbour."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def choose_device(device: str) -> torch.device:
    """auto -> CUDA where it is, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def _margin(logits: Tensor) -> Scores:
    return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
