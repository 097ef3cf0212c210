"""Test-time augmentation: a tail's logit of an image is the mean over its clean view and the levels of `tta`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ffdi.tails.batches import FeatureTable
from ffdi.tails.checkpoint import Fit, Scores
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import Tail
from ffdi.tails.train import predict_logits
from ffdi.tails.trainable import load_trained


def mean_logits(tail: Tail, views: Sequence[FeatureTable], batch_size: int, device: torch.device) -> Scores:
    """(N,) the mean over `views`, each of the same images, of the logit of fake minus logit of real."""
    logits = [predict_logits(tail, view, batch_size, device) for view in views]
    return logits[0] if len(logits) == 1 else np.asarray(np.mean(logits, axis=0))


def averaged_over_views(
    fits: Mapping[int, Fit],
    tail: Tail,
    images: FoldedTable,
    views: Sequence[FeatureTable],
    batch_size: int,
    device: torch.device,
) -> dict[int, Fit]:
    """The same fits, their validation logits averaged over the clean view and `views`, which hold all that validates.

    The epoch was chosen on the clean view. `tail` is a fresh one; it takes the weights of one fit after the other.
    """
    if not views:
        return dict(fits)
    place, averaged = {image_id: at for at, image_id in enumerate(views[0].image_ids)}, {}
    for fold, fitted in fits.items():
        load_trained(tail, fitted.state)
        validated = images.split(fold).validation
        at = torch.tensor([place[image_id] for image_id in validated.image_ids])
        tables = [validated, *(view.of(at) for view in views)]
        averaged[fold] = replace(fitted, logits=mean_logits(tail.to(device), tables, batch_size, device))
    return averaged
