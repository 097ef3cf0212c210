"""Groups -> a test set and folds that share no group. Groups are drawn first, then expanded to rows."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array

from ffdi.errors import InputError
from ffdi.intake.groups import memberships, several
from ffdi.intake.near_duplicates.clusters import Pairs, component_names, join_groups
from ffdi.intake.tables import FOLD_COLUMNS, sides
from ffdi.intake.wholes import DROPPED, TEST, explain_chain, links_without_chains, place_by_groups

Names = npt.NDArray[np.str_]
CLASSES = ("real", "fake")  # by label
MANY = 200_000  # rows, beyond which StratifiedGroupKFold takes minutes: it weighs group by group


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
    two_sources: str = "join",
) -> pd.DataFrame:
    """folds.csv for `images` (images.csv): the test set first, then k folds of the rest, both by final group.

    `pairs` (M, 2) are near-duplicates by row number; groups that they link become one. `method`: `stratified` balances
    the classes (and the attribute `stratify_by`); `hash` places each of the intake's groups, and each image of none, by
    its name alone, so that images added later never move it; joined ones are test when any of them is, so that what
    was test stays test. Where a test set is given, a row of no given split goes where its group is.

    `two_sources` says what images of several groups do: they `join` them, or (`drop`) join them only where no whole of
    more than half a fold comes of it, and with the method hash nowhere; the others are left out of the draw and placed
    by it, with the role dropped where their groups stand on two sides.

    Raises InputError when a group stands in two given splits, when there are fewer groups than folds, when a fold would
    lack a class, when nothing or everything would be test, when images of several groups chain so many into one that
    the other folds would be left less than half of their share, or when there is none to `drop`.
    """
    given = images["given_split"].to_numpy() if use_given else np.full(len(images), "")
    cluster = component_names(pairs, list(images["image_id"]))
    cells = links = list(images["group"])
    if two_sources == "drop":
        if not several(cells).any():
            raise InputError("split.two_sources: drop has no effect: no image is of several groups")
        most = 0.0 if method == "hash" else (1 - test_size) / folds / 2 * len(cells)
        links = links_without_chains(cells, cluster, given, most)
    _refuse_parted(images, links, given)
    joined = join_groups(links, cluster)
    group = np.array([g or c for g, c in zip(joined, cluster, strict=True)])
    drawn = np.isin(group, group[~several(cells) | (np.array(links) != "")])
    side, strata = np.full(len(images), DROPPED - 1), _strata(images, stratify_by)
    try:
        side[drawn] = _draw_sides(
            images[drawn],
            [link for link, is_drawn in zip(links, drawn, strict=True) if is_drawn],
            group[drawn],
            given[drawn],
            method=method,
            test_size=test_size,
            folds=folds,
            strata=strata[drawn],
            seed=seed,
        )
        if two_sources == "drop":
            group, side = place_by_groups(cells, links, cluster, given, group, side)
        else:
            _refuse_lopsided(links, group[side >= 0], folds)
        _refuse_one_class(images["label"].to_numpy(), side, folds)
    except InputError as error:
        if two_sources == "drop":
            chain = f"{(side == DROPPED).sum()} of {several(cells).sum()} images of several groups are dropped"
        else:
            chain = explain_chain(cells, list(images["path"]), group)
        raise InputError(f"{error}; {chain}" if chain else str(error)) from None

    role = np.select([side == TEST, side == DROPPED], ["test", "dropped"], "train")
    columns = (images["image_id"], group, cluster, role, ["" if f < 0 else str(f) for f in side])
    table: pd.DataFrame = pd.DataFrame(dict(zip(FOLD_COLUMNS, columns, strict=True)))
    return table


def _draw_sides(
    images: pd.DataFrame,
    cells: list[str],
    group: Names,
    given: Names,
    *,
    method: str,
    test_size: float,
    folds: int,
    strata: Names,
    seed: int,
) -> npt.NDArray[np.int64]:
    """(N,) TEST or the number of a fold, by final `group`; `cells` are the intake's groups."""
    at, names = memberships(cells)
    alone = np.setdiff1d(np.arange(len(images)), at)
    unit = np.array([f"group {name}" for name in names] + [f"image {i}" for i in images["image_id"].iloc[alone]])
    at = np.concatenate([at, alone])  # the row of each unit

    if (given == "test").any():
        test = (given == "test") | ((given == "") & np.isin(group, group[given == "test"]))
    elif method == "hash":
        test = _lowest(_uniform(seed, unit), group[at], group) < test_size
    else:
        test = _draw_test(strata, group, share=test_size, seed=seed)
    if test.all() or not test.any():
        raise InputError(
            f"{test.sum()} of {len(test)} images would be test: change split.test_size or the given splits"
        )
    side = np.full(len(images), TEST)
    train = np.flatnonzero(~test)
    if method == "hash":
        own = ~test[at]
        side[train] = (_lowest(_uniform(seed + 1, unit[own]), group[at[own]], group[train]) * folds).astype(np.int64)
    else:
        side[train] = _draw_parts(strata[train], group[train], parts=folds, seed=seed + 1)
    return side


