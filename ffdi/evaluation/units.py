"""Images that are judged together, such as the frames of a video: which images are one unit, and what its score is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.evaluation.settings import UnitRule
from ffdi.intake.groups import Texts, as_texts
from ffdi.intake.near_duplicates.clusters import components

if TYPE_CHECKING:
    from ffdi.tails.checkpoint import Scores

UNIT = "unit"  # the column of tables of scores
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Units:
    """Units of images. `of_image` (N,) is the number of each image's unit, `of_score` how scores of its images become one.

    `table` has a row for each unit: `unit`, its name; `label`, 1 if any of its images is a fake; `group`, equal for units
    that stay together; `images`, how many it has; `mixed`, whether they have both labels; and the `attr_*` that all of
    its images share, "" where they differ.
    """

    of_image: Numbers
    table: pd.DataFrame
    of_score: str

    @classmethod
    def of(cls, images: pd.DataFrame, rule: UnitRule) -> Units:
        """Those of images.csv, or a part of it, with `label` and `group`. InputError where it has no such attribute.

        A unit is known by its whole cell, never by a part of a path: several videos may lie in folders of one name. An
        image whose cell is empty is a unit of its own. Groups that share a unit are one.
        """
        column = rule.column
        if column not in images:
            known = ", ".join(name.removeprefix("attr_") for name in images.columns if name.startswith("attr_"))
            raise InputError(f"the images have no attribute {rule.attribute} to judge by; they have {known or 'none'}")
        of_image, names = numbered(images[column], images["image_id"])
        order = np.argsort(of_image, kind="stable")
        starts = np.searchsorted(of_image[order], np.arange(len(names)))

        def least_and_most(values: Numbers) -> tuple[Numbers, Numbers]:
            return np.minimum.reduceat(values[order], starts), np.maximum.reduceat(values[order], starts)

        least, most = least_and_most(images["label"].to_numpy(np.int64))
        table = {"unit": names, "label": most, "group": _groups(images["group"], of_image)}
        table |= {"images": np.bincount(of_image), "mixed": least != most}
        for name in images.columns:
            if name.startswith("attr_") and name != column:
                codes, values = pd.factorize(images[name])
                least, most = least_and_most(codes.astype(np.int64))
                table[name] = np.where(least == most, np.asarray(values, str)[most], "")
        return cls(of_image, pd.DataFrame(table), rule.score)

    def scores(self, scores: Scores) -> Scores:
        """(U,) the score of each unit, of those (N,) of its images."""
        return aggregated(self.of_image, scores, self.of_score)


def numbered(cells: Texts, alone: Texts) -> tuple[Numbers, list[str]]:
    """((N,) the number of the unit of each image, the names of the units in that order), of the cells (N,) that name them.

    They are sorted by name; an image whose cell is empty comes after them, on its own, and has the name in `alone` (N,).
    """
    texts, own = as_texts(cells).reset_index(drop=True), as_texts(alone).reset_index(drop=True)
    codes, names = pd.factorize(texts.mask(texts == ""), sort=True)
    codes = codes.astype(np.int64)
    rows = np.flatnonzero(codes < 0)
    codes[rows] = len(names) + np.arange(len(rows))
    return codes, [*map(str, names), *own.iloc[rows]]


def aggregated(of_image: Numbers, scores: Scores, rule: str) -> Scores:
    """(U,) mean, median or `top-K` (the mean of the K highest) of the scores (N,) of the images of each unit.

    Every unit has an image. The order of the images plays no part.
    """
    scores = np.asarray(scores, np.float64)
    order = np.lexsort((-scores, of_image))
    ranked, counts = scores[order], np.bincount(of_image)
    starts = np.cumsum(counts) - counts
    if rule == "median":
        return np.asarray((ranked[starts + (counts - 1) // 2] + ranked[starts + counts // 2]) / 2)
    most = counts if rule == "mean" else np.minimum(counts, int(rule.removeprefix("top-")))
    place = np.arange(len(ranked)) - np.repeat(starts, counts)
    taken = np.where(place < np.repeat(most, counts), ranked, 0.0)
    return np.asarray(np.add.reduceat(taken, starts) / most)


def _groups(groups: Texts, of_image: Numbers) -> Numbers:
    """(U,) a number for each unit, equal for units whose images share a group, also by way of other units."""
    codes, names = pd.factorize(as_texts(groups))
    pairs = np.unique(np.column_stack([codes.astype(np.int64), of_image + len(names)]), axis=0)
    units = int(of_image.max()) + 1
    return np.asarray(components(pairs, len(names) + units)[len(names) :], np.int64)


def on_two_sides(images: pd.DataFrame, rule: UnitRule) -> list[str]:
    """The units that have images on more than one side of the split, of images.csv joined with folds.csv: sorted names."""
    cells, side = images[rule.column], images["role"].where(images["role"] == "test", images["fold"].astype(str))
    sides = side.groupby(cells.to_numpy(str)).nunique()
    return sorted(str(name) for name in sides.index[sides > 1] if name)


def said(names: Sequence[str], most: int = 3) -> str:
    """A few of many names."""
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
