"""Near-duplicates -> clusters -> final groups: images that show the same thing must never be parted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from ffdi.intake.groups import memberships
from ffdi.parallel import cpu_count, ordered_map

Array = npt.NDArray[Any]
Pairs = npt.NDArray[np.int64]  # (M, 2) row numbers, first < second

_BLOCK_BYTES = 1 << 28
_QUERIES = 1 << 12  # searched at a time
_CANDIDATES = 1 << 22  # compared at a time
_PAIRS = 1 << 22  # kept at a time, before they are thinned to a forest
_DEEPEST = 2  # bits flipped in a word: 137 buckets of 65536; at more, nearly every bucket is looked into


class HashIndex:
    """64-bit hashes that can be searched by Hamming distance, exactly and without comparing all with all.

    Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): of two hashes that differ in at most `bits`, one of
    their four 16-bit words differs in at most bits // 4, so only the buckets around each word are looked into. Above
    11 bits every hash is compared.
    """

    def __init__(self, base: Array, bits: int) -> None:
        """`base` is (N,) uint64."""
        self.bits = bits
        radius = bits // 4
        words = 4 if radius <= _DEEPEST else 0
        flips = [sum(1 << b for b in chosen) for r in range(radius + 1) for chosen in combinations(range(16), r)]
        self._flips = np.array(flips if words else [0], np.int64)
        # (shift, hashes in the order of that word, their rows, where each value of the word starts)
        self._tables: list[tuple[int, Array, Array, Array]] = []
        for shift in range(0, 16 * words, 16):
            word = _word(base, shift)
            rows = np.argsort(word, kind="stable")
            starts = np.concatenate([[0], np.cumsum(np.bincount(word, minlength=1 << 16))])
            self._tables.append((shift, base[rows], rows, starts))
        if not words:
            self._tables = [(64, base, np.arange(len(base)), np.array([0, len(base)]))]

    def search(self, queries: Array) -> tuple[Array, Array, Array]:
        """(query, row, distance) of every hash within `bits` of a query (Q,), sorted, each pair once."""
        query, row, distance = np.concatenate([np.empty((0, 3), np.int64), *self.pieces(queries)]).T
        order = np.lexsort((row, query))
        return query[order], row[order], distance[order]

    def pieces(self, queries: Array) -> Iterator[Array]:
        """The rows (query, row, distance) of `search` in no order, a bounded number at a time."""
        for number, (shift, hashes, rows, starts) in enumerate(self._tables):
            for flip in self._flips:
                bucket = _word(queries, shift) ^ flip
                for query, at in _expanded(starts[bucket], starts[bucket + 1] - starts[bucket]):
                    difference = hashes[at] ^ queries[query]
                    distance = np.bitwise_count(difference)
                    near = np.flatnonzero(distance <= self.bits)
                    for earlier, *_ in self._tables[:number]:  # whose buckets have brought the pair already
                        near = near[np.bitwise_count(_word(difference[near], earlier)) > self.bits // 4]
                    yield np.stack([query[near], rows[at[near]], distance[near]], axis=1)


def _expanded(first: Array, count: Array) -> Iterator[tuple[Array, Array]]:
    """(query, place) for count[q] places from first[q] on, for every q; a bounded number at a time."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    stops = np.searchsorted(ends, np.arange(_CANDIDATES, total, _CANDIDATES), side="right")
    start = 0
    for stop in np.unique([*stops, len(count)]):
        some = slice(start, stop)
        query = np.repeat(np.arange(start, stop), count[some])
        shift = first[some] - (ends[some] - count[some]) + (ends[start - 1] if start else 0)
        yield query, np.arange(len(query)) + np.repeat(shift, count[some])
        start = stop


