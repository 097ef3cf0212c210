"""Near-duplicates by the features of a backbone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.intake.near_duplicates.clusters import Pairs

_BLOCK_BYTES = 1 << 28


def embedding_pairs(embeddings: npt.NDArray[Any], min_cosine: float, apart: npt.NDArray[Any] | None = None) -> Pairs:
    """Pairs of mutual nearest neighbours with a cosine of at least `min_cosine`; `embeddings` is (N, D).

    Mutual, because one-sided links chain unlike images into one cluster. With `apart` (N,), only rows of another value
    count as neighbours: images that are together already must not hide those that are not.
    """
    unit = (embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    place = np.arange(len(unit)) if apart is None else np.unique(apart, return_inverse=True)[1]
    nearest = np.empty(len(unit), np.int64)
    cosine = np.empty(len(unit))
    size = max(1, _BLOCK_BYTES // (4 * max(len(unit), 1)))
    for start in range(0, len(unit), size):
        block = slice(start, start + size)
        similarity = unit[block] @ unit.T
        similarity[place[block, None] == place[None]] = -np.inf
        nearest[block] = similarity.argmax(axis=1)
        cosine[block] = similarity.max(axis=1)
    rows = np.arange(len(unit))
    linked = (nearest[nearest] == rows) & (cosine >= min_cosine) & (rows < nearest)
    return np.stack([rows[linked], nearest[linked]], axis=1)
