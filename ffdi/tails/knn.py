"""The head that compares an image with those of its training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ffdi.tails.recipe import CLASSES, Head


class KnnHead(nn.Module):
    """The k nearest training images of (B, D) vectors vote, -> (B, 2) logits, the logarithms of the shares of votes.

    A vote weighs exp(similarity / temperature), and as much as its class (Wu et al., CVPR 2018, section 3.4). Similarity
    is the cosine, or minus the mean squared difference over the channels. Half a vote of a mean neighbour is added to each
    class, so that k neighbours of one class leave the other a chance (Krichevsky and Trofimov, 1981).

    `bank` (N, D) has the training images, `labels` (N,) their labels, `weights` (2,) the weights of the classes. They are
    buffers: a bundle needs no shards.
    """

    bank: Tensor
    labels: Tensor
    weights: Tensor

    def __init__(self, channels: int, spec: Head) -> None:
        super().__init__()
        self.neighbours, self.distance, self.temperature = spec.neighbours, spec.distance, spec.temperature
        self.register_buffer("bank", torch.zeros(0, channels))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("weights", torch.ones(CLASSES))

    def remember(self, bank: Tensor, labels: Tensor, weights: Tensor | None) -> None:
        """Take (N, D) training images with labels (N,), N >= neighbours, and the weights of the classes (2,)."""
        self.bank, self.labels = bank, labels.to(torch.uint8)
        if weights is not None:
            self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        return self.of_nearest(self.similarity(x))

    def similarity(self, x: Tensor) -> Tensor:
        """(B, N) of (B, D) vectors with those of the bank."""
        if self.distance == "cosine":
            x, bank = (nn.functional.normalize(rows.float(), dim=1) for rows in (x, self.bank))
            return x @ bank.T
        return -torch.cdist(x.float(), self.bank).square() / x.shape[1]

    def of_nearest(self, similarity: Tensor) -> Tensor:
        """(B, 2) logits from (B, N) similarities."""
        nearest, at = similarity.topk(self.neighbours, dim=1)
        votes = torch.softmax(nearest / self.temperature, dim=1)
        classes = nn.functional.one_hot(self.labels[at].long(), CLASSES)
        shares = (votes.unsqueeze(2) * classes * self.weights).sum(1)
        return torch.log(shares + self.weights / (2 * self.neighbours))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """The number of training images is known to the stored bank alone."""
        for name in ("bank", "labels"):
            setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *others)
