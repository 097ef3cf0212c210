"""Whether two pictures are of one photo, decided by their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageFilter

from ffdi.intake.near_duplicates.clusters import Pairs, components
from ffdi.intake.near_duplicates.copies import CORRELATION
from ffdi.intake.near_duplicates.forest import spanning_forest
from ffdi.intake.near_duplicates.variants import Floats, Sketches, small, whole_variants

Rows = npt.NDArray[np.int64]

SAME_PICTURE = 0.2  # greatest difference of a block, in standard deviations: recompressed .10, edited .50 (seen)
_BLURS = (1.5, 2.0, 3.0, 4.0, 6.0)  # radii, in pixels of a sketch
_DETAIL = 1.25  # how much more detail the other picture may have than a blurred one


def same_picture(one: Sketches, other: Sketches) -> bool:
    """Whether two sketches, or one and the other's mirror image, are alike in each 8x8 block, up to gain and offset."""

    def normal(picture: Floats) -> Floats:
        return np.asarray((picture - picture.mean()) / max(float(picture.std()), 1e-6))

    def worst(seen: Sketches) -> float:
        squares = (normal(one.astype(np.float64)) - normal(seen.astype(np.float64))) ** 2
        return float(np.sqrt(squares.reshape(8, 8, 8, 8).mean(axis=(1, 3)).max()))

    return min(worst(other), worst(other[:, ::-1])) <= SAME_PICTURE


def one_photo_pairs(alike: Pairs, label: npt.NDArray[Any], side: npt.NDArray[Any], sketches: Sketches) -> Pairs:
    """The pairs that hashes link and that show one photo by their pixels; `label`, `side` and `sketches` are (N, ...).

    `alike` (M, 2) is a forest. It may link two copies through an image that only looks like both, so all pairs of a
    cluster are compared. Returns two spanning forests, the most alike first: one of pairs with equal labels, one of
    pairs with two labels. Clusters of one side and one label are returned as they are.
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


def _alike_within(members: Rows, sketches: Sketches) -> Iterator[Rows]:
    """(row, other, distance 0..64) of members, in ascending order, that correlate as they are or mirrored."""
    unit = [_normal(small(sketches[members][:, :, ::step])) for step in (1, -1)]
    for start in range(0, len(members), 1024):
        one = unit[0][start : start + 1024]
        at = np.maximum(one @ unit[0].T, one @ unit[1].T)
        a, b = np.nonzero(at >= CORRELATION)
        distance = np.rint((1 - at[a, b]).clip(0) / (1 - CORRELATION) * 64).astype(np.int64)
        kept = a + start < b
        yield np.stack([members[a + start], members[b], distance], axis=1)[kept]


def _normal(pictures: Floats) -> Floats:
    """(N, D) of N pictures: their mean subtracted, scaled to length 1; zeros where one is flat."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.where(length > 1e-3, flat / np.maximum(length, 1e-3), 0.0))


def _one_photo_turned(one: Sketches, other: Sketches) -> bool:
    """Whether a whole variant of one picture, or one blurred, correlates with the other or its mirror image."""

    def reaches(a: Sketches, b: Sketches) -> bool:
        turned = _normal(small(np.concatenate([np.stack(whole_variants(a)), *_as_blurred_as(a, b)])))
        seen = _normal(small(np.stack([b, b[:, ::-1]])))
        return bool((turned @ seen.T).max() >= CORRELATION)

    return reaches(one, other) or reaches(other, one)


def _as_blurred_as(sharp: Sketches, soft: Sketches) -> Iterator[Sketches]:
    """(1, 64, 64) each: the first picture, blurred more and more, as long as it has no less detail than the second.

    So two sharp pictures are never compared blurred: blurred faces of different people are too much alike.
    """
    wanted = _detail(soft)
    for radius in _BLURS:
        blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(radius)))
        if _DETAIL * _detail(blurred) < wanted:
            return
        yield blurred[None]


def _detail(picture: Sketches) -> float:
    """The root mean square difference of neighbouring pixels, in standard deviations of the picture."""
    wide = picture.astype(np.float64)
    steps = np.concatenate([np.diff(wide, axis=0).ravel(), np.diff(wide, axis=1).ravel()])
    return float(np.sqrt((steps * steps).mean()) / max(float(wide.std()), 1e-6))
