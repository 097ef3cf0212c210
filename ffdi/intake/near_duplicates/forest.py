"""Many pairs -> the few that link the same clusters: a minimum spanning forest, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from ffdi.intake.near_duplicates.clusters import Pairs

Edges = npt.NDArray[np.int64]  # (M, 3): first row, second row, distance 0..64

KEPT_PAIRS = 1 << 22  # edges held at a time, before they are thinned to a forest


def spanning_forest(blocks: Iterable[Edges], count: int) -> Pairs:
    """The pairs of a minimum spanning forest of (first, second, distance 0..64) rows among `count`, sorted."""
    pairs = np.sort(minimum_forest(blocks, count)[:, :2], axis=1)
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])


def minimum_forest(blocks: Iterable[Edges], count: int) -> Edges:
    """The edges of a minimum spanning forest, in no order, thinned as their blocks come, so that memory is bounded."""
    waiting: list[Edges] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) > KEPT_PAIRS:
            waiting = [thinned(np.concatenate(waiting), count)]
    return thinned(np.concatenate(waiting), count)


def thinned(edges: Edges, count: int) -> Edges:
    """The edges of a minimum spanning forest, in no order."""
    edges[:, :2].sort(axis=1)
    # scipy adds up the weights of an edge that occurs twice, so only the nearest of each pair is kept.
    key = np.unique((edges[:, 0] * count + edges[:, 1]) * 65 + edges[:, 2])
    key = key[np.concatenate([[True], key[1:] // 65 != key[:-1] // 65])[: len(key)]]
    edges = np.stack([key // 65 // count, key // 65 % count, key % 65], axis=1)
    # To scipy a weight of 0 is no edge; scipy 1.15, the last one for Python 3.10, takes no 64-bit rows here.
    ends = edges[:, :2].astype(np.int32)
    graph = coo_array((edges[:, 2] + 1.0, (ends[:, 0], ends[:, 1])), shape=(count, count))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    return np.stack([tree.row, tree.col, tree.data.astype(np.int64) - 1], axis=1).astype(np.int64)
