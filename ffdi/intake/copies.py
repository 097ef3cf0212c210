"""Copies that a perceptual hash misses: cropped, rotated, turned, overexposed, equalised; and edits of one photo.

Every image is hashed as it is and in some 315 variants. A variant within a few bits of another image is a candidate; it
is one when the pictures themselves, 32x32 and aligned by that variant, correlate. A copy is found from either side, and
with its mirror image, so that crops, turns and mirroring combine. docs/audit.md has the rates at which each kind is
found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageFilter, ImageOps

from ffdi.console import Console
from ffdi.intake.decoding.images import ImageSource, read_image
from ffdi.intake.duplicates import HashIndex, Pairs, components, spanning_forest
from ffdi.parallel import cpu_count, ordered_map

Array = npt.NDArray[Any]

SKETCH = 64  # pixels across; grey
CORRELATION = 0.9  # of aligned pictures; of real faces all 87 pairs above it are of one photo, strangers reach .874
SAME_PICTURE = 0.2  # greatest difference of a block, in standard deviations: recompressed .10, edited .50 (seen)
_BITS = 6
_SMALL = 32  # pixels across, as pHash has it
_TRIED = 3  # variants of a pair that are looked at
_IMAGES = 64  # searched at a time
_SIDES = (0.975, 0.95, 0.925, 0.9, 0.875, 0.85, 0.825, 0.8)
_STEP = 0.025  # between crops, of the image's side
_ANGLES = tuple(angle for angle in range(-20, 21, 2) if angle)
_EXPOSURES = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0)  # beyond white: clipping is what a hash does not bear
_BLURS = (1.5, 2.0, 3.0, 4.0, 6.0)  # radii, in pixels of a sketch
_DETAIL = 1.25  # so much more than a blurred one another may have
_RESAMPLING = Image.Resampling.LANCZOS


@dataclass(frozen=True)
class Copies:
    """`pairs` (M, 2) of rows, first < second, and their `correlation` (M,)."""

    pairs: Pairs
    correlation: Array


def sketch(image: Image.Image) -> Array:
    """(64, 64) uint8, grey: all that the search needs of an image."""
    return np.asarray(image.convert("L").resize((SKETCH, SKETCH), _RESAMPLING))


def read_sketches(source: ImageSource, paths: Sequence[str], console: Console = Console()) -> Array:
    """(N, 64, 64) uint8 of the images at `paths`; InputError names one that cannot be read."""

    def one(path: str) -> Array:
        return sketch(read_image(source, path)[1])[None]

    results = ordered_map(one, paths, cpu_count())
    return np.concatenate(list(console.progress(results, len(paths), phase="copies")))


def find_copies(
    sketches: Array,
    wanted: Callable[[Array, Array], Array],
    console: Console = Console(),
) -> Copies:
    """Pairs of `sketches` (N, 64, 64) uint8 that show one photo, of those alone that are `wanted`.

    `wanted(rows, others)` -> (M,) bool leaves out what is known already: each pair that is not costs .3 ms.
    """
    if not len(sketches):
        return Copies(np.empty((0, 2), np.int64), np.empty(0))
    mirrored = sketches[:, :, ::-1]
    plain = [_hashes(_small(block)) for block in _blocks(sketches)]
    turned = [_hashes(_small(block)) for block in _blocks(mirrored)]
    index = HashIndex(np.concatenate(plain + turned), _BITS)
    count = len(sketches)

    def examine(start: int) -> list[tuple[int, int, float]]:
        """(image, other, correlation) of those that correlate in one of the nearest few variants."""
        block = sketches[start : start + _IMAGES]
        hashes = np.concatenate([variant_hashes(one) for one in block])
        query, row, distance = index.search(hashes)
        image, variant = query // len(_variants()) + start, query % len(_variants())
        other = row % count
        kept = np.flatnonzero((image != other) & wanted(image, other))
        found = np.stack([image, variant, row, distance], axis=1)[kept]
        found = found[np.lexsort((found[:, 1], found[:, 3], other[kept], found[:, 0]))]
        return _confirmed(found[_rank_in_pair(found[:, 0] * count + found[:, 2] % count) < _TRIED], sketches)

    starts = range(0, count, _IMAGES)
    results = ordered_map(examine, starts, cpu_count())
    blocks = console.progress(results, len(starts), unit="blocks", phase="search")
    found = np.array([row for block in blocks for row in block], np.float64).reshape(-1, 3)
    pairs = np.sort(found[:, :2].astype(np.int64), axis=1)
    best = np.lexsort((-found[:, 2], pairs[:, 1], pairs[:, 0]))
    pairs, correlation = pairs[best], found[best, 2]
    first = np.concatenate([[True], (pairs[1:] != pairs[:-1]).any(axis=1)])[: len(pairs)]
    return Copies(pairs[first], correlation[first])


def _blocks(rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), 1024):
        yield rows[start : start + 1024]


def _rank_in_pair(pair: Array) -> Array:
    """0, 1, 2, ... within each run of equal numbers."""
    starts = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]])[: len(pair)])
    return np.arange(len(pair)) - np.repeat(starts, np.diff(np.append(starts, len(pair))))


def _confirmed(candidates: Array, sketches: Array) -> list[tuple[int, int, float]]:
    """(image, other, correlation) of those (image, variant, row of the index, distance) that correlate."""
    count, out = len(sketches), []
    for image, variant, row, _ in candidates:
        other = sketches[row % count]
        seen = other if row < count else other[:, ::-1]
        at = correlation(render(sketches[image], int(variant)), _small(seen))
        if at >= CORRELATION:
            out.append((int(image), int(row % count), at))
    return out


def correlation(one: Array, other: Array) -> float:
    """Pearson's, of two pictures of one shape; 0 where one is flat."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-6 else 0.0


