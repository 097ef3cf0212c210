"""Images of several groups connect them: how large those components become, and how to draw sides without such chains.

Messages call a component a whole. Everywhere here `cells` are (N,) of images.csv's column `group`, `group` (N,) the
final groups of the same rows or their numbers, and a side is the number of a fold, TEST, or DROPPED.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.intake.groups import Texts, as_texts, memberships, several, single_names, split_names

Names = npt.NDArray[np.str_]
Ints = npt.NDArray[np.int64]
Values = npt.NDArray[Any]  # names or their numbers
Sides = npt.NDArray[np.int64]
TEST, DROPPED = -1, -2
_EXAMPLES = 3
_Vote = TypeVar("_Vote", str, int)


def describe_components(cells: Texts, group: Values) -> str:
    """How large the largest component is that images of several groups connect; "" where no image has several."""
    many = several(cells)
    if not many.any():
        return ""
    groups, images = _largest(as_texts(cells), group, many)
    named = memberships(cells)
    return (
        f"{many.sum()} images are of several groups, which join {len(named.names)} groups into "
        f"{len(np.unique(group[named.row]))} wholes; the largest has {groups} groups and {images} images, "
        f"{images / len(group):.1%} of all"
    )


def explain_chain(cells: Texts, paths: Texts, group: Values) -> str:
    """Why nothing can be drawn where images of several groups connect most images, and what can be done about it.

    "" where no image has several groups.
    """
    many = several(cells)
    if not many.any():
        return ""
    texts = as_texts(cells)
    groups, images = _largest(texts, group, many)
    links = ", ".join(f"{a} and {b} ({path})" for a, b, path in _chain(texts, as_texts(paths), many))
    return (
        f"{many.sum()} images of several groups chain {groups} of {len(memberships(texts).names)} groups and {images} "
        f"of {len(group)} images into one, such as {links}: split.two_sources: drop draws without such images and drops "
        "those whose groups stand on two sides; or give the data's own split"
    )


def _largest(cells: pd.Series[str], group: Values, many: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """(groups, images) of the largest component that has an image of several groups."""
    sizes = pd.Series(group[np.isin(group, group[many])]).value_counts()
    return len(memberships(cells[group == sizes.index[0]]).names), int(sizes.iloc[0])


def _chain(cells: pd.Series[str], paths: pd.Series[str], many: npt.NDArray[np.bool_]) -> list[tuple[str, str, str]]:
    """The first links of a chain: (name, other, path of the image of both)."""
    out: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for row in np.flatnonzero(many).tolist():
        names = split_names(cells.iloc[row])
        known = [name for name in names if name in seen]
        new = [name for name in names if name not in seen]
        if new and (known or not out):
            out.append(((known or new)[0], new[-1], paths.iloc[row]))
            seen.update(names)
        if len(out) == _EXAMPLES:
            break
    return out


def links_without_chains(cells: Texts, cluster: Ints, given: Names, most: float) -> pd.Series[str]:
    """(N,) the groups that each image joins in the draw, "" for none; `cluster` (N,) numbers its near-duplicates.

    An image of one group joins that group. An image of several groups joins them where the component would hold at most
    `most` images and no two given splits; combinations that many images share come first. Where no drawn image is a
    near-duplicate of an image of several groups or names any of them, that image joins the first of them, or nothing
    would draw it. If such images of one group are of two given splits, those of the rarer split join none.
    """
    rows: list[int] = np.flatnonzero(several(cells)).tolist()
    held = dict(zip(rows, as_texts(cells).iloc[rows], strict=True))  # only such images are gone through one by one
    single = single_names(cells)
    joining = _joining([(cell, str(given[row])) for row, cell in held.items()], single, given, most)
    links = {row: cell if (cell, given[row]) in joining else "" for row, cell in held.items()}
    linked = single.copy()
    linked.iloc[rows] = pd.Index(list(links.values()), dtype="str")
    known = _named(held.values(), memberships(linked).names)
    anchored = np.zeros(int(cluster.max(initial=-1)) + 1, bool)
    anchors = np.ones(len(cluster), bool)
    anchors[rows] = [link != "" for link in links.values()]
    anchored[cluster[anchors]] = True
    lone = [row for row, cell in held.items() if not anchored[cluster[row]] and known.isdisjoint(split_names(cell))]
    votes: dict[str, Counter[str]] = {}
    for row in lone:
        links[row] = split_names(held[row])[0]
        votes.setdefault(links[row], Counter()).update([str(given[row])] if given[row] else [])
    for row in lone:
        if given[row] and given[row] != _winner(votes[links[row]]):
            links[row] = ""
    linked.iloc[rows] = pd.Index(list(links.values()), dtype="str")
    return linked


def _named(cells: Iterable[str], names: pd.Series[str]) -> set[str]:
    """Those names in the cells that are among `names`."""
    found = pd.Series(sorted({name for cell in cells for name in split_names(cell)}), dtype="str")
    return set(found[found.isin(names)])


def _joining(
    rows: Sequence[tuple[str, str]], single: pd.Series[str], given: Names, most: float
) -> set[tuple[str, str]]:
    """Which (cell of several groups, given split) of `rows` may join its groups, taken greedily, the commonest first.

    `single` (N,) are the groups of the images of one group, whose given splits are `given` (N,).
    """
    parent: dict[str, str] = {}  # union-find: a name -> another of its component, up to the root
    size, splits = _sizes_and_splits(single, given, {name for cell, _ in rows for name in split_names(cell)})

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    out = set()
    for (cell, split), images in sorted(Counter(rows).items(), key=lambda item: (-item[1], item)):
        roots = sorted({root(name) for name in split_names(cell)})
        total = sum(size[r] for r in roots) + images
        held = set[str]().union({split} - {""}, *(splits.get(r, set()) for r in roots))
        if total > most or len(held) > 1:
            continue
        for r in roots:
            parent[r] = roots[0]
            size[roots[0]], splits[roots[0]] = total, held
        out.add((cell, split))
    return out


def _sizes_and_splits(
    single: pd.Series[str], given: Names, names: set[str]
) -> tuple[Counter[str], dict[str, set[str]]]:
    """How many images of one group each of these names has, and the given splits among them."""
    of = memberships(single)
    wanted = np.flatnonzero(of.names.isin(list(names)).to_numpy(bool))
    count = np.bincount(of.name, minlength=len(of.names))
    size = Counter(dict(zip(of.names.iloc[wanted], count[wanted].tolist(), strict=True)))
    here = np.isin(of.name, wanted) & (given[of.row] != "")
    pairs = pd.DataFrame({"name": of.name[here], "split": given[of.row[here]]}).drop_duplicates()
    splits: dict[str, set[str]] = {}
    for name, split in zip(of.names.iloc[pairs["name"]], pairs["split"], strict=True):
        splits.setdefault(name, set()).add(str(split))
    return size, splits


@dataclass(frozen=True)
class GroupedImages:
    """What holds N images together.

    `cells` are the column group of images.csv, `links` the groups that each image joins in the draw, `cluster` the
    number of its near-duplicates, and `given` its given split or "".
    """

    cells: pd.Series[str]
    links: pd.Series[str]
    cluster: Ints
    given: Names


def place_by_groups(images: GroupedImages, group: Ints, side: Sides) -> tuple[Ints, Sides]:
    """(number of the final group, side) of all images after the draw, which reached those with `links` and their near-duplicates.

    The others have any `side` < DROPPED. An image of several groups stands where all of its groups stand, its
    near-duplicates and its given split too; otherwise it is DROPPED. A group without a drawn image stands where most of
    its images can. The final group of an image that was not drawn is that of the first of its groups.
    """
    group, side = group.copy(), side.copy()
    rows: list[int] = np.flatnonzero(several(images.cells)).tolist()
    names_of = dict(zip(rows, map(split_names, images.cells.iloc[rows]), strict=True))
    row_of = _drawn_rows(images.links, {name for names in names_of.values() for name in names})
    possible = _possible_sides(images, names_of, {name: int(side[row]) for name, row in row_of.items()}, side)
    for row in rows:
        drawn = side[row] >= DROPPED
        side[row] = min(possible[row]) if _agrees(possible[row], images.given[row]) else DROPPED
        if not drawn and side[row] != DROPPED:
            group[row] = group[row_of[next(n for n in names_of[row] if n in row_of)]]
    near: dict[int, list[int]] = {}
    for row in (row for row in rows if side[row] != DROPPED):
        near.setdefault(int(images.cluster[row]), []).append(row)
    for together in near.values():  # this parts no drawn images: their side is that of their cluster
        if len(set(side[together])) > 1:
            side[together] = DROPPED
        else:
            group[together] = min(group[together])
    return group, side


def _drawn_rows(links: pd.Series[str], names: set[str]) -> dict[str, int]:
    """The last drawn row of each of these names that has one."""
    of = memberships(links)
    last = np.full(len(of.names), -1)
    last[of.name] = of.row  # the last write wins
    wanted = np.flatnonzero(of.names.isin(list(names)).to_numpy(bool))
    return dict(zip(of.names.iloc[wanted], last[wanted].tolist(), strict=True))


def _possible_sides(
    images: GroupedImages, names_of: Mapping[int, list[str]], stands: Mapping[str, int], side: Sides
) -> dict[int, set[int]]:
    """For each row of `names_of` the sides on which its groups stand; more than one where they do not agree.

    `stands` has the side of each group that was drawn. A group that was not stands where most of its images can.
    """
    possible = {row: {stands[n] for n in names if n in stands} for row, names in names_of.items()}
    for row in names_of:
        if side[row] >= DROPPED:
            possible[row].add(int(side[row]))
    votes: dict[str, Counter[int]] = {}
    for row, names in names_of.items():
        for name in names:
            if name not in stands:
                agrees = _agrees(possible[row], images.given[row])
                votes.setdefault(name, Counter()).update(possible[row] if agrees else [])
    for row, names in names_of.items():
        possible[row] |= {_winner(votes[n]) for n in names if votes.get(n)}
    return possible


def _agrees(possible: set[int], given: str) -> bool:
    """Whether there is one side to stand on, and the given split allows it."""
    return len(possible) == 1 and given in ("", "test" if possible == {TEST} else "train")


def describe_dropped(images: pd.DataFrame, folds: pd.DataFrame) -> str:
    """How many images of several groups are dropped, with examples; "" where none is."""
    dropped = images["path"][(folds["role"] == "dropped").to_numpy()]
    if dropped.empty:
        return ""
    return (
        f"{len(dropped)} of {several(images['group']).sum()} images of several groups are dropped, for those stand "
        f"on two sides (folds.csv: role dropped), such as {', '.join(dropped.head(_EXAMPLES))}"
    )


def _winner(votes: Counter[_Vote]) -> _Vote:
    """The commonest vote; of several, the smallest."""
    return min(votes, key=lambda vote: (-votes[vote], vote))
