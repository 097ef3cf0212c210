"""Groups -> a test set and folds that share no group. Groups are drawn first, then expanded to rows."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.duplicates import Pairs, component_names, join_groups
from ffdi.intake.tables import FOLD_COLUMNS


def assign_folds(
    images: pd.DataFrame,
    pairs: Pairs,
    *,
    method: str,
    test_size: float,
    folds: int,
    stratify_by: str | None,
    use_given: bool,
    seed: int,
) -> pd.DataFrame:
    """folds.csv for `images` (images.csv): the test set first, then k folds of the rest, both by final group.

    `pairs` (M, 2) are near-duplicates by row number; groups that they link become one. `method`: `stratified` balances
    the classes (and the attribute `stratify_by`); `hash` places each group by its name alone, so that images added
    later never move it. Where a test set is given, a row of no given split goes where its group is. Raises InputError
    when a group stands in two given splits, when there are fewer groups than folds, when a fold would lack a class, or
    when nothing or everything would be test.
    """
    given = images["given_split"].to_numpy() if use_given else np.full(len(images), "")
    _refuse_parted(images, given)
    cluster = component_names(pairs, list(images["image_id"]))
    joined = join_groups(list(images["group"]), cluster)
    group = np.array([g or c for g, c in zip(joined, cluster, strict=True)])
    strata = _strata(images, stratify_by)

    if (given == "test").any():
        test = (given == "test") | ((given == "") & np.isin(group, group[given == "test"]))
    else:
        test = _draw_test(strata, group, method=method, share=test_size, seed=seed)
    if test.all() or not test.any():
        raise InputError(
            f"{test.sum()} of {len(test)} images would be test: change split.test_size or the given splits"
        )
    fold = np.full(len(images), -1)
    train = np.flatnonzero(~test)
    fold[train] = _draw_parts(strata[train], group[train], method=method, parts=folds, seed=seed + 1)
    _refuse_one_class(images["label"].to_numpy(), fold, folds)

    role = np.where(test, "test", "train")
    columns = (images["image_id"], group, cluster, role, ["" if f < 0 else str(f) for f in fold])
    table: pd.DataFrame = pd.DataFrame(dict(zip(FOLD_COLUMNS, columns, strict=True)))
    return table


def _strata(images: pd.DataFrame, stratify_by: str | None) -> npt.NDArray[np.str_]:
    label = images["label"].astype(str)
    if stratify_by is None:
        return label.to_numpy(str)
    column = f"attr_{stratify_by.removeprefix('attr_')}"
    if column not in images:
        known = ", ".join(c.removeprefix("attr_") for c in images.columns if c.startswith("attr_")) or "none"
        raise InputError(f"split.stratify_by: {stratify_by!r} is no attribute of images.csv; it has {known}")
    return (label + "|" + images[column].astype(str)).to_numpy(str)


def _draw_test(
    strata: npt.NDArray[np.str_], group: npt.NDArray[np.str_], *, method: str, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Whether a row is drawn for the test set. Stratified, a share of .2 is 1 of 5 parts, .3 is 3 of 10."""
    if method == "hash":
        return _uniform(seed, group) < share
    parts = Fraction(share).limit_denominator(min(_most_parts(strata, group), max(20, math.ceil(1 / share))))
    if not 0 < parts < 1:
        count = len(np.unique(group))
        raise InputError(f"{count} groups cannot give a test set of split.test_size = {share:g}: change it")
    return _draw_parts(strata, group, method=method, parts=parts.denominator, seed=seed) < parts.numerator


def _draw_parts(
    strata: npt.NDArray[np.str_], group: npt.NDArray[np.str_], *, method: str, parts: int, seed: int
) -> npt.NDArray[np.int64]:
    """The part 0..parts-1 of every row, all parts alike in size."""
    if method == "hash":
        return (_uniform(seed, group) * parts).astype(np.int64)
    from sklearn.model_selection import StratifiedGroupKFold

    if _most_parts(strata, group) < parts:
        count = len(np.unique(group))
        raise InputError(f"{count} groups with {len(group)} images cannot make {parts} folds: lower split.folds")
    splitter = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=seed)
    part = np.empty(len(group), np.int64)
    for number, (_, rows) in enumerate(splitter.split(strata, strata, group)):
        part[rows] = number
    return part


def _most_parts(strata: npt.NDArray[np.str_], group: npt.NDArray[np.str_]) -> int:
    """Every part needs a group, and an image of the commonest class."""
    return min(len(np.unique(group)), int(np.unique(strata, return_counts=True)[1].max(initial=0)))


def _uniform(seed: int, group: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for every row that its group's name and the seed alone decide."""
    names, at = np.unique(group, return_inverse=True)
    digests = (hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:6], "big") / 2**48 for digest in digests])[at]


def _refuse_parted(images: pd.DataFrame, given: npt.NDArray[np.str_]) -> None:
    rows = images.assign(given=given)[(images["group"] != "") & (given != "")]
    sides = rows.groupby("group")["given"].nunique()
    if len(parted := sides[sides > 1]):
        pair = rows[rows["group"] == parted.index[0]].drop_duplicates("given")
        places = " and ".join(f"{p} ({s})" for p, s in zip(pair["path"], pair["given"], strict=True))
        raise InputError(f"group {parted.index[0]!r} stands in two given splits: {places}")


def _refuse_one_class(label: npt.NDArray[np.int64], fold: npt.NDArray[np.int64], folds: int) -> None:
    for number in range(folds):
        reals, fakes = (int(((fold == number) & (label == c)).sum()) for c in (0, 1))
        if not reals or not fakes:
            raise InputError(
                f"fold {number} would have {reals} real and {fakes} fake images: lower split.folds (is {folds}), "
                "or change split.seed or the groups"
            )