def same_picture(one: Array, other: Array) -> bool:
    """Whether two sketches, or one and the other's mirror image, are alike in each 8x8 block, gain and offset aside."""

    def normal(picture: Array) -> Array:
        return np.asarray((picture - picture.mean()) / max(float(picture.std()), 1e-6))

    def worst(seen: Array) -> float:
        squares = (normal(one.astype(np.float64)) - normal(seen.astype(np.float64))) ** 2
        return float(np.sqrt(squares.reshape(8, 8, 8, 8).mean(axis=(1, 3)).max()))

    return min(worst(other), worst(other[:, ::-1])) <= SAME_PICTURE


def one_photo_pairs(alike: Pairs, label: Array, side: Array, sketches: Array) -> Pairs:
    """Of what hashes link, the pairs that show one photo by their pixels; `label`, `side` and `sketches` are (N, ...).

    `alike` (M, 2) is a forest, which may link two copies by way of a stranger: so all pairs of a cluster are compared.
    Of pairs of one label, and of pairs of two, a spanning forest is given, the most alike first. Clusters of one side
    and one label are left as they are.
    """
    cluster = components(alike, len(label))
    kinds = pd.DataFrame({"cluster": cluster, "label": label, "side": side}).groupby("cluster").nunique()
    mixed = (kinds > 1).any(axis=1).to_numpy()[cluster]
    order = np.argsort(cluster, kind="stable")
    order = order[mixed[order]]
    edges = [np.empty((0, 3), np.int64)]
    for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1) if len(order) else []:
        edges += list(_alike_within(members, sketches))
    near = np.concatenate(edges)
    sure = set(map(tuple, near[:, :2].tolist()))
    turned = [
        (a, b, 64)
        for a, b in alike[mixed[alike[:, 0]]].tolist()
        if (a, b) not in sure and _one_photo_turned(sketches[a], sketches[b])
    ]
    near = np.concatenate([near, np.array(turned, np.int64).reshape(-1, 3)])
    same = label[near[:, 0]] == label[near[:, 1]]
    found = [spanning_forest([near[kept]], len(label)) for kept in (same, ~same)]
    return np.concatenate([alike[~mixed[alike[:, 0]]], *found])


def _alike_within(members: Array, sketches: Array) -> Iterator[Array]:
    """(row, other, distance 0..64) of members, in ascending order, that correlate as they are or mirrored."""
    unit = [_normal(_small(sketches[members][:, :, ::step])) for step in (1, -1)]
    for start in range(0, len(members), 1024):
        one = unit[0][start : start + 1024]
        at = np.maximum(one @ unit[0].T, one @ unit[1].T)
        a, b = np.nonzero(at >= CORRELATION)
        distance = np.rint((1 - at[a, b]).clip(0) / (1 - CORRELATION) * 64).astype(np.int64)
        kept = a + start < b
        yield np.stack([members[a + start], members[b], distance], axis=1)[kept]


def _normal(small: Array) -> Array:
    """(N, D) of N pictures: less their mean, of length 1; 0 where one is flat."""
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.where(length > 1e-3, flat / np.maximum(length, 1e-3), 0.0))


def _one_photo_turned(one: Array, other: Array) -> bool:
    """Whether one, rotated, turned, overexposed, equalised or blurred, correlates with the other or its mirror image."""

    def reaches(a: Array, b: Array) -> bool:
        turned = _normal(_small(np.concatenate([np.stack(_turned(a)), *_as_blurred_as(a, b)])))
        seen = _normal(_small(np.stack([b, b[:, ::-1]])))
        return bool((turned @ seen.T).max() >= CORRELATION)

    return reaches(one, other) or reaches(other, one)


def _as_blurred_as(sharp: Array, soft: Array) -> Iterator[Array]:
    """(1, 64, 64) each: the first picture blurred, as long as it has no less detail than the second.

    Two sharp strangers are so never compared blurred, where many a face is like another.
    """
    wanted = _detail(soft)
    for radius in _BLURS:
        blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(radius)))
        if _DETAIL * _detail(blurred) < wanted:
            return
        yield blurred[None]


