"""Folds that each hold out the fakes of one value of an attribute: a generator, a method, a camera.

One person may have fakes of every generator, and no group may stand on both sides of a fold. So an image is left out
twice: by the fold of its group, and by the fold of its value. Where the two are one fold, it validates there. Where they
are not, it validates nothing, and trains in all folds but these two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.settings import SplitSettings

Names = npt.NDArray[np.str_]
Ints = npt.NDArray[np.int64]
NO_VALUE = "none"  # the value of fakes that have none
POOLED = "+"  # joins the names of values that one fold holds out
VALUE = "held_value"  # the column of with_held_values


@dataclass(frozen=True)
class LeftOut:
    """What the folds leave out, for N images.

    `held_out` (N,) is what the fold of each image holds out, "" for images in no fold; `second` (N,) the second fold that
    leaves the image out, -1 for none.
    """

    held_out: pd.Series[str]
    second: Ints
    names: tuple[str, ...]

    def name(self, fold: int) -> str:
        """What a fold holds out."""
        return self.names[fold]


@dataclass(frozen=True)
class HeldOut:
    """The values that each fold holds out.

    `values` (N,) is the value of every image, "" for none; `fold_of` the fold of each value, and `names` (K,) what the
    folds hold out: a value, or several joined by POOLED.
    """

    values: Names
    fold_of: Mapping[str, int]
    names: tuple[str, ...]

    @classmethod
    def plan(cls, values: Names, label: Ints, train: Ints, settings: SplitSettings) -> HeldOut:
        """A fold for each value of the fakes among the rows `train`, in the order of their names, the pooled ones last.

        Values with fewer than `settings.min_fakes` fakes share one fold; where that has too few as well, the smallest of
        the others joins it. InputError when a single fold would be left, or when the name of a value could be that of
        several.
        """
        found, counts = np.unique(values[train][label[train] == 1], return_counts=True)
        images = dict(zip(found.tolist(), counts.tolist(), strict=True))
        kept = sorted((v for v in images if images[v] >= settings.min_fakes), key=lambda v: (images[v], v))
        pooled = sorted(v for v in images if images[v] < settings.min_fakes)
        if pooled and kept and sum(images[v] for v in pooled) < settings.min_fakes:
            pooled.append(kept.pop(0))
        parts = [[value] for value in sorted(kept)] + ([sorted(pooled)] if pooled else [])
        if len(parts) < 2:
            listed = ", ".join(f"{value} ({images[value]})" for value in sorted(images)) or "none"
            raise InputError(
                f"split.by: {settings.by!r} has one value to hold out among the training fakes, two are needed; it has "
                f"{listed}: name another attribute, or lower split.min_fakes (is {settings.min_fakes})"
            )
        fold_of = {value: fold for fold, part in enumerate(parts) for value in part}
        names = tuple(POOLED.join(part) for part in parts)
        if alike := [(v, name) for v in fold_of for name in names if holds_out(name, v) and name != names[fold_of[v]]]:
            value, name = alike[0]
            raise InputError(
                f"split.by: {name!r} of {settings.by!r} reads as {value!r} and others held out together, whose names are "
                f"joined by {POOLED}: give that value a name without it"
            )
        return cls(values, fold_of, names)

    @property
    def own_fold(self) -> Ints:
        """(N,) the fold that holds out the value of each image, -1 where none does."""
        found, at = np.unique(self.values, return_inverse=True)
        return np.array([self.fold_of.get(value, -1) for value in found.tolist()], np.int64)[at]

    def of(self, side: Ints) -> LeftOut:
        """What is left out where the images stand on these sides; a side below 0 is no fold."""
        own = self.own_fold
        names = pd.Series(["", *self.names], dtype="str").take(np.maximum(side, -1) + 1).reset_index(drop=True)
        return LeftOut(names, np.where((side >= 0) & (own >= 0) & (own != side), own, -1), self.names)


def attribute_column(images: pd.DataFrame, name: str, place: str) -> pd.Series[str]:
    """The column attr_NAME of images.csv, of NAME or attr_NAME; InputError names those that it has."""
    column = f"attr_{name.removeprefix('attr_')}"
    if column not in images:
        known = ", ".join(c.removeprefix("attr_") for c in images.columns if c.startswith("attr_")) or "none"
        raise InputError(f"{place}: {name!r} is no attribute of images.csv; it has {known}")
    return images[column]


def attribute_values(images: pd.DataFrame, by: str | None) -> Names:
    """(N,) the value of each image of images.csv: NO_VALUE for fakes without one, "" for reals without one."""
    assert by is not None, "params refuse leave_one_out without by"
    values = attribute_column(images, by, "split.by").to_numpy(str)
    return np.where((values == "") & (images["label"].to_numpy() == 1), NO_VALUE, values).astype(str)


def with_held_values(images: pd.DataFrame, settings: SplitSettings) -> pd.DataFrame:
    """images.csv with the column VALUE where values are held out: what the audit and the evaluation go by."""
    if settings.method != "leave_one_out":
        return images
    return images.assign(**{VALUE: attribute_values(images, settings.by)})


def holds_out(held_out: str, value: str) -> bool:
    """Whether a fold of this `held_out` (folds.csv) holds out a value."""
    return f"{POOLED}{value}{POOLED}" in f"{POOLED}{held_out}{POOLED}"


def hold_out_values(held: HeldOut, label: Ints, group: Ints, train: Ints, seed: int) -> Ints:
    """(M,) the fold of each of the rows `train`, by group.

    A group whose images have values of one fold stands in that fold. One with values of several stands in one of them,
    one without any in any fold: where there are fewest reals and, of its values, fewest fakes, so that all folds get an
    equal share. Large groups come first, and `seed` orders those of one size.
    """
    names, at = np.unique(group[train], return_inverse=True)
    own, fake = held.own_fold[train], label[train] == 1
    folds, count = len(held.names), len(names)
    with_value = np.zeros((count, folds), np.int64)  # images of each fold's values
    np.add.at(with_value, (at[own >= 0], own[own >= 0]), 1)
    fakes = np.zeros((count, folds), np.int64)  # those that would validate in the fold
    np.add.at(fakes, (at[fake], own[fake]), 1)
    reals = np.zeros((count, folds), np.int64)
    for fold in range(folds):
        validating = ~fake & ((own < 0) | (own == fold))
        reals[:, fold] = np.bincount(at[validating], minlength=count)
    share = reals / max(int((~fake).sum()), 1), fakes / np.maximum(fakes.sum(axis=0), 1)
    choices = (with_value > 0).sum(axis=1)
    order = np.random.default_rng(seed + 1).permutation(count)
    size = np.bincount(at, minlength=count)
    order = order[np.lexsort((-size[order], np.where(choices == 0, folds + 1, choices)[order]))]
    load, part = np.zeros(folds), np.empty(count, np.int64)
    found = np.zeros(folds)
    for one in order.tolist():
        possible = np.flatnonzero(with_value[one]) if choices[one] else np.arange(folds)
        cost = load[possible] + found[possible] if choices[one] else load[possible]
        part[one] = fold = int(possible[np.argmin(cost)])
        load[fold] += share[0][one, fold]
        found[fold] += share[1][one, fold] / folds
    return part[at]


def describe_held_out(images: pd.DataFrame, folds: pd.DataFrame, settings: SplitSettings) -> list[str]:
    """Lines: what each fold holds out, which values are held out together and why, and how many images validate nothing."""
    if "held_out" not in folds:
        return []
    values, label = attribute_values(images, settings.by), images["label"].to_numpy()
    train, validates = (folds["role"] == "train").to_numpy(), (folds["also_out"] == "").to_numpy()
    numbers, names = folds["fold"].to_numpy(str), folds["held_out"].to_numpy(str)
    lines = []
    for fold in sorted(set(numbers[train]), key=int):
        inside = train & (numbers == fold)
        name = names[inside][0]
        reals, fakes = (int((inside & validates & (label == c)).sum()) for c in (0, 1))
        lines.append(f"fold {fold} holds out {name}: {reals} real and {fakes} fake images validate")
        of_fold = sorted({v for v in set(values[train & (label == 1)]) if v != name and holds_out(name, v)})
        if of_fold:
            counts = ", ".join(f"{v} ({int((train & (label == 1) & (values == v)).sum())})" for v in of_fold)
            lines.append(
                f"  held out together, as values with fewer than {settings.min_fakes} training fakes are (split.min_fakes), "
                f"with the smallest other where these are still fewer: {counts}"
            )
    silent = int((train & ~validates).sum())
    lines.append(
        f"{silent} of {int(train.sum())} training images validate nothing: the folds of their group and of their value are "
        "two, and they train in neither (folds.csv: also_out)"
    )
    return lines
