"""Near-duplicates -> clusters -> final groups: images that show the same thing must never be parted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = npt.NDArray[Any]
Pairs = npt.NDArray[np.int64]  # (M, 2) row numbers, first < second

_BLOCK_BYTES = 1 << 28


def _blocks(count: int) -> list[slice]:
    """Runs of rows whose comparison with all `count` rows, at 8 bytes a pair, stays within bounds."""
    size = max(1, _BLOCK_BYTES // (8 * max(count, 1)))
    return [slice(start, start + size) for start in range(0, count, size)]


def parse_hashes(phash: Sequence[str]) -> Array:
    """images.csv's phash column -> (N, 2) uint64: pHash of the image and of its mirror image."""
    return np.array([[int(h[:16], 16), int(h[16:], 16)] for h in phash], dtype=np.uint64).reshape(-1, 2)


def perceptual_pairs(phash: Sequence[str], bits: int) -> Pairs:
    """Pairs whose pHash, of the image or of its mirror, differs in at most `bits` of 64."""
    hashes = parse_hashes(phash)
    found = []
    for rows in _blocks(len(hashes)):
        for one, other in ((0, 0), (0, 1), (1, 0)):  # image and image, image and mirror, mirror and image
            near = np.bitwise_count(hashes[rows, one, None] ^ hashes[None, rows.start :, other]) <= bits
            first, second = np.nonzero(near)
            found.append(np.stack([first, second], axis=1)[first < second] + rows.start)
    return np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 2), np.int64)


def embedding_pairs(embeddings: Array, min_cosine: float) -> Pairs:
    """Pairs of mutual nearest neighbours with a cosine of at least `min_cosine`; `embeddings` is (N, D).

    Mutual, because single links chain unlike images into one cluster.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    nearest = np.empty(len(unit), np.int64)
    cosine = np.empty(len(unit))
    for block in _blocks(len(unit)):
        similarity = unit[block] @ unit.T
        own = np.arange(len(similarity))
        similarity[own, own + block.start] = -np.inf
        nearest[block] = similarity.argmax(axis=1)
        cosine[block] = similarity.max(axis=1)
    rows = np.arange(len(unit))
    linked = (nearest[nearest] == rows) & (cosine >= min_cosine) & (rows < nearest)
    return np.stack([rows[linked], nearest[linked]], axis=1)


def component_names(pairs: Pairs, names: Sequence[str]) -> list[str]:
    """For every row the smallest name in its connected component."""
    count = len(names)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    smallest = pd.Series(list(names)).groupby(component).min()
    return [str(name) for name in smallest.loc[component]]


def join_groups(groups: Sequence[str], clusters: Sequence[str]) -> list[str]:
    """Groups that share a cluster become one, named after the smallest of them; "" (no group) joins nothing.

    A row whose whole component has no group keeps "".
    """
    groups, clusters = list(groups), list(clusters)
    nodes = {
        name: i for i, name in enumerate(dict.fromkeys([f"g{g}" for g in groups if g] + [f"c{c}" for c in clusters]))
    }
    links = [(nodes[f"g{g}"], nodes[f"c{c}"]) for g, c in zip(groups, clusters, strict=True) if g]
    graph = coo_array((np.ones(len(links)), tuple(np.array(links, np.int64).reshape(-1, 2).T)), shape=(len(nodes),) * 2)
    _, component = connected_components(graph, directed=False)
    best: dict[int, str] = {}
    for name, node in nodes.items():
        if name[0] == "g":
            best[component[node]] = min(best.get(component[node], name[1:]), name[1:])
    return [best.get(component[nodes[f"c{c}"]], "") for c in clusters]
