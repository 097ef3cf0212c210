"""Boxes that are told as corrections of prior boxes, as RetinaFace and the YuNet of 2022 tell them.

Every place of a feature map has square priors of known sides. A box is its prior, moved by a tenth of its side for each unit
and grown by the exponential of a fifth of a unit; a landmark is moved likewise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ffdi.faces.detectors.candidates import Candidates, Floats, Numbers, Size, boxes_around, grid, grown

_MOVE, _GROW = 0.1, 0.2  # the variances of SSD, with which these detectors are trained
Sides = tuple[tuple[int, ...], ...]  # of the priors, for the strides 8, 16, 32, ...


@lru_cache(maxsize=32)
def priors(size: Size, sides: Sides) -> Numbers:
    """(N, 3): x and y of the centre and the side of each prior, in pixels of an input of this size."""
    levels = []
    for level, of in enumerate(sides):
        stride = 8 << level
        centres = (grid(size[0] // stride, size[1] // stride) + 0.5) * stride
        each = np.tile(np.array(of, np.float64), len(centres))
        levels.append(np.column_stack([np.repeat(centres, len(of), axis=0), each]))
    made = np.concatenate(levels)
    made.flags.writeable = False  # callers share it
    return made


def corrected(chosen: Numbers, told: Floats, scores: Numbers) -> Candidates:
    """Candidates of (N, 3) priors, of what is told of each: (N, 14), x, y, width and height, then x and y of the landmarks."""
    centres, side = chosen[:, :2], chosen[:, 2:]
    units = told.astype(np.float64)
    boxes = boxes_around(centres + units[:, :2] * _MOVE * side, side * grown(units[:, 2:4] * _GROW))
    points = centres[:, None] + units[:, 4:].reshape(-1, 5, 2) * _MOVE * side[:, None]
    return Candidates(boxes, scores, points)
