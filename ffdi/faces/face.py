"""A face that a detector found in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Landmarks = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright picture, from its top left corner; `right` and `bottom` are exclusive.

    It may reach beyond the picture.
    """

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return self.width * self.height

    def overlap(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(across, 0.0) * max(down, 0.0)
        return shared / union if (union := self.area + other.area - shared) > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Face:
    """A face: its box, the detector's score from 0 to 1, and (5, 2) float32 landmarks (x, y) in pixels.

    The landmarks are, as seen in the picture: the eye on the left, the eye on the right, the tip of the nose, the corner
    of the mouth on the left, that on the right. None where the detector has none.
    """

    box: Box
    score: float
    landmarks: Landmarks | None = None
