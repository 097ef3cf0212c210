"""YuNet (Wu et al., 2023, doi:10.1007/s11633-023-1423-y): a small detector in two layouts. BGR, 0 to 255.

That of 2023 has for each stride four tables: two factors of the score, offset of the centre and log of the sides, and
landmarks; all in strides. That of 2021 and 2022 corrects priors and has three: box and landmarks, scores, and overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffdi.faces.detectors.candidates import Candidates, Floats, Size, boxes_around, grid, grown, joined, planes
from ffdi.faces.detectors.levels import lengths_of, levels_of, places
from ffdi.faces.detectors.priors import corrected, priors
from ffdi.intake.decoding.images import RGB

_STRIDES = (8, 16, 32)
_SIDES_2022 = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))


class YuNet:
    """Decodes the outputs of the YuNet of 2023."""

    name, title, overlap, multiple = "yunet", "YuNet", 0.3, 32

    @classmethod
    def recognised(cls, outputs: Sequence[Floats], size: Size) -> YuNet | None:
        """The kind, where outputs for an input of this size are YuNet's."""
        wanted = places(size, _STRIDES)
        twice = [count for count in wanted for _ in range(2)]
        return cls() if lengths_of(outputs) == {1: twice, 4: wanted, 10: wanted} else None

    def blob(self, pixels: RGB) -> Floats:
        """The picture as it is, blue first."""
        return planes(pixels[:, :, ::-1])

    def candidates(self, outputs: Sequence[Floats], size: Size, least: float) -> Candidates:
        """One for each place with that score, the geometric mean of two factors, whose order does not matter."""
        tables, found = levels_of(outputs), []
        for level, stride in enumerate(_STRIDES):
            factors = [np.clip(table[:, 0].astype(np.float64), 0, 1) for table in tables[1][2 * level : 2 * level + 2]]
            scores = np.sqrt(factors[0] * factors[1])
            at = np.flatnonzero(scores >= least)
            corners = grid(size[0] // stride, size[1] // stride)[at]
            told, points = tables[4][level][at].astype(np.float64), tables[10][level][at].astype(np.float64)
            boxes = boxes_around((corners + told[:, :2]) * stride, grown(told[:, 2:]) * stride)
            landmarks = (corners[:, None] + points.reshape(-1, 5, 2)) * stride
            found.append(Candidates(boxes, scores[at], landmarks))
        return joined(found)


class YuNet2022:
    """Decodes the outputs of the YuNet of 2021 and 2022.

    OpenCV grows the widths of its boxes by half of what the network was trained to say, so that they differ a little.
    """

    name, title, overlap, multiple = "yunet", "YuNet of 2022", 0.3, 64

    @classmethod
    def recognised(cls, outputs: Sequence[Floats], size: Size) -> YuNet2022 | None:
        """The kind, where outputs for an input of this size are YuNet's."""
        wanted = [len(priors(size, _SIDES_2022))]
        return cls() if lengths_of(outputs) == dict.fromkeys((14, 2, 1), wanted) else None

    def blob(self, pixels: RGB) -> Floats:
        """The picture as it is, blue first."""
        return planes(pixels[:, :, ::-1])

    def candidates(self, outputs: Sequence[Floats], size: Size, least: float) -> Candidates:
        """One for each prior with that score: the geometric mean of that of a face and the overlap, which is told as well."""
        tables = {columns: of[0] for columns, of in levels_of(outputs).items()}
        scores = np.sqrt(tables[2][:, 1].astype(np.float64) * np.clip(tables[1][:, 0].astype(np.float64), 0, 1))
        at = np.flatnonzero(scores >= least)
        return corrected(priors(size, _SIDES_2022)[at], tables[14][at], scores[at])
