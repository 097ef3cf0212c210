"""Which faces of a video are one person's: by where they are, and how large, from one sampled frame to the next.

Frames may be 40 ms apart or minutes, so boxes of one person may not overlap. How far two boxes are apart is therefore
counted in faces: the distance of their centres in sides of a box, together with the ratio of their sizes in powers of 2.
The faces of a frame and the tracks so far are paired so that the sum of the distances is least, and a pair that is
farther apart than a person moves in that time is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, log2, sqrt

import numpy as np

from ffdi.faces.face import Box, Face

# In sides of a face: half of one between frames that follow each other, three more a second, and never more than one and a
# half. Two people side by side are at least that far apart.
_AT_ONCE, _A_SECOND, _FARTHEST = 0.5, 3.0, 1.5
# A track waits for its face through so many samples, or for so long, whichever is more.
_MISSED_SAMPLES, _MISSED_SECONDS = 3, 2.0


@dataclass(frozen=True)
class _Seen:
    """The last that was seen of a track."""

    track: int
    box: Box
    seconds: float
    sample: int


class Tracker:
    """Follows the faces of one video, frame by frame in the order of time."""

    def __init__(self) -> None:
        self._tracks: list[_Seen] = []
        self._started = 0
        self._samples = 0

    def follow(self, seconds: float, faces: list[Face]) -> list[int]:
        """The track of each face of the next frame, from 0 on. New tracks are numbered from the largest face down."""
        alive = [track for track in self._tracks if self._is_waiting(track, seconds)]
        tracks: dict[int, int] = {}
        for place, face in _pairs(alive, faces, seconds):
            tracks[face] = alive[place].track
        for face in sorted(range(len(faces)), key=lambda face: -faces[face].box.area):
            if face not in tracks:
                tracks[face] = self._started
                self._started += 1
        gone = set(tracks.values())
        self._tracks = [track for track in alive if track.track not in gone]
        self._tracks += [_Seen(track, faces[face].box, seconds, self._samples) for face, track in tracks.items()]
        self._samples += 1
        return [tracks[face] for face in range(len(faces))]

    def _is_waiting(self, track: _Seen, seconds: float) -> bool:
        missed = self._samples - track.sample - 1
        return missed <= _MISSED_SAMPLES or seconds - track.seconds <= _MISSED_SECONDS


def _pairs(tracks: list[_Seen], faces: list[Face], seconds: float) -> list[tuple[int, int]]:
    """(place in tracks, place in faces) of those that are one person."""
    if not tracks or not faces:
        return []
    from scipy.optimize import linear_sum_assignment

    reach = [min(_AT_ONCE + _A_SECOND * max(seconds - track.seconds, 0.0), _FARTHEST) for track in tracks]
    apart = np.array([[_apart(track.box, face.box) for face in faces] for track in tracks]) / np.array(reach)[:, None]
    rows, columns = linear_sum_assignment(np.minimum(apart, 1.0))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if apart[row, column] < 1]


def _apart(one: Box, other: Box) -> float:
    """How far apart two boxes are, in faces."""
    sides = [max(box.width, box.height, 1e-6) for box in (one, other)]
    side = sqrt(sides[0] * sides[1])
    across = (one.left + one.right - other.left - other.right) / 2 / side
    down = (one.top + one.bottom - other.top - other.bottom) / 2 / side
    return hypot(across, down, log2(sides[0] / sides[1]))
