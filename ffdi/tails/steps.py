"""What the ranks of a team make of a batch together: how much each one's loss counts, and what an epoch came to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffdi.tails.checkpoint import Scores, margin
from ffdi.tails.ranks import Team
from ffdi.tails.share import Share


def part_of_loss(share: Share, mixed: Tensor, labels: Tensor, weights: Tensor | None) -> float | Tensor:
    """What the mean loss of a share is multiplied by, so that the sum over all ranks is the mean of the whole batch.

    `labels` (whole,) are those of the batch, `mixed` (B,) those of the share, or (B, 2) where they are blended. torch's mean
    with `weights` (2,) of the classes divides by the sum of the samples' weights, unless labels are blended.
    """
    if share.is_all:
        return 1 / share.copies
    if weights is None or mixed.ndim == 2:
        return (share.stop - share.start) / share.whole
    return weights[mixed].sum() / weights[labels].sum()


class EpochTally:
    """The losses and scores of the batches of an epoch."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.losses: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, share: Share, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """A batch: this rank's part of the mean loss, its share's (B, 2) logits, and all (whole,) labels."""
        self.losses.append(loss * len(labels))
        self.logits.append(share.within(logits) / share.copies)
        self.labels.append(labels)

    def ended(self) -> tuple[float, npt.NDArray[np.int64], Scores]:
        """The mean loss of the epoch, and of its N samples the (N,) labels and scores."""
        labels = torch.cat(self.labels).cpu().numpy()
        loss = float(self.team.sum(torch.stack(self.losses).sum())) / len(labels)
        return loss, labels, margin(self.team.sum(torch.cat(self.logits)))
