"""What a detector's graph says of a picture, as boxes; and of boxes of one face, the best alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ffdi.intake.decoding.images import RGB

Floats = npt.NDArray[np.float32]  # what goes into a graph and comes out of it
Numbers = npt.NDArray[np.float64]  # what is computed from that
Size = tuple[int, int]  # height, width

MOST = 5000  # candidates of one picture that are compared with each other: the best ones


@dataclass(frozen=True, eq=False)
class Candidates:
    """N boxes (N, 4) as left, top, right, bottom, their scores (N,), and (N, 5, 2) landmarks (x, y) where there are any."""

    boxes: Numbers
    scores: Numbers
    landmarks: Numbers | None = None

    def best(self, overlap: float) -> Candidates:
        """Each face once, best score first: a box goes where a better one has more than `overlap` (IoU) in common with it.

        Boxes that are not finite or have no area go as well. Of equal scores the earlier one is the better.
        """
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        with np.errstate(invalid="ignore"):
            sound = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores) & (sides > 0).all(axis=1)
        if self.landmarks is not None:
            sound &= np.isfinite(self.landmarks).all(axis=(1, 2))
        order = np.flatnonzero(sound)
        order = order[np.argsort(-self.scores[order], kind="stable")][:MOST]
        kept = []
        while len(order):
            first, rest = order[0], order[1:]
            kept.append(first)
            order = rest[_overlaps(self.boxes[first], self.boxes[rest]) <= overlap]
        return self._of(np.array(kept, np.intp))

    def _of(self, rows: npt.NDArray[np.intp]) -> Candidates:
        points = None if self.landmarks is None else self.landmarks[rows]
        return Candidates(self.boxes[rows], self.scores[rows], points)


def joined(parts: Sequence[Candidates]) -> Candidates:
    """The candidates of several levels as one."""
    boxes, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores"))
    points = [part.landmarks for part in parts if part.landmarks is not None]
    return Candidates(boxes, scores, np.concatenate(points) if points else None)


def _overlaps(box: Numbers, others: Numbers) -> Numbers:
    """Intersection over union of a box with each of (N, 4) others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    ratio: Numbers = shared / ((box[2:] - box[:2]).prod() + areas - shared)
    return ratio


def boxes_around(centres: Numbers, sides: Numbers) -> Numbers:
    """(N, 4) boxes of (N, 2) centres (x, y) and sides (width, height)."""
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


def grid(rows: int, columns: int) -> Numbers:
    """(rows * columns, 2): the (x, y) of each place of a feature map, row by row."""
    y, x = np.divmod(np.arange(rows * columns), max(columns, 1))
    return np.stack([x, y], axis=1).astype(np.float64)


def grown(values: Numbers) -> Numbers:
    """exp of what a graph says of a side; infinite, and then no face, where that is absurd."""
    with np.errstate(over="ignore"):
        return np.exp(values)


class DetectorKind(Protocol):
    """What is known of one kind of detector: how its graph wants a picture, and what its outputs mean."""

    @property
    def name(self) -> str:
        """Its name in records."""
        ...

    @property
    def title(self) -> str:
        """Its name in prose."""
        ...

    @property
    def overlap(self) -> float:
        """The intersection over union above which two boxes are one face."""
        ...

    @property
    def multiple(self) -> int:
        """What the sides of its input are multiples of, in pixels."""
        ...

    def blob(self, pixels: RGB) -> Floats:
        """uint8 (H, W, 3) RGB -> (1, 3, H, W) float32, normalised as the network was trained."""
        ...

    def candidates(self, outputs: Sequence[Floats], size: Size, least: float) -> Candidates:
        """The candidates of at least the score `least`, in pixels of an input of this size."""
        ...


def planes(pixels: RGB | Floats) -> Floats:
    """(H, W, C) -> (1, C, H, W) float32."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
