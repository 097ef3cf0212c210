"""Draws: which rows are test, and which fold each other row is in. Groups are drawn first, then expanded to rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.groups import drawn_order, memberships
from ffdi.intake.settings import SplitSettings
from ffdi.intake.splitting.several_groups import TEST

Names = npt.NDArray[np.str_]
Ints = npt.NDArray[np.int64]
Values = npt.NDArray[Any]  # names, or numbers that sort as the names do
Deal = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
MANY = 200_000  # rows; with more, StratifiedGroupKFold takes minutes: it weighs group by group


@dataclass(frozen=True)
class DrawnRows:
    """Columns of the N rows that are drawn.

    `cells` are the intake's groups of each row, `group` its final group, `given` its given split or "", and `strata` is
    what is balanced. Groups and strata are numbers that sort as their names do.
    """

    image_id: pd.Series[str]
    cells: pd.Series[str]
    group: Ints
    given: Names
    strata: Ints

    def where(self, mask: npt.NDArray[np.bool_]) -> DrawnRows:
        """The rows whose `mask` (N,) is true."""
        if mask.all():
            return self
        return DrawnRows(self.image_id[mask], self.cells[mask], self.group[mask], self.given[mask], self.strata[mask])


def draw_sides(rows: DrawnRows, settings: SplitSettings, deal: Deal | None = None) -> npt.NDArray[np.int64]:
    """(N,) TEST or the number of a fold, by final group.

    `deal` gives the folds of training rows by their positions in `rows`, for methods that draw them by more than strata.
    """
    test = _test_rows(rows, settings)
    if test.all() or not test.any():
        raise InputError(
            f"{test.sum()} of {len(test)} images would be test: change split.test_size or the given splits"
        )
    side = np.full(len(test), TEST)
    train = np.flatnonzero(~test)
    if settings.method == "hash":
        kept = rows.where(~test)
        side[train] = (_Units.of(kept).lowest(settings.seed + 1, kept.group) * settings.folds).astype(np.int64)
    elif deal is not None:
        side[train] = deal(train)
    else:
        side[train] = draw_folds(rows.strata[train], rows.group[train], count=settings.folds, seed=settings.seed)
    return side


def draw_folds(strata: Values, group: Values, *, count: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) the fold of each training row, drawn by groups and balanced by strata; `seed` is that of the split."""
    return _draw_parts(strata, group, parts=count, seed=seed + 1)


@dataclass(frozen=True)
class _Units:
    """What the method hash places by its name: each group of each row, and each row without a group.

    Rows `row` (M,) have the units `unit` (M,), which `names` names.
    """

    row: Ints
    unit: Ints
    names: Sequence[Callable[[], Iterator[str]]]

    @classmethod
    def of(cls, rows: DrawnRows) -> _Units:
        """The units of these rows."""
        groups = memberships(rows.cells)
        alone = np.setdiff1d(np.arange(len(rows.cells)), groups.row)
        names = (
            lambda: (f"group {name}" for name in groups.names),
            lambda: (f"image {image_id}" for image_id in rows.image_id.iloc[alone]),
        )
        unit = np.concatenate([groups.name, np.arange(len(alone)) + len(groups.names)])
        return cls(np.concatenate([groups.row, alone]), unit, names)

    def lowest(self, seed: int, group: Ints) -> npt.NDArray[np.float64]:
        """(N,) for every row of `group` the lowest number in [0, 1) of the units of its group.

        The name of a unit and the seed alone decide its number.
        """
        digests = (hashlib.sha256(f"{seed}\0{name}".encode()).digest() for names in self.names for name in names())
        values = np.fromiter((int.from_bytes(digest[:6], "big") / 2**48 for digest in digests), np.float64)
        lowest = np.full(int(group.max(initial=-1)) + 1, np.inf)
        np.minimum.at(lowest, group[self.row], values[self.unit])
        return lowest[group]


