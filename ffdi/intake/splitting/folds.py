"""Groups -> a test set and folds that share no group."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.groups import Ints, Memberships, coded, memberships, repeated, several
from ffdi.intake.near_duplicates.clusters import Pairs, component_rows, joined_groups
from ffdi.intake.settings import SplitSettings
from ffdi.intake.splitting.clustered import cluster_folds
from ffdi.intake.splitting.draw import Deal, DrawnRows, draw_sides
from ffdi.intake.splitting.leave_one_out import HeldOut, LeftOut, attribute_column, attribute_values, hold_out_values
from ffdi.intake.splitting.several_groups import (
    DROPPED,
    TEST,
    GroupedImages,
    Names,
    Sides,
    explain_chain,
    links_without_chains,
    place_by_groups,
)
from ffdi.intake.tables import FOLD_COLUMNS, HELD_OUT_COLUMNS, sides

CLASSES = ("real", "fake")  # by label
Embeddings = npt.NDArray[Any]  # (N, D)


def assign_folds(
    images: pd.DataFrame, pairs: Pairs, settings: SplitSettings, embeddings: Embeddings | None = None
) -> pd.DataFrame:
    """folds.csv for `images` (images.csv): the test set first, then k folds of the rest, both by final group.

    `pairs` (M, 2) are near-duplicates by row number; groups that they link become one. `settings.method`: `stratified`
    balances the classes (and the attribute `stratify_by`), and so it does for the test set of the last two; `leave_one_out`
    as hold_out_values; `clustered` as cluster_folds by `embeddings` (N, D); `hash` places each of the intake's groups, and each image
    without a group, by its name alone, so that images added later never move it. Groups that join are test when any of
    them is, so that what was test stays test. Where a test set is given, a row of no given split goes where its group
    is.

    `settings.two_sources` says what images of several groups do. `join`: they join their groups. `drop`: they join them
    only where the component has at most half a fold's images, and with the method hash nowhere; the other such images
    are left out of the draw and placed after it, with the role dropped where their groups stand on two sides.

    Raises InputError when a group stands in two given splits, when there are fewer groups than folds, when a fold would
    lack a class, when nothing or everything would be test, when images of several groups chain so many into one that
    the other folds would be left less than half of their share, or when there is none to `drop`.
    """
    cells, cluster = images["group"], component_rows(pairs, images["image_id"])
    given = _given_splits(images, settings)
    grouped = GroupedImages(cells, _links(cells, cluster, given, settings), cluster, given)
    of_rows = memberships(grouped.links)
    _refuse_parted(images, grouped, of_rows)
    group, names = _final_groups(of_rows, joined_groups(of_rows, cluster), cluster, images["image_id"])
    side = np.full(len(images), DROPPED - 1)
    strata = _strata(images, settings.stratify_by)
    dealer = _Dealer(images, group, settings, embeddings)
    try:
        drawn = np.isin(group, group[~several(cells) | (grouped.links != "").to_numpy(bool)])
        rows = DrawnRows(images["image_id"], grouped.links, group, given, strata)
        side[drawn] = draw_sides(rows.where(drawn), settings, dealer.of(drawn))
        if settings.two_sources == "drop":
            group, side = place_by_groups(grouped, group, side)
        else:
            _refuse_lopsided(grouped.links, group[side >= 0], dealer.count)
        left_out = dealer.held.of(side) if dealer.held else None
        _refuse_one_class(images["label"].to_numpy(), side, dealer.count, left_out)
    except InputError as error:
        reason = _about_several_groups(images, group, side, settings)
        raise InputError(f"{error}; {reason}" if reason else str(error)) from None
    return _folds_table(images["image_id"], names.iloc[group], cluster, side, left_out)


def _given_splits(images: pd.DataFrame, settings: SplitSettings) -> Names:
    if not settings.use_given:
        return np.full(len(images), "")
    code, splits = coded(images["given_split"])
    return np.array(splits, str)[code]


def _final_groups(
    of_rows: Memberships, joined: Ints, cluster: Ints, image_id: pd.Series[str]
) -> tuple[Ints, pd.Series[str]]:
    """((N,) the number of each image's final group, the names, sorted): that of its groups, or of its near-duplicates."""
    named, alone = np.unique(joined[joined >= 0]), np.unique(cluster[joined < 0])
    code, names = coded(pd.concat([of_rows.names.iloc[named], image_id.iloc[alone]]))
    of_named, of_alone = np.full(len(of_rows.names), -1), np.full(len(image_id), -1)
    of_named[named], of_alone[alone] = code[: len(named)], code[len(named) :]
    return np.where(joined >= 0, np.append(of_named, -1)[joined], of_alone[cluster]), names


class _Dealer:
    """Deals the training rows to folds by the settings' method. `count` is the number of folds, `held` what they hold out."""

    def __init__(
        self, images: pd.DataFrame, group: Ints, settings: SplitSettings, embeddings: Embeddings | None
    ) -> None:
        self._label, self._group, self._settings, self._embeddings = images["label"], group, settings, embeddings
        self._values = attribute_values(images, settings.by) if settings.method == "leave_one_out" else None
        self.count = settings.folds
        self.held: HeldOut | None = None

    def of(self, drawn: npt.NDArray[np.bool_]) -> Deal | None:
        """(M,) folds of (M,) training rows, given by their positions among those `drawn`; None for the other methods."""
        at, label, seed = np.flatnonzero(drawn), self._label.to_numpy(), self._settings.seed

        def leave_one_out(train: Sides) -> Sides:
            assert self._values is not None
            placed_later = np.flatnonzero(~drawn)
            self.held = HeldOut.plan(self._values, label, np.append(at[train], placed_later), self._settings)
            self.count = len(self.held.names)
            return hold_out_values(self.held, label, self._group, at[train], seed)

        def clustered(train: Sides) -> Sides:
            assert self._embeddings is not None, "method clustered needs embeddings"
            rows = at[train]
            return cluster_folds(self._embeddings[rows], label[rows], self._group[rows], folds=self.count, seed=seed)

        return {"leave_one_out": leave_one_out, "clustered": clustered}.get(self._settings.method)


def _links(cells: pd.Series[str], cluster: Ints, given: Names, settings: SplitSettings) -> pd.Series[str]:
    """The groups that each image joins in the draw."""
    if settings.two_sources != "drop":
        return cells
    if not several(cells).any():
        raise InputError("split.two_sources: drop has no effect: no image is of several groups")
    most = 0.0 if settings.method == "hash" else (1 - settings.test_size) / settings.folds / 2 * len(cells)
    return links_without_chains(cells, cluster, given, most)


def _about_several_groups(images: pd.DataFrame, group: Ints, side: Sides, settings: SplitSettings) -> str:
    """What images of several groups may have to do with a draw that failed."""
    cells = images["group"]
    if settings.two_sources == "drop":
        return f"{(side == DROPPED).sum()} of {several(cells).sum()} images of several groups are dropped"
    return explain_chain(cells, images["path"], group)


def _folds_table(
    image_id: pd.Series[str], group: pd.Series[str], cluster: Ints, side: Sides, left_out: LeftOut | None
) -> pd.DataFrame:
    role = repeated(("test", "dropped", "train"), np.select([side == TEST, side == DROPPED], [0, 1], 2))
    columns = (image_id, group, image_id.iloc[cluster], role, _numbers(side))
    table = pd.DataFrame({name: column.array for name, column in zip(FOLD_COLUMNS, columns, strict=True)})
    if left_out is not None:
        for name, column in zip(HELD_OUT_COLUMNS, (left_out.held_out, _numbers(left_out.second)), strict=True):
            table[name] = column.array
    return table


def _numbers(folds: Sides) -> pd.Series[str]:
    """(N,) each number as text, "" for one below 0."""
    return repeated(["", *map(str, range(folds.max(initial=-1) + 1))], np.maximum(folds, -1) + 1)


def _strata(images: pd.DataFrame, stratify_by: str | None) -> Ints:
    """(N,) what is balanced, as numbers that sort as the label and the attribute do as text."""
    label = images["label"].astype(str)
    if stratify_by is None:
        return coded(label)[0]
    return coded(label + "|" + attribute_column(images, stratify_by, "split.stratify_by").astype(str))[0]


def _refuse_parted(images: pd.DataFrame, grouped: GroupedImages, of_rows: Memberships) -> None:
    given = grouped.given[of_rows.row]
    kept = np.flatnonzero(given != "")
    at = of_rows.row[kept]
    rows = pd.DataFrame({"group": of_rows.name[kept], "row": at, "given": given[kept]})
    sides = rows.drop_duplicates(["group", "given"])["group"].value_counts()
    if len(parted := sides[sides > 1]):
        first = parted.index.min()
        pair = rows[rows["group"] == first].drop_duplicates("given")
        places = " and ".join(
            f"{path} ({split})" for path, split in zip(images["path"].iloc[pair["row"]], pair["given"], strict=True)
        )
        offer = (
            f"; {len(parted)} such groups in all; split.two_sources: drop drops images whose groups stand on two sides, "
            "and split.use_given: false draws a split that parts no group"
        )
        many = several(grouped.links.iloc[np.unique(at)]).any()
        raise InputError(f"group {of_rows.names[first]!r} stands in two given splits: {places}{offer if many else ''}")


def _refuse_lopsided(cells: pd.Series[str], group: Ints, folds: int) -> None:
    """Refuse one huge component; `group` is that of the images in folds. A single large group is no error."""
    share = np.unique(group, return_counts=True)[1].max(initial=0) / max(len(group), 1)
    if several(cells).any() and share > (folds + 1) / (2 * folds):
        raise InputError(
            f"one group would hold {share:.1%} of the images in {folds} folds, and leave the others too few: lower "
            "split.folds, or see split.two_sources"
        )


def _refuse_one_class(
    label: npt.NDArray[np.int64], fold: npt.NDArray[np.int64], folds: int, left_out: LeftOut | None
) -> None:
    for number in range(folds):
        validates = fold == number if left_out is None else (fold == number) & (left_out.second < 0)
        reals, fakes = (int((validates & (label == c)).sum()) for c in (0, 1))
        if not reals or not fakes:
            if left_out is not None:
                raise InputError(
                    f"fold {number}, which holds out {left_out.name(number)}, would validate {reals} real and {fakes} "
                    "fake images: raise split.min_fakes, so that it is held out with others, or change split.by"
                )
            raise InputError(
                f"fold {number} would have {reals} real and {fakes} fake images: lower split.folds (is {folds}), "
                "or change split.seed or the groups"
            )


def balance_table(images: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """`place,class,images` for the plot of class balance: a row for each side and each class."""
    code, places = coded(pd.Series(sides(folds), dtype="str"))
    counts = np.bincount(code * 2 + images["label"].to_numpy(), minlength=2 * len(places)).reshape(-1, 2)
    rows = [
        (p, name, int(count))
        for p, both in zip(places, counts, strict=True)
        for name, count in zip(CLASSES, both, strict=True)
    ]
    table: pd.DataFrame = pd.DataFrame(rows, columns=["place", "class", "images"])
    return table


def describe_clusters(images: pd.DataFrame, folds: pd.DataFrame, most: int = 20) -> list[str]:
    """Lines: how many images are in clusters of two or more, then one for each of the largest `most` clusters."""
    twins = folds["cluster"][(folds["cluster"].duplicated(keep=False)).to_numpy()]
    sizes = twins.value_counts(sort=False).sort_values(ascending=False, kind="stable")
    lines = [f"{len(twins)} images are in {len(sizes)} clusters of near-duplicates (folds.csv: cluster)"]
    for cluster in sizes.index[:most]:
        paths = images["path"].iloc[np.flatnonzero(folds["cluster"] == cluster)]
        lines.append("  " + ", ".join(paths.head(6)) + (f" and {len(paths) - 6} more" if len(paths) > 6 else ""))
    return lines + ([f"  and {len(sizes) - most} more clusters"] if len(sizes) > most else [])
