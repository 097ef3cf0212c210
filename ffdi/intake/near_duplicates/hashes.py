"""Near-duplicates by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

from ffdi.intake.near_duplicates.clusters import Pairs
from ffdi.intake.near_duplicates.forest import KEPT_PAIRS, Edges, spanning_forest, thinned
from ffdi.parallel import cpu_count, ordered_map

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

_QUERIES = 1 << 12  # searched at a time
_CANDIDATES = 1 << 22  # compared at a time
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
                for query, at in _expanded(starts[bucket], starts[bucket + 1] - starts[bucket]):
                    difference = hashes[at] ^ queries[query]
                    distance = np.bitwise_count(difference)
                    near = np.flatnonzero(distance <= self.bits)
                    for earlier, *_ in self._tables[:number]:  # these buckets have yielded the pair already
                        near = near[np.bitwise_count(_word(difference[near], earlier)) > self.bits // 4]
                    yield np.stack([query[near], rows[at[near]], distance[near]], axis=1)


def _expanded(first: Rows, count: Rows) -> Iterator[tuple[Rows, Rows]]:
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


def _word(hashes: Hashes, shift: int) -> Rows:
    """16 bits of each hash from `shift` on, as an index; 0 beyond the 64th."""
    if shift >= 64:
        return np.zeros(len(hashes), np.int64)
    return np.asarray((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)


def parse_hashes(phash: Sequence[str]) -> Hashes:
    """images.csv's phash column -> (N, 2) uint64: pHash of the image and of its mirror image."""
    return np.array([[int(h[:16], 16), int(h[16:], 16)] for h in phash], dtype=np.uint64).reshape(-1, 2)


def perceptual_pairs(phash: Sequence[str], bits: int) -> Pairs:
    """Pairs whose pHash, of the image or of its mirror, differs in at most `bits` of 64.

    Returns a spanning forest of the pairs, the most alike first: it links each cluster by at most N - 1 pairs, however
    many frames of a video there are.
    """
    hashes = parse_hashes(phash)
    distinct, first, which = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    same = np.flatnonzero(first[which] != np.arange(len(hashes)))
    twins = np.stack([first[which[same]], same, np.zeros(len(same), np.int64)], axis=1)
    index = HashIndex(np.concatenate([distinct[:, 0], distinct[:, 1]]), bits) if len(distinct) else None

    def search(start: int) -> Edges:
        assert index is not None
        found = []
        for piece in index.pieces(distinct[start : start + _QUERIES, 0]):
            one, other = piece[:, 0] + start, piece[:, 1] % len(distinct)
            apart = one != other
            found.append(np.stack([first[one[apart]], first[other[apart]], piece[apart, 2]], axis=1))
            if sum(map(len, found)) > KEPT_PAIRS:
                found = [thinned(np.concatenate(found), len(hashes))]
        return np.concatenate(found)

    blocks = ordered_map(search, range(0, len(distinct), _QUERIES), cpu_count())
    return spanning_forest(chain([twins], blocks), len(hashes))
