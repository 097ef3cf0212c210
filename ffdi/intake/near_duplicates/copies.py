"""Copies that a perceptual hash misses: cropped, rotated, turned, overexposed, equalised; and edits of one photo.

Every image is hashed as it is and in some 315 variants. Where the hash of a variant is within a few bits of another
image's, the two are candidates. They are a pair when the pictures themselves, 32x32 and aligned by that variant,
correlate. A copy is found from either side, and with its mirror image, so that crops, turns and mirroring combine.
docs/audit.md has the rates at which each kind is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ffdi.console import Console
from ffdi.intake.decoding.images import ImageSource, read_image
from ffdi.intake.decoding.read_ahead import File, ReadAhead
from ffdi.intake.near_duplicates.clusters import Pairs
from ffdi.intake.near_duplicates.hashes import HashIndex
from ffdi.intake.near_duplicates.variants import (
    Floats,
    Sketches,
    hash_small,
    render,
    sketch,
    small,
    variant_hashes,
    variants,
)
from ffdi.parallel import cpu_count, ordered_map

CORRELATION = 0.9  # of aligned pictures; of real faces all 87 pairs above it are of one photo, strangers reach .874
_BITS = 6  # of 64 in which the hashes of a candidate may differ
_TRIED = 3  # variants of a pair whose pixels are compared
_IMAGES = 64  # searched at a time

Rows = npt.NDArray[np.int64]
WantedPairs = Callable[[Rows, Rows], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Copies:
    """`pairs` (M, 2) of rows, first < second, and their `correlation` (M,)."""

    pairs: Pairs
    correlation: Floats


def read_sketches(source: ImageSource, files: Sequence[File], console: Console = Console()) -> Sketches:
    """(N, 64, 64) uint8 of the images `files`, see ImageSource.files_of; InputError names one that cannot be read."""
    ahead = ReadAhead(source)

    def one(file: File) -> Sketches:
        return sketch(read_image(source, *file, ahead)[1])[None]

    results = ordered_map(one, ahead.over(files, lambda file: [file]), cpu_count())
    return np.concatenate(list(console.progress(results, len(files), phase="copies")))


def find_copies(sketches: Sketches, wanted: WantedPairs, console: Console = Console()) -> Copies:
    """Pairs of `sketches` (N, 64, 64) uint8 that show one photo, among the pairs that are `wanted`.

    `wanted(rows, others)` -> (M,) bool leaves out pairs that are known already: each pair that it keeps costs .3 ms.
    """
    if not len(sketches):
        return Copies(np.empty((0, 2), np.int64), np.empty(0))
    mirrored = sketches[:, :, ::-1]
    hashes = [hash_small(small(block)) for images in (sketches, mirrored) for block in _blocks(images)]
    index = HashIndex(np.concatenate(hashes), _BITS)
    starts = range(0, len(sketches), _IMAGES)
    results = ordered_map(lambda start: _search_block(start, sketches, index, wanted), starts, cpu_count())
    blocks = console.progress(results, len(starts), unit="blocks", phase="search")
    found = np.array([row for block in blocks for row in block], np.float64).reshape(-1, 3)
    pairs = np.sort(found[:, :2].astype(np.int64), axis=1)
    best = np.lexsort((-found[:, 2], pairs[:, 1], pairs[:, 0]))
    pairs, correlation = pairs[best], found[best, 2]
    first = np.concatenate([[True], (pairs[1:] != pairs[:-1]).any(axis=1)])[: len(pairs)]
    return Copies(pairs[first], correlation[first])


def _blocks(sketches: Sketches) -> Iterator[Sketches]:
    for start in range(0, len(sketches), 1024):
        yield sketches[start : start + 1024]


def _search_block(
    start: int, sketches: Sketches, index: HashIndex, wanted: WantedPairs
) -> list[tuple[int, int, float]]:
    """(image, other, correlation) of the copies of one block of images; `index` has all images, then all mirrored."""
    count = len(sketches)
    hashes = np.concatenate([variant_hashes(one) for one in sketches[start : start + _IMAGES]])
    query, row, distance = index.search(hashes)
    image, variant = query // len(variants()) + start, query % len(variants())
    other = row % count
    kept = np.flatnonzero((image != other) & wanted(image, other))
    candidates = np.stack([image, variant, row, distance], axis=1)[kept]
    order = np.lexsort((candidates[:, 1], candidates[:, 3], other[kept], candidates[:, 0]))  # the nearest variant first
    candidates = candidates[order]
    rank = _rank_in_pair(candidates[:, 0] * count + candidates[:, 2] % count)
    return _confirmed(candidates[rank < _TRIED], sketches)


def _rank_in_pair(pair: Rows) -> Rows:
    """0, 1, 2, ... within each run of equal numbers."""
    starts = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]])[: len(pair)])
    return np.arange(len(pair)) - np.repeat(starts, np.diff(np.append(starts, len(pair))))


def _confirmed(candidates: Rows, sketches: Sketches) -> list[tuple[int, int, float]]:
    """(image, other, correlation) of the candidates (image, variant, row of the index, distance) that correlate."""
    count, out = len(sketches), []
    for image, variant, row, _ in candidates:
        other = sketches[row % count]
        as_indexed = other if row < count else other[:, ::-1]
        value = correlation(render(sketches[image], int(variant)), small(as_indexed))
        if value >= CORRELATION:
            out.append((int(image), int(row % count), value))
    return out


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation of two pictures of one shape; 0 where one is flat."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-6 else 0.0
