"""CenterFace (Xu et al., 2019, arXiv:1911.03599): a map of face centres at a quarter of the picture's size.

The RGB picture as it is, 0 to 255, goes in. Four maps come out: score; log of height and width; offset of the centre,
y and x; five landmarks, each y and x, in sides of the box from its top left corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffdi.faces.detectors.candidates import Candidates, Floats, Size, boxes_around, grown, planes
from ffdi.intake.decoding.images import RGB

_STRIDE = 4
_CHANNELS = (1, 2, 2, 10)


class CenterFace:
    """Decodes CenterFace's outputs."""

    name, title, overlap, multiple = "centerface", "CenterFace", 0.3, 32

    @classmethod
    def recognised(cls, outputs: Sequence[Floats], size: Size) -> CenterFace | None:
        """The kind, where outputs for an input of this size are CenterFace's."""
        height, width = size
        wanted = [(1, channels, height // _STRIDE, width // _STRIDE) for channels in _CHANNELS]
        return cls() if [output.shape for output in outputs] == wanted else None

    def blob(self, pixels: RGB) -> Floats:
        """The picture as it is."""
        return planes(pixels)

    def candidates(self, outputs: Sequence[Floats], size: Size, least: float) -> Candidates:
        """One for each place of the map with that score."""
        scores, sides, offsets, points = (output[0] for output in outputs)
        rows, columns = np.nonzero(scores[0] >= least)
        at = [output[:, rows, columns].T.astype(np.float64)[:, ::-1] for output in (sides, offsets)]  # now x, y
        size_of = grown(at[0]) * _STRIDE
        boxes = boxes_around((np.stack([columns, rows], axis=1) + at[1] + 0.5) * _STRIDE, size_of)
        inside = points[:, rows, columns].T.astype(np.float64).reshape(-1, 5, 2)[:, :, ::-1]
        with np.errstate(invalid="ignore"):  # of a side that is infinite
            landmarks = boxes[:, None, :2] + inside * size_of[:, None]
        return Candidates(boxes, scores[0, rows, columns].astype(np.float64), landmarks)