def balance_table(images: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """`place,class,images`, a row each of the test set and the folds and of real and fake: the class balance plot."""
    place, label = sides(folds), images["label"].to_numpy()
    rows = [
        (p, name, int(((place == p) & (label == c)).sum())) for p in np.unique(place) for c, name in enumerate(CLASSES)
    ]
    table: pd.DataFrame = pd.DataFrame(rows, columns=["place", "class", "images"])
    return table


def describe_clusters(images: pd.DataFrame, folds: pd.DataFrame, most: int = 20) -> list[str]:
    """How many images are in clusters of several, and which: a line for each of the largest `most`."""
    sizes = folds["cluster"].value_counts(sort=False)
    sizes = sizes[sizes > 1].sort_values(ascending=False, kind="stable")
    inside = images["path"].groupby(folds["cluster"].to_numpy())
    lines = [f"{int(sizes.sum())} images are in {len(sizes)} clusters of near-duplicates (folds.csv: cluster)"]
    for cluster in sizes.index[:most]:
        paths = inside.get_group(cluster)
        lines.append("  " + ", ".join(paths.head(6)) + (f" and {len(paths) - 6} more" if len(paths) > 6 else ""))
    return lines + ([f"  and {len(sizes) - most} more clusters"] if len(sizes) > most else [])


def _strata(images: pd.DataFrame, stratify_by: str | None) -> Names:
    label = images["label"].astype(str)
    if stratify_by is None:
        return label.to_numpy(str)
    column = f"attr_{stratify_by.removeprefix('attr_')}"
    if column not in images:
        known = ", ".join(c.removeprefix("attr_") for c in images.columns if c.startswith("attr_")) or "none"
        raise InputError(f"split.stratify_by: {stratify_by!r} is no attribute of images.csv; it has {known}")
    return (label + "|" + images[column].astype(str)).to_numpy(str)


def _draw_test(strata: Names, group: Names, *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether a row is drawn for the test set: a share of .2 is 1 of 5 parts, .3 is 3 of 10."""
    parts = Fraction(share).limit_denominator(min(_most_parts(strata, group), max(20, math.ceil(1 / share))))
    if not 0 < parts < 1:
        count = len(np.unique(group))
        raise InputError(f"{count} groups cannot give a test set of split.test_size = {share:g}: change it")
    return _draw_parts(strata, group, parts=parts.denominator, seed=seed) < parts.numerator


def _draw_parts(strata: Names, group: Names, *, parts: int, seed: int) -> npt.NDArray[np.int64]:
    """The part 0..parts-1 of every row, all parts alike in size and strata."""
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


def drawn_order(group: Names, seed: int) -> npt.NDArray[np.int64]:
    """(N,) the place of every row's group in an order drawn from `seed`, for StratifiedGroupKFold, which takes them by it.

    Its own `shuffle` parts what the groups hold from the groups before scikit-learn 1.8, the first one that Python 3.10
    does not have: folds are unbalanced there, and other ones. From 1.8 on it gives just these.
    """
    names, at = np.unique(group, return_inverse=True)
    place = np.empty(len(names), np.int64)
    place[np.random.RandomState(seed).permutation(len(names))] = np.arange(len(names))
    return place[at]


def deal_groups(strata: Names, group: Names, *, parts: int, seed: int) -> npt.NDArray[np.int64]:
    """The part 0..parts-1 of every row, as StratifiedGroupKFold would balance it but by kinds of groups.

    Groups with the same number of images in each stratum are one kind; a kind's groups are shuffled and dealt evenly,
    the largest kinds of groups first, and what cannot be dealt evenly goes where it is least uneven. The time grows
    with the number of kinds, not of groups.
    """
    names, at = np.unique(group, return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    counts = coo_array((np.ones(len(at), np.int64), (at, stratum))).tocsr()  # (groups, strata)
    kinds, kind = np.unique(counts.toarray(), axis=0, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    members = np.split(shuffled[np.argsort(kind[shuffled], kind="stable")], np.cumsum(np.bincount(kind.ravel()))[:-1])
    # Of each stratum, so that small strata count as much, and of all: strata of few groups alone leave parts empty.
    share = np.column_stack([kinds / np.maximum(counts.sum(axis=0), 1), kinds.sum(axis=1) / len(at)])
    load = np.zeros((parts, share.shape[1]))
    part = np.empty(len(names), np.int64)
    for one in np.argsort(-kinds.sum(axis=1), kind="stable"):
        whole = len(members[one]) // parts
        part[members[one][: whole * parts]] = np.tile(np.arange(parts), whole)
        load += whole * share[one]
        for late in members[one][whole * parts :]:
            place = int(np.argmin(((load + share[one] * np.eye(parts)[:, :, None]) ** 2).sum(axis=(1, 2))))
            part[late] = place
            load[place] += share[one]
    return part[at]


def _most_parts(strata: Names, group: Names) -> int:
    """Every part needs a group, and an image of the commonest class."""
    return min(len(np.unique(group)), int(np.unique(strata, return_counts=True)[1].max(initial=0)))


def _uniform(seed: int, units: Names) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for every row that its unit's name and the seed alone decide."""
    names, at = np.unique(units, return_inverse=True)
    digests = (hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:6], "big") / 2**48 for digest in digests])[at]


