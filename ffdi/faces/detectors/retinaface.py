"""RetinaFace (Deng et al., 2019, arXiv:1905.00641) as the ports to PyTorch export it: boxes, scores and landmarks in three tables.

BGR less the means of the data that the network began with. Of the scores, the second column is that of a face.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffdi.faces.detectors.candidates import Candidates, Floats, Numbers, Size, planes
from ffdi.faces.detectors.levels import lengths_of, levels_of
from ffdi.faces.detectors.priors import corrected, priors
from ffdi.intake.decoding.images import RGB

_SIDES = ((16, 32), (64, 128), (256, 512))
_BGR_MEANS = np.array([104, 117, 123], np.float32)[None, :, None, None]


class RetinaFace:
    """Decodes RetinaFace's outputs."""

    name, title, overlap, multiple = "retinaface", "RetinaFace", 0.4, 32

    @classmethod
    def recognised(cls, outputs: Sequence[Floats], size: Size) -> RetinaFace | None:
        """The kind, where outputs for an input of this size are RetinaFace's, in whichever order."""
        wanted = [len(priors(size, _SIDES))]
        return cls() if lengths_of(outputs) == dict.fromkeys((4, 2, 10), wanted) else None

    def blob(self, pixels: RGB) -> Floats:
        """Blue first, around 0."""
        return planes(pixels[:, :, ::-1]) - _BGR_MEANS

    def candidates(self, outputs: Sequence[Floats], size: Size, least: float) -> Candidates:
        """One for each prior with that score."""
        tables = {columns: of[0] for columns, of in levels_of(outputs).items()}
        scores = _of_a_face(tables[2].astype(np.float64))
        at = np.flatnonzero(scores >= least)
        told = np.concatenate([tables[4][at], tables[10][at]], axis=1)
        return corrected(priors(size, _SIDES)[at], told, scores[at])


def _of_a_face(scores: Numbers) -> Numbers:
    """The second of two scores; of an export without the last softmax, whose rows do not sum to 1, by that."""
    if len(scores) == 0 or np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        face: Numbers = scores[:, 1]
        return face
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(scores[:, 0] - scores[:, 1]))
