"""Heads that are fitted at once on pooled features, without epochs: the logistic regression and the nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ffdi.errors import FfdiError
from ffdi.metrics import auc
from ffdi.tails.checkpoint import Epoch, Fit, Scores, margin
from ffdi.tails.class_weights import class_weights
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import Tail
from ffdi.tails.knn import KnnHead
from ffdi.tails.norms import Standardise
from ffdi.tails.probe import FoldProbe, ProbeSettings, Roles, probe_out_of_fold
from ffdi.tails.recipe import Recipe
from ffdi.tails.row_norms import deviation

BATCH = 64
JUDGED = 2000  # training images on which nearest neighbours are judged, each without itself


@dataclass(frozen=True)
class _Pooled:
    """The rows that a recipe takes: `features` (R, D) float32 as the tail's body pools them, on the CPU; the number
    `image` (R,) of each row's image; whether it is the `clean` (R,) view, which alone is scored."""

    images: FoldedTable
    features: Tensor
    image: Tensor
    clean: Tensor

    @classmethod
    def of(cls, images: FoldedTable, views: str, tail: Tail, device: torch.device) -> _Pooled:
        table = images.table
        image, row = table.every_view() if views == "all" else (torch.arange(len(table)), table.first)
        rows = replace(table.of(image), first=row, views=torch.ones_like(row))
        with torch.inference_mode():
            pool = tail.to(device).body
            features = [pool(tail.normalised(batch)).cpu() for batch, _ in rows.clean(BATCH, device)]
        return cls(images, torch.cat(features), image, row == table.first[image])

    @property
    def labels(self) -> Tensor:
        return self.images.table.labels[self.image]

    @property
    def folds(self) -> Tensor:
        return self.images.folds[self.image]

    @property
    def groups(self) -> npt.NDArray[Any]:
        """(R,) the group of each row: that of its image, or the image itself."""
        table = self.images.table
        of_image = np.array(table.image_ids, dtype=str) if table.groups is None else table.groups.numpy()
        return np.asarray(of_image[self.image.numpy()])

    @property
    def scored(self) -> Tensor:
        """(R,) the rows that validate a tail: clean views of images that validate."""
        return self.clean & self.images.scored[self.image]

    def trains(self, fold: int) -> Tensor:
        """(R,) the rows that a fold's tail is fitted on."""
        return self.images.trains(fold)[self.image]

    def validation(self, fold: int) -> Tensor:
        """(R,) the rows that a fold's tail is validated on."""
        return self.scored & (self.folds == fold)


def fit_at_once(
    fresh_tail: Callable[[int], Tail],
    images: FoldedTable,
    recipe: Recipe,
    *,
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> dict[int, Fit]:
    """Fit the tails of a recipe with head probe or knn, each on the images of all folds but its own.

    The features are read once and pooled. What `on_epoch` gets of a probe are the values of C of its sweep: see Epoch.
    """
    pooled = _Pooled.of(images, recipe.views, fresh_tail(0), device)
    fit = _fit_probes if recipe.head.kind == "probe" else _fit_neighbours
    fits = fit(pooled, recipe, images.wanted(recipe.folds), lambda: fresh_tail(0).cpu().eval())
    for fitted in fits.values():
        for epoch in fitted.history:
            on_epoch(epoch)
    return fits


def _fit_probes(pooled: _Pooled, recipe: Recipe, folds: list[int], fresh: Callable[[], Tail]) -> dict[int, Fit]:
    head = recipe.head
    found = probe_out_of_fold(
        pooled.features.numpy(),
        pooled.labels.numpy(),
        pooled.folds.numpy(),
        pooled.groups,
        ProbeSettings(head.sweep, head.c_range, head.norm, recipe.class_weights),
        roles=Roles(pooled.scored.numpy(), pooled.images.barred[pooled.image].numpy()),
        reported=folds,
    )
    fits = {}
    for fold, probe in found.by_fold.items():
        tail = fresh()
        _set_probe(tail, probe)
        columns = (probe.sweep.loss, probe.sweep.train_auc, probe.sweep.auc, probe.sweep.c)
        logits = _margins(tail, pooled.features[pooled.validation(fold)])
        swept = (Epoch(fold, at, *map(float, values)) for at, values in enumerate(zip(*columns, strict=True)))
        choice = {"c": probe.c, "tried": probe.sweep.c.tolist(), "inner_auc": _finite(probe.sweep.auc)}
        fits[fold] = Fit(_state(tail), logits, tuple(swept), probe.sweep.best, choice)
    return fits


def _set_probe(tail: Tail, probe: FoldProbe) -> None:
    """Two logits whose margin is the probe's. With `standardise` its statistics are the norm's."""
    weight, bias = probe.weight, probe.bias
    if isinstance(tail.norm, Standardise):
        tail.norm.settle(torch.from_numpy(probe.mean), torch.from_numpy(probe.std))
        weight, bias = weight * probe.std, bias + float(weight @ probe.mean)
    assert isinstance(tail.head, nn.Linear)
    halves = torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
    with torch.no_grad():
        tail.head.weight.copy_(halves * torch.from_numpy(weight))
        tail.head.bias.copy_(halves[:, 0] * bias)


def _finite(values: npt.NDArray[Any]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _fit_neighbours(pooled: _Pooled, recipe: Recipe, folds: list[int], fresh: Callable[[], Tail]) -> dict[int, Fit]:
    fits, all_labels = {}, pooled.labels
    for fold in folds:
        tail, trains, held = fresh(), pooled.trains(fold), pooled.validation(fold)
        if isinstance(tail.norm, Standardise):
            rows = pooled.features[trains].numpy()
            mean = rows.mean(axis=0, dtype=np.float64)
            std = deviation(mean, rows.var(axis=0, dtype=np.float64))
            tail.norm.settle(torch.from_numpy(mean), torch.from_numpy(std))
        labels, held_labels = all_labels[trains], all_labels[held].numpy()
        if len(labels) < recipe.head.neighbours:
            raise FfdiError(
                f"head knn: {recipe.head.neighbours} neighbours, but fold {fold} trains on {len(labels)} rows: "
                "lower head.neighbours"
            )
        assert isinstance(tail.head, KnnHead)
        tail.head.remember(tail.norm(pooled.features[trains]), labels, class_weights(recipe, labels))
        logits = _margins(tail, pooled.features[held])
        signed = logits * (1 - 2 * held_labels)
        judged = auc(held_labels, logits)
        loss = float(np.logaddexp(0, signed).mean()) if len(logits) else math.nan
        epoch = Epoch(fold, 0, loss, _auc_without_itself(tail.head), judged, 0.0)
        fits[fold] = Fit(_state(tail), logits, (epoch,), 0)
    return fits


def _auc_without_itself(head: KnnHead) -> float:
    """The AUC of the first training rows, each judged by the others."""
    similarity = head.similarity(head.bank[:JUDGED])
    similarity.fill_diagonal_(-torch.inf)
    return auc(head.labels[:JUDGED].numpy(), margin(head.of_nearest(similarity)))


def _margins(tail: Tail, pooled: Tensor) -> Scores:
    """(N,) logit of fake minus logit of real, of (N, D) pooled features."""
    with torch.inference_mode():
        return np.concatenate([margin(tail.head(tail.norm(part))) for part in pooled.split(BATCH)])


def _state(tail: Tail) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tail.state_dict().items()}
