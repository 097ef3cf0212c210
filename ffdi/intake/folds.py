"""Groups -> a test set and folds that share no group. Groups are drawn first, then expanded to rows."""

from __future__ import annotations

import hashlib

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
    later never move it. Raises InputError when a group stands in two given splits, when there are fewer groups than
    folds, or when a fold would lack a class.
    """
    given = images["given_split"].to_numpy() if use_given else np.full(len(images), "")
    _refuse_parted(images, given)
    cluster = component_names(pairs, list(images["image_id"]))
    joined = join_groups(list(images["group"]), cluster)
    group = np.array([g or c for g, c in zip(joined, cluster, strict=True)])
    strata = _strata(images, stratify_by)

    if (given == "test").any():
        test = given == "test"
    else:
        test = _draw(strata, group, method=method, parts=round(1 / test_size), share=test_size, seed=seed) == 0
    fold = np.full(len(images), -1)
    train = np.flatnonzero(~test)
    fold[train] = _draw(strata[train], group[train], method=method, parts=folds, share=None, seed=seed + 1)
    _refuse_one_class(images["label"].to_numpy(), fold, folds)

    table = images[["image_id"]].copy()
    table["group"], table["cluster"] = group, cluster
    table["role"] = np.where(test, "test", "train")
    table["fold"] = ["" if f < 0 else str(f) for f in fold]
    return table[list(FOLD_COLUMNS)]


def _strata(images: pd.DataFrame, stratify_by: str | None) -> npt.NDArray[np.str_]:
    label = images["label"].astype(str)
    if stratify_by is None:
        return label.to_numpy(str)
    column = f"attr_{stratify_by.removeprefix('attr_')}"
    if column not in images:
        known = ", ".join(c.removeprefix("attr_") for c in images if c.startswith("attr_")) or "none"
        raise InputError(f"split.stratify_by: {stratify_by!r} is no attribute of images.csv; it has {known}")
    return (label + "|" + images[column].astype(str)).to_numpy(str)


def _draw(
    strata: npt.NDArray[np.str_],
    group: npt.NDArray[np.str_],
    *,
    method: str,
    parts: int,
    share: float | None,
    seed: int,
) -> npt.NDArray[np.int64]:
    """The part 0..parts-1 of every row. By hash, part 0 has `share` of the groups, or all parts are alike."""
    if method == "hash":
        place = {name: _uniform(seed, name) for name in np.unique(group)}
        at = np.array([place[name] for name in group])
        return np.asarray(at * parts, dtype=np.int64) if share is None else np.where(at < share, 0, 1)
    from sklearn.model_selection import StratifiedGroupKFold

    count = len(np.unique(group))
    if count < parts:
        raise InputError(f"{count} groups cannot make {parts} parts: lower split.folds or raise split.test_size")
    splitter = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=seed)
    part = np.empty(len(group), np.int64)
    for number, (_, rows) in enumerate(splitter.split(strata, strata, group)):
        part[rows] = number
    return part


def _uniform(seed: int, name: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


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