def _word(hashes: Array, shift: int) -> Array:
    """Sixteen bits of each hash, as an index; all alike beyond the 64th."""
    if shift >= 64:
        return np.zeros(len(hashes), np.int64)
    return np.asarray((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)


def parse_hashes(phash: Sequence[str]) -> Array:
    """images.csv's phash column -> (N, 2) uint64: pHash of the image and of its mirror image."""
    return np.array([[int(h[:16], 16), int(h[16:], 16)] for h in phash], dtype=np.uint64).reshape(-1, 2)


def perceptual_pairs(phash: Sequence[str], bits: int) -> Pairs:
    """Pairs whose pHash, of the image or of its mirror, differs in at most `bits` of 64.

    Not every pair but a spanning forest of them, the most alike first: enough to link each cluster, and at most N - 1
    pairs however many frames of a video there are.
    """
    hashes = parse_hashes(phash)
    distinct, first, which = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    same = np.flatnonzero(first[which] != np.arange(len(hashes)))
    twins = np.stack([first[which[same]], same, np.zeros(len(same), np.int64)], axis=1)
    index = HashIndex(np.concatenate([distinct[:, 0], distinct[:, 1]]), bits) if len(distinct) else None

    def search(start: int) -> Array:
        assert index is not None
        found = []
        for piece in index.pieces(distinct[start : start + _QUERIES, 0]):
            one, other = piece[:, 0] + start, piece[:, 1] % len(distinct)
            apart = one != other
            found.append(np.stack([first[one[apart]], first[other[apart]], piece[apart, 2]], axis=1))
            if sum(map(len, found)) > _PAIRS:
                found = [_thinned(np.concatenate(found), len(hashes))]
        return np.concatenate(found)

    blocks = ordered_map(search, range(0, len(distinct), _QUERIES), cpu_count())
    return spanning_forest(chain([twins], blocks), len(hashes))


def spanning_forest(blocks: Iterable[Array], count: int) -> Pairs:
    """The pairs of a minimum spanning forest of (first, second, distance 0..64) rows among `count`, sorted.

    The rows are thinned as their blocks come, so that memory is bounded.
    """
    waiting: list[Array] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) > _PAIRS:
            waiting = [_thinned(np.concatenate(waiting), count)]
    pairs = np.sort(_thinned(np.concatenate(waiting), count)[:, :2], axis=1)
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])


def _thinned(edges: Array, count: int) -> Array:
    edges[:, :2].sort(axis=1)
    # The nearest of each pair, for scipy adds up what stands twice: distances are at most 64.
    key = np.unique((edges[:, 0] * count + edges[:, 1]) * 65 + edges[:, 2])
    key = key[np.concatenate([[True], key[1:] // 65 != key[:-1] // 65])[: len(key)]]
    edges = np.stack([key // 65 // count, key // 65 % count, key % 65], axis=1)
    # A weight of 0 is no edge to scipy, and scipy 1.15, the last one for Python 3.10, takes no 64-bit rows here.
    ends = edges[:, :2].astype(np.int32)
    graph = coo_array((edges[:, 2] + 1.0, (ends[:, 0], ends[:, 1])), shape=(count, count))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    return np.stack([tree.row, tree.col, tree.data.astype(np.int64) - 1], axis=1).astype(np.int64)


def embedding_pairs(embeddings: Array, min_cosine: float, apart: Array | None = None) -> Pairs:
    """Pairs of mutual nearest neighbours with a cosine of at least `min_cosine`; `embeddings` is (N, D).

    Mutual, because single links chain unlike images into one cluster. With `apart` (N,), only rows of another value
    count as neighbours: what is already together must not hide what is not.
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


def components(pairs: Pairs, count: int) -> Array:
    """(count,) the number of each row's connected component."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def component_names(pairs: Pairs, names: Sequence[str]) -> list[str]:
    """For every row the smallest name in its connected component."""
    component = components(pairs, len(names))
    order = np.argsort(np.array(names, dtype=np.str_), kind="stable")
    smallest = np.full(component.max(initial=-1) + 1, -1)
    smallest[component[order[::-1]]] = order[::-1]  # the last to be written is the first by name
    return [names[row] for row in smallest[component]]


def held_together(pairs: Pairs, names: Sequence[str], groups: Sequence[str]) -> Array:
    """A number for every row, equal for rows that `pairs`, groups ("" is none) or both hold together."""
    clusters = component_names(pairs, names)
    joined = join_groups(groups, clusters)
    held = [f"g{g}" if g else f"c{c}" for g, c in zip(joined, clusters, strict=True)]
    return np.asarray(np.unique(held, return_inverse=True)[1])


def join_groups(groups: Sequence[str], clusters: Sequence[str]) -> list[str]:
    """Groups that share a cluster or an image become one, named after the smallest of them; "" (no group) joins nothing.

    A row whose whole component has no group keeps "".
    """
    clusters = list(clusters)
    rows, names = memberships(groups)
    nodes = {name: i for i, name in enumerate(dict.fromkeys([f"g{g}" for g in names] + [f"c{c}" for c in clusters]))}
    links = [(nodes[f"g{g}"], nodes[f"c{clusters[row]}"]) for row, g in zip(rows, names, strict=True)]
    component = components(np.array(links, np.int64).reshape(-1, 2), len(nodes))
    best: dict[int, str] = {}
    for name, node in nodes.items():
        if name[0] == "g":
            best[component[node]] = min(best.get(component[node], name[1:]), name[1:])
    return [best.get(component[nodes[f"c{c}"]], "") for c in clusters]
