"""All pairs of 64-bit hashes that differ in a few bits: nearly linear in time, bounded in memory.

Two hashes of ten blocks that differ in at most six bits agree in at least four blocks (Manku, Jain and Das Sarma, WWW 2007).
So the hashes are sorted by the bits of each four blocks, and only those that agree in them are compared. Many hashes
are first parted by one block, so that each sort stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ffdi.intake.near_duplicates.forest import KEPT_PAIRS, Edges
from ffdi.parallel import bounded_map, cpu_count

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

MOST_BITS = 8  # with more, there are too many combinations of blocks
_EQUAL = 4  # blocks that two near hashes have in common
_PART = 1 << 18  # hashes that are sorted at a time, where there are more
_CANDIDATES = 1 << 20  # compared at a time
_SHORT = 16  # hashes of one key
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, for multiplicative hashing (Knuth 6.4)
_ROW_BYTES = 200  # of a task, for each hash


@dataclass(frozen=True)
class _HashBlocks:
    """The 64 bits, cut into blocks of about the same width: of hashes that differ in `bits`, _EQUAL of them agree."""

    bits: int

    @property
    def count(self) -> int:
        return max(self.bits, 2) + _EQUAL  # with fewer, a key and a row would need more than 64 bits

    def start(self, block: int) -> int:
        return 64 * block // self.count

    def width(self, block: int) -> int:
        return self.start(block + 1) - self.start(block)

    def of(self, hashes: Hashes, block: int) -> Hashes:
        """(N,) the bits of one block."""
        return (hashes >> np.uint64(self.start(block))) & np.uint64((1 << self.width(block)) - 1)


def near_pairs(
    hashes: Hashes, searched: int, bits: int, shorten: Callable[[Edges], Edges] | None, component: Rows | None = None
) -> Iterator[Edges]:
    """(row, other, distance) of the pairs within `bits` of 64, each once, in no order; at least one is below `searched`.

    The hashes from `searched` on are those of the mirror images of the first ones. No image is paired with its own.

    `shorten` makes fewer edges of many where a block of them would be large; without it a block ends early, with more
    than KEPT_PAIRS. With `component` (N,), pairs of one component are left out.
    """
    blocks = _HashBlocks(bits)
    order = np.arange(len(hashes)) if component is None else np.argsort(component, kind="stable")
    parts = _parts(hashes, order, component, blocks)

    def search(part: _HashPart) -> Edges:
        found = [np.empty((0, 3), np.int64)]
        for edges in part.pairs(searched):
            if len(edges):
                found.append(edges)
            if sum(map(len, found)) > KEPT_PAIRS:
                if shorten is None:
                    break
                found = [shorten(np.concatenate(found))]
        return np.concatenate(found)

    return bounded_map(search, parts, workers=cpu_count(), item_bytes=_ROW_BYTES * min(len(hashes) + 1, 2 * _PART))


@dataclass(frozen=True)
class _HashPart:
    """Hashes that are compared where they agree in block `first` and three later ones, with their `rows`.

    They agree in `first` if `is_parted`. Those of one component lie together.
    """

    blocks: _HashBlocks
    first: int
    is_parted: bool
    hashes: Hashes
    rows: Rows
    component: Rows | None

    def pairs(self, searched: int) -> Iterator[Edges]:
        """As near_pairs."""
        blocks, index_bits = self.blocks, max(len(self.hashes) - 1, 1).bit_length()
        index = np.arange(len(self.hashes), dtype=np.uint64)
        places = np.empty(4 << index_bits, np.int32)
        words = {b: blocks.of(self.hashes, b) << np.uint64(index_bits) for b in range(self.first, blocks.count)}
        for chosen in combinations(range(self.first + 1, blocks.count), _EQUAL - 1):
            key, shift = index.copy(), 0
            for block in reversed(chosen if self.is_parted else (self.first, *chosen)):
                key |= words[block] << np.uint64(shift)
                shift += blocks.width(block)
            key = key[_shared(key >> np.uint64(index_bits), places)]
            key.sort()
            at = (key & np.uint64((1 << index_bits) - 1)).astype(np.int64)
            for one, other in self._alike(key >> np.uint64(index_bits), at):
                yield self._near(one, other, chosen[-1], searched)

    def _alike(self, key: Hashes, at: Rows) -> Iterator[tuple[Rows, Rows]]:
        """Places of two hashes of one key, and of two components; a bounded number at a time."""
        if self.component is None and not (key[_SHORT:] == key[:-_SHORT]).any():
            for apart in range(
                1, _SHORT
            ):  # nearly every run is of two: a look at each distance is faster than an expansion
                place = np.flatnonzero(key[apart:] == key[:-apart])
                if not len(place):
                    return
                yield at[place], at[place + apart]
            return
        same = key[1:] == key[:-1]
        if not same.any():
            return
        ends = np.append(np.flatnonzero(~same), len(same))  # the last of each run
        place = np.flatnonzero(same)
        last = ends[np.searchsorted(ends, place)]
        if self.component is None:
            following = place + 1
        else:
            kind = self.component[at]
            other_kinds = np.append(np.flatnonzero(~same | (kind[1:] != kind[:-1])), len(same))
            following = other_kinds[np.searchsorted(other_kinds, place)] + 1
        for query, other in expanded(following, last + 1 - following, _CANDIDATES):
            yield at[place[query]], at[other]

    def _near(self, one: Rows, other: Rows, last: int, searched: int) -> Edges:
        """The near ones among pairs that agree in the chosen blocks, if these are the first ones that they agree in."""
        difference = self.hashes[one] ^ self.hashes[other]
        distance = np.bitwise_count(difference)
        near = np.flatnonzero(distance <= self.blocks.bits)
        difference = difference[near]
        agreeing = sum((self.blocks.of(difference, b) == 0).astype(np.int64) for b in range(last))
        near = near[agreeing == _EQUAL - 1]
        rows, others = self.rows[one[near]], self.rows[other[near]]
        edges = np.stack([rows, others, distance[near].astype(np.int64)], axis=1)
        return np.asarray(edges[(np.minimum(rows, others) < searched) & (np.abs(rows - others) != searched)])


def _shared(key: Hashes, places: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """(N,) whether another key may equal this one: all that do are found, and a few more. `places` (2^B,) is scratch.

    A sort of all keys would take four times as long.
    """
    bucket = ((key * _SPREAD) >> np.uint64(65 - len(places).bit_length())).view(np.int64)
    index = np.arange(len(key), dtype=np.int32)
    places[bucket] = index
    taken_by = places[bucket]
    pushed_out = np.flatnonzero(taken_by != index)
    shared = np.zeros(len(key), bool)
    shared[pushed_out] = True
    shared[taken_by[pushed_out]] = True
    return shared


def _parts(hashes: Hashes, order: Rows, component: Rows | None, blocks: _HashBlocks) -> Iterator[_HashPart]:
    """All parts, for each block that may be the first of those that two hashes agree in."""
    for first in range(blocks.count - _EQUAL + 1):
        if len(hashes) <= _PART:
            kinds = None if component is None else component[order]
            yield _HashPart(blocks, first, False, hashes[order], order, kinds)
            continue
        block = blocks.of(hashes[order], first).astype(np.uint16)
        rows = order[np.argsort(block, kind="stable")]
        for part in np.split(rows, np.cumsum(np.bincount(block))[:-1]):
            if len(part) > 1:
                yield _HashPart(blocks, first, True, hashes[part], part, None if component is None else component[part])


def expanded(first: Rows, count: Rows, most: int) -> Iterator[tuple[Rows, Rows]]:
    """(query, place) for count[q] places from first[q] on, for every q; about `most` at a time."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    stops = np.searchsorted(ends, np.arange(most, total, most), side="right")
    start = 0
    for stop in np.unique([*stops, len(count)]):
        some = slice(start, stop)
        query = np.repeat(np.arange(start, stop), count[some])
        shift = first[some] - (ends[some] - count[some]) + (ends[start - 1] if start else 0)
        yield query, np.arange(len(query)) + np.repeat(shift, count[some])
        start = stop
