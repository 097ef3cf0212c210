"""Images of several groups connect them: how large those components become, and how to draw sides without such chains.

Messages call a component a whole. Everywhere here `cells` are (N,) of images.csv's column `group`, `group` (N,) the
final groups of the same rows, and a side is the number of a fold, TEST, or DROPPED.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.intake.groups import memberships, several, single_names, split_names

Names = npt.NDArray[np.str_]
Sides = npt.NDArray[np.int64]
TEST, DROPPED = -1, -2
_EXAMPLES = 3
_Vote = TypeVar("_Vote", str, int)


def describe_components(cells: Sequence[str], group: Names) -> str:
    """How large the largest component is that images of several groups connect; "" where no image has several."""
    many = several(cells)
    if not many.any():
        return ""
    groups, images = _largest(cells, group, many)
    rows, names = memberships(cells)
    return (
        f"{many.sum()} images are of several groups, which join {len(set(names))} groups into "
        f"{len(np.unique(group[rows]))} wholes; the largest has {groups} groups and {images} images, "
        f"{images / len(group):.1%} of all"
    )


def explain_chain(cells: Sequence[str], paths: Sequence[str], group: Names) -> str:
    """Why nothing can be drawn where images of several groups connect most images, and what can be done about it.

    "" where no image has several groups.
    """
    many = several(cells)
    if not many.any():
        return ""
    groups, images = _largest(cells, group, many)
    links = ", ".join(f"{a} and {b} ({path})" for a, b, path in _chain(cells, paths, many))
    return (
        f"{many.sum()} images of several groups chain {groups} of {len(set(memberships(cells)[1]))} groups and {images} "
        f"of {len(group)} images into one, such as {links}: split.two_sources: drop draws without such images and drops "
        "those whose groups stand on two sides; or give the data's own split"
    )


def _largest(cells: Sequence[str], group: Names, many: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """(groups, images) of the largest component that has an image of several groups."""
    sizes = pd.Series(group[np.isin(group, group[many])]).value_counts()
    rows = np.flatnonzero(group == sizes.index[0]).tolist()
    return len({name for row in rows for name in split_names(cells[row])}), int(sizes.iloc[0])


def _chain(cells: Sequence[str], paths: Sequence[str], many: npt.NDArray[np.bool_]) -> list[tuple[str, str, str]]:
    """The first links of a chain: (name, other, path of the image of both)."""
    out: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for row in np.flatnonzero(many).tolist():
        names = split_names(cells[row])
        known = [name for name in names if name in seen]
        new = [name for name in names if name not in seen]
        if new and (known or not out):
            out.append(((known or new)[0], new[-1], paths[row]))
            seen.update(names)
        if len(out) == _EXAMPLES:
            break
    return out


def links_without_chains(cells: Sequence[str], cluster: Sequence[str], given: Names, most: float) -> list[str]:
    """(N,) the groups that each image joins in the draw, "" for none.

    An image of one group joins that group. An image of several groups joins them where the component would hold at most
    `most` images and no two given splits; combinations that many images share come first. Where no drawn image is a
    near-duplicate of an image of several groups or names any of them, that image joins the first of them, or nothing
    would draw it. If such images of one group are of two given splits, those of the rarer split join none.
    """
    many, links = several(cells), single_names(cells)
    joining = _joining([(cell, str(split)) for cell, split in zip(cells, given, strict=True)], most)
    links = [cell if (cell, split) in joining else link for cell, split, link in zip(cells, given, links, strict=True)]
    known = set(memberships(links)[1])
    anchored = {c for c, link, is_many in zip(cluster, links, many, strict=True) if link or not is_many}
    lone = [
        row
        for row in np.flatnonzero(many).tolist()
        if cluster[row] not in anchored and known.isdisjoint(split_names(cells[row]))
    ]
    votes: dict[str, Counter[str]] = {}
    for row in lone:
        links[row] = split_names(cells[row])[0]
        votes.setdefault(links[row], Counter()).update([given[row]] if given[row] else [])
    for row in lone:
        if given[row] and given[row] != _winner(votes[links[row]]):
            links[row] = ""
    return links


def _joining(rows: Sequence[tuple[str, str]], most: float) -> set[tuple[str, str]]:
    """Which (cell of several groups, given split) may join its groups, taken greedily, the commonest first."""
    count = Counter(rows)
    parent: dict[str, str] = {}  # union-find: a name -> another of its component, up to the root
    size: Counter[str] = Counter()
    splits: dict[str, set[str]] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    out = set()
    singles_first = sorted(count.items(), key=lambda item: (len(split_names(item[0][0])) > 1, -item[1], item))
    for (cell, split), images in singles_first:
        names = split_names(cell)
        roots = sorted({root(name) for name in names})
        total = sum(size[r] for r in roots) + images
        held = set[str]().union({split} - {""}, *(splits.get(r, set()) for r in roots))
        if len(names) > 1 and (total > most or len(held) > 1):
            continue
        for r in roots:
            parent[r] = roots[0]
            size[roots[0]], splits[roots[0]] = total, held
        if len(names) > 1:
            out.add((cell, split))
    return out


@dataclass(frozen=True)
class GroupedImages:
    """What holds N images together.

    `cells` are the column group of images.csv, `links` the groups that each image joins in the draw, `cluster` its
    near-duplicates, and `given` its given split or "".
    """

    cells: Sequence[str]
    links: Sequence[str]
    cluster: Sequence[str]
    given: Names


def place_by_groups(images: GroupedImages, group: Names, side: Sides) -> tuple[Names, Sides]:
    """(final group, side) of all images after the draw, which reached those with `links` and their near-duplicates.

    The others have any `side` < DROPPED. An image of several groups stands where all of its groups stand, its
    near-duplicates and its given split too; otherwise it is DROPPED. A group without a drawn image stands where most of
    its images can. The final group of an image that was not drawn is that of the first of its groups.
    """
    group, side = group.copy(), side.copy()
    at, names = memberships(images.links)
    row_of = dict(zip(names, at.tolist(), strict=True))  # a drawn image of each group
    rows: list[int] = np.flatnonzero(several(images.cells)).tolist()
    possible = _possible_sides(images, rows, {name: int(side[row]) for name, row in row_of.items()}, side)
    for row in rows:
        drawn = side[row] >= DROPPED
        side[row] = min(possible[row]) if _agrees(possible[row], images.given[row]) else DROPPED
        if not drawn and side[row] != DROPPED:
            group[row] = group[row_of[next(n for n in split_names(images.cells[row]) if n in row_of)]]
    near: dict[str, list[int]] = {}
    for row in (row for row in rows if side[row] != DROPPED):
        near.setdefault(images.cluster[row], []).append(row)
    for together in near.values():  # this parts no drawn images: their side is that of their cluster
        if len(set(side[together])) > 1:
            side[together] = DROPPED
        else:
            group[together] = min(group[together])
    return group, side


def _possible_sides(
    images: GroupedImages, rows: Sequence[int], stands: Mapping[str, int], side: Sides
) -> dict[int, set[int]]:
    """For each of `rows` the sides on which its groups stand; more than one where they do not agree.

    `stands` has the side of each group that was drawn. A group that was not stands where most of its images can.
    """
    possible = {row: {stands[n] for n in split_names(images.cells[row]) if n in stands} for row in rows}
    for row in rows:
        if side[row] >= DROPPED:
            possible[row].add(int(side[row]))
    votes: dict[str, Counter[int]] = {}
    for row in rows:
        for name in split_names(images.cells[row]):
            if name not in stands:
                agrees = _agrees(possible[row], images.given[row])
                votes.setdefault(name, Counter()).update(possible[row] if agrees else [])
    for row in rows:
        possible[row] |= {_winner(votes[n]) for n in split_names(images.cells[row]) if votes.get(n)}
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
        f"{len(dropped)} of {several(list(images['group'])).sum()} images of several groups are dropped, for those stand "
        f"on two sides (folds.csv: role dropped), such as {', '.join(dropped.head(_EXAMPLES))}"
    )


def _winner(votes: Counter[_Vote]) -> _Vote:
    """The commonest vote; of several, the smallest."""
    return min(votes, key=lambda vote: (-votes[vote], vote))
