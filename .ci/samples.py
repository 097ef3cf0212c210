"""The images behind each figure, how far their scores may have moved, and how many of their pairs may change places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from figures import DIGITS, Figures, may_move

from ffdi.evaluation.units import UNIT, aggregated, numbered
from ffdi.features.levels import parse_level

ELSEWHERE = 2  # times as far as a test score may one on other or worse images move, whose movement is not known


@dataclass(frozen=True)
class Sample:
    """The images that a figure is of: labels (N,), scores (N,), and how far a score may have moved.

    `ranked`: labels and scores of those that an AUC compares, which are more where all of the own are of one class.
    """

    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    reach: float
    ranked: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]

    def swaps(self) -> float:
        """The share of pairs of a real and a fake that can change places, two pairs at the least."""
        labels, scores = self.ranked
        fakes, reals = scores[labels == 1], np.sort(scores[labels == 0])
        if not len(fakes) or not len(reals):
            return 0.0
        first = np.searchsorted(reals, fakes - 2 * self.reach, side="left")
        last = np.searchsorted(reals, fakes + 2 * self.reach, side="right")
        return float(max((last - first).sum(), 2) / (len(fakes) * len(reals)))


class Samples:
    """The images of each figure of one file of metrics, as `made` has their scores; `digests` has those of the record."""

    def __init__(self, name: str, made: Figures, digests: Mapping[str, pd.DataFrame]) -> None:
        self.name, self.made, self.digests = name, made, digests

    @cached_property
    def whole(self) -> Sample | None:
        """All test images of the file's own recipe."""
        return self.of_recipe(self.name)

    def of_recipe(self, name: str) -> Sample | None:
        """All test images of a recipe, and how far the scores of the recorded ones have moved."""
        table = self.made.scores.get(name)
        if table is None:
            return None
        return _sample(table, "score", self.reach(name))

    def reach(self, name: str, column: str = "score") -> float:
        """How far a recipe's scores have moved at most; where it is not recorded, how far they may."""
        recorded, table = self.digests.get(name), self.made.scores[name]
        if recorded is None or column not in recorded:
            return ELSEWHERE * may_move(table["score"])[0]
        both = recorded.merge(table, on="image_id", suffixes=("", "_now"))
        return float((both[column] - both[f"{column}_now"]).abs().max()) + DIGITS

    def of(self, key: str) -> Sample | None:
        """The images of a figure, where their scores are there."""
        if self.name == "cross":
            pair = re.split("_(?:auc|accuracy)", key)[0]
            away, recipe = self.made.away.get(pair), pair.partition("_on_")[0]
            return None if away is None else _sample(away, "score", ELSEWHERE * self.reach(recipe))
        whole = self.whole
        if whole is None:
            return None
        table = self.made.scores[self.name]
        if validated := re.match(r"val_auc|fold_(\d+)_val_auc", key):
            return self._validated(int(validated[1]) if validated[1] else None)
        if key.startswith("unit_"):
            validates = re.fullmatch(r"unit_(fold_(\d+)_)?val_auc(_mean|_std)?", key)
            fold = int(validates[2]) if validates and validates[2] else None
            return self._validated(fold) if validates else self.units(self.name)
        if key.startswith("held_out"):  # a fold has the images of one value, and no figure says which fold
            return _loosest(self._validated(fold) for fold in self._folds)
        if key.startswith("folds_"):
            return self._mean_of_folds(table)
        if re.fullmatch(r"(robust|robust_unseen|worst)_auc", key):
            return self.perturbed(self.name)
        for column in _judged(table):
            is_fold = column.startswith("fold_")
            prefix = column if is_fold else f"robustness_{parse_level(column).key}"
            if re.fullmatch(rf"{prefix}_(auc|accuracy)", key):
                return _sample(table, column, self.reach(self.name, column) if is_fold else ELSEWHERE * whole.reach)
        if key.startswith("robustness_"):
            return None
        return self._with_attribute(key, whole) if key.startswith("attr_") else whole

    def _mean_of_folds(self, table: pd.DataFrame) -> Sample | None:
        """All test images with the mean of the folds' scores, beside which those of a refit tail stand."""
        columns = [column for column in table if column.startswith("fold_")]
        if not columns:
            return None
        mean = table[["label"]].assign(folds=table[columns].mean(axis=1))
        return _sample(mean, "folds", max(self.reach(self.name, column) for column in columns))

    @property
    def _folds(self) -> list[int]:
        oof = self.made.oof.get(self.name)
        return [] if oof is None or "fold" not in oof else sorted(set(oof["fold"]))

    def _validated(self, fold: int | None) -> Sample | None:
        """The validation images of a fold, or of all."""
        oof, reach = self.made.oof.get(self.name), ELSEWHERE * self.reach(self.name)
        if oof is None:
            return None
        return _sample(oof[oof["fold"] == fold] if fold is not None and "fold" in oof else oof, "score", reach)

    def perturbed(self, name: str) -> Sample | None:
        """The test images of a recipe at the level at which most of them may change places; a mean moves no farther."""
        table = self.made.scores.get(name)
        if table is None:
            return None
        reach = ELSEWHERE * self.reach(name)
        levels = [column for column in _judged(table) if not column.startswith("fold_")]
        return _loosest(_sample(table, level, reach) for level in levels)

    def units(self, name: str) -> Sample | None:
        """The units of the test images of a recipe: the score of one moves no farther than those that it joins."""
        table, metrics = self.made.scores.get(name), self.made.metrics.get(name, {})
        if table is None or UNIT not in table or "unit_score" not in metrics:
            return None
        of_image, _ = numbered(table[UNIT].fillna(""), table["image_id"])
        scores = aggregated(of_image, table["score"].to_numpy(np.float64), str(metrics["unit_score"]))
        joined = pd.DataFrame({"label": table.groupby(of_image)["label"].max(), "score": scores})
        return _sample(joined, "score", self.reach(name))

    def _with_attribute(self, key: str, whole: Sample) -> Sample | None:
        for column, value, own in self._values:
            if re.match(rf"{re.escape(column)}[_=]{re.escape(value)}_(auc|accuracy)", key):
                labels = whole.labels[own]
                compared = own if len(np.unique(labels)) > 1 else own | (whole.labels != labels[0])
                ranked = (whole.labels[compared], whole.scores[compared])
                return Sample(labels, whole.scores[own], whole.reach, ranked)
        return None

    @cached_property
    def _values(self) -> list[tuple[str, str, npt.NDArray[np.bool_]]]:
        """Each attribute and value, of one attribute the longest first, with which test images have it."""
        if self.made.images is None:
            return []
        images = self.made.scores[self.name][["image_id"]].merge(self.made.images, on="image_id", how="left")
        return [
            (column, value, (images[column] == value).to_numpy())
            for column in images.columns[1:]
            for value in sorted(set(images[column]), key=len, reverse=True)
        ]


def _judged(table: pd.DataFrame) -> list[str]:
    """The columns of scores by folds and at levels."""
    return [str(column) for column in table.columns[3:] if column != UNIT]


def _loosest(samples: Iterable[Sample | None]) -> Sample | None:
    """The one of which the largest share of pairs may change places."""
    return max((sample for sample in samples if sample is not None), key=Sample.swaps, default=None)


def _sample(table: pd.DataFrame, column: str, reach: float) -> Sample:
    labels, scores = table["label"].to_numpy(), table[column].to_numpy(np.float64)
    return Sample(labels, scores, reach, (labels, scores))
