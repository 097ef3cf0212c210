"""Norms of pooled features in NumPy, as tails have them in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.tails.recipe import Norm

Floats = npt.NDArray[np.floating[Any]]
LAYER_EPSILON = 1e-5  # added to the variance of a vector, as layer norms do


def row_normalised(features: Floats, norm: Norm) -> npt.NDArray[np.float32]:
    """(N, D) float32 features, normalised row by row: `l2` to length 1, `layer` to mean 0 and variance 1.

    What needs statistics of other rows (`standardise`) is not done here.
    """
    rows = np.asarray(features, np.float32)
    match norm:
        case "l2":
            return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
        case "layer":
            centred = rows - rows.mean(axis=1, keepdims=True)
            return np.asarray(centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + LAYER_EPSILON))
        case _:
            return rows


def deviation(mean: Floats, variance: Floats) -> npt.NDArray[np.float64]:
    """(D,) standard deviations to divide by: 1 for a channel that does not change but for rounding."""
    return np.sqrt(np.where(variance > 1e-10 * np.square(mean), variance, 1.0), dtype=np.float64)