def _test_rows(rows: DrawnRows, settings: SplitSettings) -> npt.NDArray[np.bool_]:
    given, group = rows.given, rows.group
    if (given == "test").any():
        return np.asarray((given == "test") | ((given == "") & np.isin(group, group[given == "test"])))
    if settings.method == "hash":
        return _Units.of(rows).lowest(settings.seed, group) < settings.test_size
    return _draw_test(rows.strata, group, share=settings.test_size, seed=settings.seed)


def _draw_test(strata: Values, group: Values, *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether a row is drawn for the test set: a share of .2 is 1 of 5 parts, .3 is 3 of 10."""
    parts = Fraction(share).limit_denominator(min(_most_parts(strata, group), max(20, math.ceil(1 / share))))
    if not 0 < parts < 1:
        count = len(np.unique(group))
        raise InputError(f"{count} groups cannot give a test set of split.test_size = {share:g}: change it")
    return _draw_parts(strata, group, parts=parts.denominator, seed=seed) < parts.numerator


def _draw_parts(strata: Values, group: Values, *, parts: int, seed: int) -> npt.NDArray[np.int64]:
    """The part 0..parts-1 of every row; the parts are balanced in size and strata."""
    if _most_parts(strata, group) < parts:
        count = len(np.unique(group))
        raise InputError(f"{count} groups with {len(group)} images cannot make {parts} folds: lower split.folds")
    if len(group) > MANY:
        return deal_groups(strata, group, parts=parts, seed=seed)
    from sklearn.model_selection import StratifiedGroupKFold

    part = np.empty(len(group), np.int64)
    for number, (_, rows) in enumerate(StratifiedGroupKFold(parts).split(strata, strata, drawn_order(group, seed))):
        part[rows] = number
    return part


def deal_groups(strata: Values, group: Values, *, parts: int, seed: int) -> npt.NDArray[np.int64]:
    """The part 0..parts-1 of every row, balanced as StratifiedGroupKFold balances it, but by kinds of groups.

    Groups with the same number of images in each stratum are one kind. The groups of a kind are shuffled and dealt
    evenly, the kinds of the largest groups first. Those that are left over go where they unbalance least. The time
    grows with the number of kinds, not with that of groups.
    """
    names, at = np.unique(group, return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    counts = np.zeros((len(names), int(stratum.max()) + 1), np.int32)
    np.add.at(counts, (at, stratum), 1)
    kinds, kind = _distinct_rows(counts)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    members = np.split(shuffled[np.argsort(kind[shuffled], kind="stable")], np.cumsum(np.bincount(kind))[:-1])
    # Shares of each stratum, so that small strata count as much, and of all rows: by strata alone, parts stay empty.
    share = np.column_stack([kinds / np.maximum(counts.sum(axis=0), 1), kinds.sum(axis=1) / len(at)])
    load = np.zeros((parts, share.shape[1]))
    part = np.empty(len(names), np.int64)
    for one in np.argsort(-kinds.sum(axis=1), kind="stable"):
        rounds = len(members[one]) // parts
        part[members[one][: rounds * parts]] = np.tile(np.arange(parts), rounds)
        load += rounds * share[one]
        for late in members[one][rounds * parts :]:
            place = int(np.argmin(((load + share[one] * np.eye(parts)[:, :, None]) ** 2).sum(axis=(1, 2))))
            part[late] = place
            load[place] += share[one]
    return part[at]


def _distinct_rows(table: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Ints]:
    """(distinct rows (K, S), sorted; the number of each row's (N,)) as np.unique has them, which sorts much slower."""
    order = np.lexsort(table.T[::-1])
    is_new = np.append(True, (table[order[1:]] != table[order[:-1]]).any(axis=1))
    number = np.empty(len(table), np.int64)
    number[order] = np.cumsum(is_new) - 1
    return table[order[is_new]], number


def _most_parts(strata: Values, group: Values) -> int:
    """How many parts can be made: each needs a group, and an image of the commonest stratum."""
    return min(len(np.unique(group)), int(np.unique(strata, return_counts=True)[1].max(initial=0)))
