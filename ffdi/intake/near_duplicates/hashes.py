"""Near-duplicates by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, combinations

import numpy as np

from ffdi.intake.groups import Texts, as_texts
from ffdi.intake.near_duplicates.clusters import Pairs, components
from ffdi.intake.near_duplicates.forest import KEPT_PAIRS, Edges, minimum_forest, spanning_forest, thinned
from ffdi.intake.near_duplicates.near_hashes import MOST_BITS, Hashes, Rows, expanded, near_pairs
from ffdi.parallel import cpu_count, ordered_map

_QUERIES = 1 << 12  # searched at a time
_CANDIDATES = 1 << 22  # compared at a time
_PARSED = 1 << 16  # hashes that are read at a time
_DEEPEST = 2  # bits flipped in a word: 137 buckets of 65536; with more, nearly every bucket would be searched


class HashIndex:
    """64-bit hashes that can be searched by Hamming distance, exactly and without comparing all with all.

    Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): of two hashes that differ in at most `bits`, one of
    their four 16-bit words differs in at most bits // 4, so only the buckets around each word are searched. Above 11
    bits every hash is compared.
    """

    def __init__(self, base: Hashes, bits: int) -> None:
        """`base` is (N,) uint64."""
        self.bits = bits
        radius = bits // 4
        words = 4 if radius <= _DEEPEST else 0
        flips = [sum(1 << b for b in chosen) for r in range(radius + 1) for chosen in combinations(range(16), r)]
        self._flips = np.array(flips if words else [0], np.int64)
        # (shift, hashes in the order of that word, their rows, where each value of the word starts)
        self._tables: list[tuple[int, Hashes, Rows, Rows]] = []
        for shift in range(0, 16 * words, 16):
            word = _word(base, shift)
            rows = np.argsort(word, kind="stable")
            starts = np.concatenate([[0], np.cumsum(np.bincount(word, minlength=1 << 16))])
            self._tables.append((shift, base[rows], rows, starts))
        if not words:
            self._tables = [(64, base, np.arange(len(base)), np.array([0, len(base)]))]

    def search(self, queries: Hashes) -> tuple[Rows, Rows, Rows]:
        """(query, row, distance) of every hash within `bits` of a query (Q,), sorted, each pair once."""
        query, row, distance = np.concatenate([np.empty((0, 3), np.int64), *self.pieces(queries)]).T
        order = np.lexsort((row, query))
        return query[order], row[order], distance[order]

    def pieces(self, queries: Hashes) -> Iterator[Edges]:
        """The same as rows (query, row, distance) in no order, a bounded number at a time."""
        for number, (shift, hashes, rows, starts) in enumerate(self._tables):
            for flip in self._flips:
                bucket = _word(queries, shift) ^ flip
                for query, at in expanded(starts[bucket], starts[bucket + 1] - starts[bucket], _CANDIDATES):
                    difference = hashes[at] ^ queries[query]
                    distance = np.bitwise_count(difference)
                    near = np.flatnonzero(distance <= self.bits)
                    for earlier, *_ in self._tables[:number]:  # these buckets have yielded the pair already
                        near = near[np.bitwise_count(_word(difference[near], earlier)) > self.bits // 4]
                    yield np.stack([query[near], rows[at[near]], distance[near]], axis=1)


def _word(hashes: Hashes, shift: int) -> Rows:
    """16 bits of each hash from `shift` on, as an index; 0 beyond the 64th."""
    if shift >= 64:
        return np.zeros(len(hashes), np.int64)
    return np.asarray((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)


def parse_hashes(phash: Texts) -> Hashes:
    """images.csv's phash column -> (N, 2) uint64: pHash of the image and of its mirror image."""
    texts = as_texts(phash)
    blocks = (texts.iloc[start : start + _PARSED] for start in range(0, len(texts), _PARSED))
    raw = [np.frombuffer(bytes.fromhex("".join(block)), ">u8") for block in blocks]
    return np.concatenate([np.empty(0, np.uint64), *raw]).astype(np.uint64).reshape(-1, 2)


def perceptual_pairs(phash: Texts, bits: int) -> Pairs:
    """Pairs whose pHash, of the image or of its mirror, differs in at most `bits` of 64.

    Returns a spanning forest of the pairs, the most alike first: it links each cluster by at most N - 1 pairs, however
    many frames of a video there are.
    """
    hashes = parse_hashes(phash)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    is_first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(order)]
    first, same = order[is_first], order[~is_first]
    twins = np.stack([first[np.cumsum(is_first)[~is_first] - 1], same, np.zeros(len(same), np.int64)], axis=1)
    found = _search(ordered[is_first], first, len(hashes), bits)
    return spanning_forest(chain([twins], found), len(hashes))


def _search(distinct: Hashes, first: Rows, count: int, bits: int) -> Iterable[Edges]:
    """The near pairs among `distinct` (M, 2) hashes, which are those of the rows `first` (M,) among `count`."""
    if bits > MOST_BITS:
        return _search_by_index(distinct, first, count, bits)
    found: list[Edges] = []
    for edges in _search_by_blocks(distinct, first, count, bits):
        found.append(edges)
        if sum(map(len, found)) > KEPT_PAIRS:
            return _search_by_steps(distinct, first, count, bits)
    return found


def _search_by_blocks(
    distinct: Hashes, first: Rows, count: int, bits: int, component: Rows | None = None
) -> Iterator[Edges]:
    both, size = np.concatenate([distinct[:, 0], distinct[:, 1]]), len(distinct)
    twice = None if component is None else np.tile(component[first], 2)

    def as_rows(edges: Edges) -> Edges:
        return np.column_stack([first[edges[:, :2] % size], edges[:, 2]])

    shorten = None if component is None else lambda edges: thinned(edges, 2 * size)
    for edges in near_pairs(both, size, bits, shorten, twice):
        yield as_rows(edges)


def _search_by_steps(distinct: Hashes, first: Rows, count: int, bits: int) -> Iterator[Edges]:
    """Edges that have the same minimum spanning forests, the nearest first, without most pairs of dense clusters.

    Where pairs of a few bits have linked images already, those of more bits between the same images are not looked at.
    """
    component = np.arange(count)
    edges = np.empty((0, 3), np.int64)
    for most in sorted({bits // 3, 2 * bits // 3, bits}):
        blocks = _search_by_blocks(distinct, first, count, most, component)
        edges = minimum_forest(chain([edges], blocks), count)
        component = components(edges[:, :2], count)
    yield edges


def _search_by_index(distinct: Hashes, first: Rows, count: int, bits: int) -> Iterator[Edges]:
    index = HashIndex(np.concatenate([distinct[:, 0], distinct[:, 1]]), bits)

    def search(start: int) -> Edges:
        found = []
        for piece in index.pieces(distinct[start : start + _QUERIES, 0]):
            one, other = piece[:, 0] + start, piece[:, 1] % len(distinct)
            apart = one != other
            found.append(np.stack([first[one[apart]], first[other[apart]], piece[apart, 2]], axis=1))
            if sum(map(len, found)) > KEPT_PAIRS:
                found = [thinned(np.concatenate(found), count)]
        return np.concatenate(found)

    return ordered_map(search, range(0, len(distinct), _QUERIES), cpu_count())
