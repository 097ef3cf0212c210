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


COLUMNS = tuple(field.name for field in fields(Judgement))
Row = tuple[Judgement, ...]  # of several models on one picture
UNLIKE = "unlike the training data"


class Tally:
    """Counts rows of `models` models that pass, and says what they came to."""

    def __init__(self, models: int) -> None:
        self.rows, self.unreadable = 0, 0
        self._verdicts = [Counter[str]() for _ in range(models)]
        self._unlike: list[int | None] = [None] * models

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, unchanged."""
        for row in rows:
            self.rows += 1
            self.unreadable += row[0].score is None
            for place, judgement in enumerate(row):
                if judgement.verdict:
                    self._verdicts[place][judgement.verdict] += 1
                if judgement.unlike is not None:
                    self._unlike[place] = (self._unlike[place] or 0) + judgement.unlike
            yield row

    def lines(self, names: Sequence[str]) -> Iterator[str]:
        """A line for each model; names are said where there are several."""
        images = f"{self.rows} image{'' if self.rows == 1 else 's'}"
        for name, verdicts, unlike in zip(names, self._verdicts, self._unlike, strict=True):
            counts = [f"{verdicts[kind]} {kind}" for kind in ("fake", "real")]
            counts += [f"{verdicts['undecided']} undecided"] if verdicts["undecided"] else []
            counts += [] if unlike is None else [f"{unlike} {UNLIKE}"]
            counts += [f"{self.unreadable} unreadable"] if self.unreadable else []
            yield f"{name}: " * (len(names) > 1) + f"{images}: {', '.join(counts)}"