def _lowest(values: npt.NDArray[np.float64], of: Names, group: Names) -> npt.NDArray[np.float64]:
    """For every row of `group` the lowest of the values that are `of` its group."""
    return np.asarray(pd.Series(values).groupby(of).min().reindex(group), np.float64)


def _refuse_parted(images: pd.DataFrame, cells: list[str], given: Names) -> None:
    row, names = memberships(cells)
    rows = pd.DataFrame({"group": names, "path": images["path"].to_numpy()[row], "given": given[row]})
    rows = rows.assign(many=several(cells)[row])[given[row] != ""]
    sides = rows.groupby("group")["given"].nunique()
    if len(parted := sides[sides > 1]):
        pair = rows[rows["group"] == parted.index[0]].drop_duplicates("given")
        places = " and ".join(f"{p} ({s})" for p, s in zip(pair["path"], pair["given"], strict=True))
        offer = (
            f"; {len(parted)} such groups in all; split.two_sources: drop drops images whose groups stand on two sides"
        )
        raise InputError(
            f"group {parted.index[0]!r} stands in two given splits: {places}{offer if rows['many'].any() else ''}"
        )


def _refuse_lopsided(cells: list[str], group: Names, folds: int) -> None:
    """`group` is that of the images in folds. Only where images of several groups chain them: persons may be large."""
    share = np.unique(group, return_counts=True)[1].max(initial=0) / max(len(group), 1)
    if several(cells).any() and share > (folds + 1) / (2 * folds):
        raise InputError(
            f"one group would hold {share:.1%} of the images in {folds} folds, and leave the others too few"
        )


def _refuse_one_class(label: npt.NDArray[np.int64], fold: npt.NDArray[np.int64], folds: int) -> None:
    for number in range(folds):
        reals, fakes = (int(((fold == number) & (label == c)).sum()) for c in (0, 1))
        if not reals or not fakes:
            raise InputError(
                f"fold {number} would have {reals} real and {fakes} fake images: lower split.folds (is {folds}), "
                "or change split.seed or the groups"
            )
