"""Draws: which rows are test, and which fold each other row is in. Groups are drawn first, then expanded to rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array

from ffdi.errors import InputError
from ffdi.intake.groups import drawn_order, memberships
from ffdi.intake.settings import SplitSettings
from ffdi.intake.splitting.several_groups import TEST

Names = npt.NDArray[np.str_]
Deal = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
MANY = 200_000  # rows; with more, StratifiedGroupKFold takes minutes: it weighs group by group


@dataclass(frozen=True)
class DrawnRows:
    """Columns of the N rows that are drawn.

    `cells` are the intake's groups of each row, `group` its final group, `given` its given split or "", and `strata` is
    what is balanced.
    """

    image_id: Names
    cells: npt.NDArray[np.object_]
    group: Names
    given: Names
    strata: Names

    def where(self, mask: npt.NDArray[np.bool_]) -> DrawnRows:
        """The rows whose `mask` (N,) is true."""
        return DrawnRows(self.image_id[mask], self.cells[mask], self.group[mask], self.given[mask], self.strata[mask])


def draw_sides(rows: DrawnRows, settings: SplitSettings, deal: Deal | None = None) -> npt.NDArray[np.int64]:
    """(N,) TEST or the number of a fold, by final group.

    `deal` gives the folds of training rows by their positions in `rows`, for methods that draw them by more than strata.
    """
    units = _units(rows)
    test = _test_rows(rows, units, settings)
    if test.all() or not test.any():
        raise InputError(
            f"{test.sum()} of {len(test)} images would be test: change split.test_size or the given splits"
        )
    side = np.full(len(test), TEST)
    train = np.flatnonzero(~test)
    if settings.method == "hash":
        kept = ~test[units.row]
        values = _uniform(settings.seed + 1, units.name[kept])
        lowest = _lowest(values, rows.group[units.row[kept]], rows.group[train])
        side[train] = (lowest * settings.folds).astype(np.int64)
    elif deal is not None:
        side[train] = deal(train)
    else:
        side[train] = draw_folds(rows.strata[train], rows.group[train], count=settings.folds, seed=settings.seed)
    return side


def draw_folds(strata: Names, group: Names, *, count: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) the fold of each training row, drawn by groups and balanced by strata; `seed` is that of the split."""
    return _draw_parts(strata, group, parts=count, seed=seed + 1)


@dataclass(frozen=True)
class _Units:
    """What the method hash places by its name: each group of each row, and each row without a group."""

    name: Names
    row: npt.NDArray[np.int64]


def _units(rows: DrawnRows) -> _Units:
    at, names = memberships(rows.cells.tolist())
    alone = np.setdiff1d(np.arange(len(rows.cells)), at)
    units = [f"group {name}" for name in names] + [f"image {image_id}" for image_id in rows.image_id[alone]]
    return _Units(np.array(units), np.concatenate([at, alone]))


def _test_rows(rows: DrawnRows, units: _Units, settings: SplitSettings) -> npt.NDArray[np.bool_]:
    given, group = rows.given, rows.group
    if (given == "test").any():
        return np.asarray((given == "test") | ((given == "") & np.isin(group, group[given == "test"])))
    if settings.method == "hash":
        values = _uniform(settings.seed, units.name)
        return np.asarray(_lowest(values, group[units.row], group) < settings.test_size)
    return _draw_test(rows.strata, group, share=settings.test_size, seed=settings.seed)


def _draw_test(strata: Names, group: Names, *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether a row is drawn for the test set: a share of .2 is 1 of 5 parts, .3 is 3 of 10."""
    parts = Fraction(share).limit_denominator(min(_most_parts(strata, group), max(20, math.ceil(1 / share))))
    if not 0 < parts < 1:
        count = len(np.unique(group))
        raise InputError(f"{count} groups cannot give a test set of split.test_size = {share:g}: change it")
    return _draw_parts(strata, group, parts=parts.denominator, seed=seed) < parts.numerator


def _draw_parts(strata: Names, group: Names, *, parts: int, seed: int) -> npt.NDArray[np.int64]:
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


def deal_groups(strata: Names, group: Names, *, parts: int, seed: int) -> npt.NDArray[np.int64]:
    """The part 0..parts-1 of every row, balanced as StratifiedGroupKFold balances it, but by kinds of groups.

    Groups with the same number of images in each stratum are one kind. The groups of a kind are shuffled and dealt
    evenly, the kinds of the largest groups first. Those that are left over go where they unbalance least. The time
    grows with the number of kinds, not with that of groups.
    """
    names, at = np.unique(group, return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    counts = coo_array((np.ones(len(at), np.int64), (at, stratum))).tocsr()  # (groups, strata)
    kinds, kind = np.unique(counts.toarray(), axis=0, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    members = np.split(shuffled[np.argsort(kind[shuffled], kind="stable")], np.cumsum(np.bincount(kind.ravel()))[:-1])
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


def _most_parts(strata: Names, group: Names) -> int:
    """How many parts can be made: each needs a group, and an image of the commonest stratum."""
    return min(len(np.unique(group)), int(np.unique(strata, return_counts=True)[1].max(initial=0)))


def _uniform(seed: int, units: Names) -> npt.NDArray[np.float64]:
    """(N,) a number in [0, 1) for each unit; its name and the seed alone decide it."""
    names, at = np.unique(units, return_inverse=True)
    digests = (hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:6], "big") / 2**48 for digest in digests])[at]


def _lowest(values: npt.NDArray[np.float64], of: Names, group: Names) -> npt.NDArray[np.float64]:
    """For every row of `group` the lowest of the `values` whose group, in `of`, is the same."""
    return np.asarray(pd.Series(values).groupby(of).min().reindex(group), np.float64)