def _detail(picture: Array) -> float:
    """The root mean square of steps between neighbours, in standard deviations of the picture."""
    wide = picture.astype(np.float64)
    steps = np.concatenate([np.diff(wide, axis=0).ravel(), np.diff(wide, axis=1).ravel()])
    return float(np.sqrt((steps * steps).mean()) / max(float(wide.std()), 1e-6))


def variant_hashes(sketched: Array) -> Array:
    """(V,) uint64: the pHash of every variant of a sketch, in the order that `render` knows."""
    turns = _turned(sketched)
    low = [(_frequencies() @ turn @ _frequencies().T)[None] for turn in turns]
    picture = turns[0]
    for projection in _crops():  # all crops of one size at once: (8n, 64) @ (64, 64) @ (64, 8n)
        n = len(projection) // 8
        grid = (projection @ picture @ projection.T).reshape(n, 8, n, 8).transpose(0, 2, 1, 3)
        low.append(grid.reshape(n * n, 8, 8))
    return _bits(np.concatenate(low))


def render(sketched: Array, variant: int) -> Array:
    """(32, 32) float: one variant of a sketch."""
    turn, rows, columns = _variants()[variant]
    top, left = _resampler(*rows), _resampler(*columns)
    return np.asarray(top @ _turned(sketched, turn)[0] @ left.T)


@cache
def _variants() -> tuple[tuple[int, tuple[float, float], tuple[float, float]], ...]:
    """(turn, rows, columns) of every variant: each turn whole, then each crop."""
    whole = (0.0, 1.0)
    turns = [(turn, whole, whole) for turn in range(_TURNS)]
    return (*turns, *((0, rows, columns) for side in _SIDES for rows in _spans(side) for columns in _spans(side)))


def _spans(side: float) -> list[tuple[float, float]]:
    """Where a crop of this share of the side may begin and end, in even steps."""
    starts = np.linspace(0, 1 - side, round((1 - side) / _STEP) + 1)
    return [(float(start), float(start) + side) for start in starts]


_TURNS = 1 + len(_ANGLES) + 3 + len(_EXPOSURES) + 1


def _turned(sketched: Array, only: int | None = None) -> list[Array]:
    """The sketch as it is, rotated on black, upside down, a quarter left and right, overexposed, equalised; or one."""
    image = Image.fromarray(sketched)
    makers: list[Callable[[], Image.Image]] = [
        lambda: image,
        *((lambda a=a: image.rotate(a, Image.Resampling.BILINEAR)) for a in _ANGLES),
        lambda: ImageOps.flip(image),
        lambda: image.transpose(Image.Transpose.ROTATE_90),
        lambda: image.transpose(Image.Transpose.ROTATE_270),
        *((lambda e=e: image.point(lambda v: min(255, int(v * e)))) for e in _EXPOSURES),
        lambda: ImageOps.equalize(image),
    ]
    return [np.asarray(make(), np.float64) for make in (makers if only is None else [makers[only]])]


@cache
def _resampler(start: float, stop: float) -> Array:
    """(32, 64): resamples start..stop of a line to 32 pixels, by Pillow's own filter."""
    lines = Image.fromarray(np.eye(SKETCH, dtype=np.float32))
    box = (0.0, start * SKETCH, float(SKETCH), stop * SKETCH)
    return np.asarray(lines.resize((SKETCH, _SMALL), _RESAMPLING, box=box), np.float64)


@cache
def _cosines() -> Array:
    """(8, 32): the lowest frequencies of the DCT-II."""
    return np.asarray(np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(_SMALL)[None] + 1) / (2 * _SMALL)))


@cache
def _frequencies() -> Array:
    """(8, 64): a sketch's line to its lowest frequencies."""
    return np.asarray(_cosines() @ _resampler(0.0, 1.0))


@cache
def _crops() -> tuple[Array, ...]:
    """For each size of crop (8n, 64): the frequencies of its n spans."""
    return tuple(np.concatenate([_cosines() @ _resampler(*span) for span in _spans(side)]) for side in _SIDES)


def _small(sketches: Array) -> Array:
    """(..., 32, 32) float of (..., 64, 64) sketches."""
    return np.asarray(_resampler(0.0, 1.0) @ sketches.astype(np.float64) @ _resampler(0.0, 1.0).T)


def _hashes(small: Array) -> Array:
    """pHash (Zauner 2010) of (N, 32, 32) pictures -> (N,) uint64."""
    return _bits(_cosines() @ small @ _cosines().T)


def _bits(low: Array) -> Array:
    """(N, 8, 8) frequencies -> (N,) uint64: which are above their median."""
    flat = low.reshape(len(low), 64)
    above = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").astype(np.uint64).ravel()
