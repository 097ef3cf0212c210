"""SCRFD (Guo et al., 2021, arXiv:2105.04714) as insightface exports it, with or without landmarks.

RGB, (v - 127.5) / 128. For each stride three tables: scores, distances from the place to the four sides of the box, and
those to the landmarks, all in strides. Each place has two rows, or one in the exports of five strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffdi.faces.detectors.candidates import Candidates, Floats, Size, grid, joined, planes
from ffdi.faces.detectors.levels import levels_of, places
from ffdi.intake.decoding.images import RGB

_STRIDES = {3: (8, 16, 32), 5: (8, 16, 32, 64, 128)}


@dataclass(frozen=True)
class Scrfd:
    """Decodes SCRFD's outputs; `rows` is how many a place has."""

    strides: tuple[int, ...]
    rows: int

    name = "scrfd"
    title = "SCRFD"
    overlap = 0.4

    @property
    def multiple(self) -> int:
        """The coarsest stride."""
        return max(32, self.strides[-1])

    @classmethod
    def recognised(cls, outputs: Sequence[Floats], size: Size) -> Scrfd | None:
        """The kind, where outputs for an input of this size are SCRFD's."""
        tables = levels_of(outputs)
        strides = _STRIDES.get(len(tables.get(1, ())), ())
        if not strides or set(tables) not in ({1, 4}, {1, 4, 10}):
            return None
        wanted = places(size, strides)
        rows = len(tables[1][0]) // wanted[0]
        fits = all([len(table) for table in of] == [rows * count for count in wanted] for of in tables.values())
        return cls(strides, rows) if fits and rows in (1, 2) else None

    def blob(self, pixels: RGB) -> Floats:
        """Around 0, from -1 to 1."""
        return (planes(pixels) - np.float32(127.5)) / np.float32(128)

    def candidates(self, outputs: Sequence[Floats], size: Size, least: float) -> Candidates:
        """One for each row with that score."""
        tables, found = levels_of(outputs), []
        for level, stride in enumerate(self.strides):
            scores = tables[1][level][:, 0]
            at = np.flatnonzero(scores >= least)
            centres = grid(size[0] // stride, size[1] // stride)[at // self.rows] * stride
            reach = tables[4][level][at].astype(np.float64) * stride
            boxes = np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], axis=1)
            points = None
            if 10 in tables:
                points = centres[:, None] + tables[10][level][at].astype(np.float64).reshape(-1, 5, 2) * stride
            found.append(Candidates(boxes, scores[at].astype(np.float64), points))
        return joined(found)
