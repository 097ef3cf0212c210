"""What a model says of a picture, and what many such rows come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Judgement:
    """What a model says of one picture: the row of every table of verdicts, in this order.

    `score` is the calibrated P(fake). `verdict` is `real`, `fake` or `undecided`. `spread` is the standard deviation of
    the scores by the folds' tails; None for a model with one tail. `unlike`: whether the picture is unlike the images of
    the training; None for a model without an index of them. Where the picture cannot be read, `reason` says why and the
    others are None.
    """

    path: str
    score: float | None = None
    verdict: str | None = None
    spread: float | None = None
    unlike: bool | None = None
    reason: str | None = None


@dataclass(frozen=True)
class FaceJudgement(Judgement):
    """What a model of face crops says of a photo or video (`track` is None), or of one person in it: after the columns above.

    `score` of a `track` (from 0) is that of its crops, joined, and that of the file is that of its most fake track.
    `spread` is that of these joined scores. `frames`: how many crops it joins; of a file, in how many frames there are any.
    `frame_spread`: the standard deviation of the crops' scores; None of one. `seconds`, None of a photo, and `box` (left, top,
    right and bottom, in pixels of the upright picture) are where the most fake of the crops is. `reason` may be that a file
    has no face.
    """

    track: int | None = None
    frames: int | None = None
    frame_spread: float | None = None
    seconds: float | None = None
    box: str | None = None


COLUMNS = tuple(field.name for field in fields(Judgement))
FACE_COLUMNS = tuple(field.name for field in fields(FaceJudgement))
Row = tuple[Judgement, ...]  # of several models on one picture
NO_FACE = "no face"  # a reason begins so
UNLIKE = "unlike the training data"


def track_of(row: Row) -> int | None:
    """The number of the person in a file that a row is of, whose own row it follows; None of a row of its own."""
    return row[0].track if isinstance(row[0], FaceJudgement) else None


class Tally:
    """Counts rows of `models` models that pass, and says what they came to. `things` are what a row is of."""

    def __init__(self, models: int, things: str = "image") -> None:
        self.things = things
        self.rows, self.unreadable, self.faceless = 0, 0, 0
        self._verdicts = [Counter[str]() for _ in range(models)]
        self._unlike: list[int | None] = [None] * models

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, unchanged. Those of the people in a file are not counted beside it."""
        for row in rows:
            if track_of(row) is not None:
                yield row
                continue
            self.rows += 1
            faceless = isinstance(row[0], FaceJudgement) and (row[0].reason or "").startswith(NO_FACE)
            self.faceless += faceless
            self.unreadable += row[0].score is None and not faceless
            for place, judgement in enumerate(row):
                if judgement.verdict:
                    self._verdicts[place][judgement.verdict] += 1
                if judgement.unlike is not None:
                    self._unlike[place] = (self._unlike[place] or 0) + judgement.unlike
            yield row

    def lines(self, names: Sequence[str]) -> Iterator[str]:
        """A line for each model; names are said where there are several."""
        images = f"{self.rows} {self.things}{'' if self.rows == 1 else 's'}"
        for name, verdicts, unlike in zip(names, self._verdicts, self._unlike, strict=True):
            counts = [f"{verdicts[kind]} {kind}" for kind in ("fake", "real")]
            counts += [f"{verdicts['undecided']} undecided"] if verdicts["undecided"] else []
            counts += [] if unlike is None else [f"{unlike} {UNLIKE}"]
            counts += [f"{self.faceless} without a face"] if self.faceless else []
            counts += [f"{self.unreadable} unreadable"] if self.unreadable else []
            yield f"{name}: " * (len(names) > 1) + f"{images}: {', '.join(counts)}"
