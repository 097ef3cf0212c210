"""Losses on what the head reads: alignment and uniformity on the unit sphere.

GenD (Yermakov et al., "Deepfake Detection that Generalizes Across Benchmarks", WACV 2026, arXiv 2508.06248) adds them to
the cross-entropy with weights .1 and .5. Distances are computed in float64, which TF32 and bfloat16 do not touch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ffdi.tails.optimisation import ExtraLosses

TEMPERATURE = 2.0  # t of the uniformity


def alignment(features: Tensor, labels: Tensor) -> Tensor:
    """The mean of |f(x) - f(y)|^2 over all pairs of a batch that have one label; 0 without such a pair.

    `features` (B, D) are normalised to length 1, labels are (B,). Wang and Isola, "Understanding Contrastive
    Representation Learning through Alignment and Uniformity on the Hypersphere", ICML 2020, arXiv 2005.10242: L_align with
    alpha = 2. Positive pairs are images of one class, as in GenD, in place of two views of one image.
    """
    alike = _pairs(len(features), features.device) & (labels[:, None] == labels)
    return (_squared_distances(features) * alike).sum() / alike.sum().clamp(min=1)


def uniformity(features: Tensor) -> Tensor:
    """The logarithm of the mean of exp(-2 |f(x) - f(y)|^2) over all pairs of a batch, at least -8; 0 without a pair.

    `features` (B, D) are normalised to length 1. Wang and Isola, ICML 2020, arXiv 2005.10242: L_uniform with t = 2.
    """
    pairs = _pairs(len(features), features.device)
    mean = (torch.exp(-TEMPERATURE * _squared_distances(features)) * pairs).sum() / pairs.sum().clamp(min=1)
    return mean.log() if len(features) > 1 else mean


def extra_losses(settings: ExtraLosses, embedded: Tensor, labels: Tensor) -> Tensor:
    """The weighted sum of the losses on `embedded` (B, ...), what the head reads, normalised to length 1 for each image."""
    unit = nn.functional.normalize(embedded.double().flatten(1))
    loss = torch.zeros((), dtype=torch.float64, device=embedded.device)
    if settings.alignment:
        loss = loss + settings.alignment * alignment(unit, labels)
    if settings.uniformity:
        loss = loss + settings.uniformity * uniformity(unit)
    return loss.float()


def _pairs(count: int, device: torch.device) -> Tensor:
    """(B, B) true above the diagonal: every pair once, and none of an image with itself."""
    return torch.ones(count, count, dtype=torch.bool, device=device).triu(1)


def _squared_distances(features: Tensor) -> Tensor:
    """(B, B) between vectors of length 1: 2 - 2 x their cosine. The root of pdist would have no gradient at 0."""
    return 2 - 2 * features @ features.T
