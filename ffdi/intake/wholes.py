"""Images of several groups chain them into wholes: how large those become, and how to draw sides without the chains.

Everywhere here `cells` are (N,) of images.csv's column `group`, `group` (N,) the final groups of the same rows, and a
side is the number of a fold, TEST, or DROPPED.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


def describe_wholes(cells: Sequence[str], group: Names) -> str:
    """How large the largest whole is that images of several groups hold together; "" where no image has several."""
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
    """Why no test set and no folds can be drawn where images of several groups chain most into one, and what can be done.

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
    """Groups and images of the largest whole that has an image of several groups."""
    sizes = pd.Series(group[np.isin(group, group[many])]).value_counts()
    whole = sizes.index[0]
    return len({name for row in np.flatnonzero(group == whole).tolist() for name in split_names(cells[row])}), int(
        sizes.iloc[0]
    )


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
    """(N,) the groups that each image joins in the draw, "" for none: that of images of one group, and of no other.

    But images of several groups join theirs where no whole of more than `most` images comes of it, and none of two given
    splits; those that many images share first. And where no drawn image is near an image of several groups or names any
    of them, it brings the first: else nothing would draw it. Of such images in two given splits the fewer bring none.
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
    whole: dict[str, str] = {}  # a name -> another of its whole, up to the one that stands for it
    size: Counter[str] = Counter()
    splits: dict[str, set[str]] = {}

    def top(name: str) -> str:
        while whole.setdefault(name, name) != name:
            name = whole[name]
        return name

    out = set()
    singles_first = sorted(count.items(), key=lambda item: (len(split_names(item[0][0])) > 1, -item[1], item))
    for (cell, split), images in singles_first:
        names = split_names(cell)
        tops = sorted({top(name) for name in names})
        total = sum(size[t] for t in tops) + images
        held = set[str]().union({split} - {""}, *(splits.get(t, set()) for t in tops))
        if len(names) > 1 and (total > most or len(held) > 1):
            continue
        for t in tops:
            whole[t] = tops[0]
            size[tops[0]], splits[tops[0]] = total, held
        if len(names) > 1:
            out.add((cell, split))
    return out


def place_by_groups(
    cells: Sequence[str], links: Sequence[str], cluster: Sequence[str], given: Names, group: Names, side: Sides
) -> tuple[Names, Sides]:
    """(final group, side) of all images, of which those that `links` and near-duplicates reach have been drawn.

    The others have any `side` < DROPPED. An image of several groups stands where all of them stand, near-duplicates and
    its given split too, else it is DROPPED. A group that no drawn image names stands where the most of its images can.
    The final group of an image that was not drawn is that of the first of its groups.
    """
    group, side = group.copy(), side.copy()
    at, names = memberships(links)
    named = dict(zip(names, at.tolist(), strict=True))
    stands = {name: int(side[row]) for name, row in named.items()}
    rows: list[int] = np.flatnonzero(several(cells)).tolist()
    sides = {row: {stands[n] for n in split_names(cells[row]) if n in stands} for row in rows}
    for row in rows:
        if side[row] >= DROPPED:
            sides[row].add(int(side[row]))

    def fits(row: int) -> bool:
        return len(sides[row]) == 1 and given[row] in ("", "test" if sides[row] == {TEST} else "train")

    votes: dict[str, Counter[int]] = {}
    for row in rows:
        for name in split_names(cells[row]):
            if name not in stands:
                votes.setdefault(name, Counter()).update(sides[row] if fits(row) else [])
    for row in rows:
        sides[row] |= {_winner(votes[n]) for n in split_names(cells[row]) if votes.get(n)}
        drawn = side[row] >= DROPPED
        side[row] = min(sides[row]) if fits(row) else DROPPED
        if not drawn and side[row] != DROPPED:
            group[row] = group[named[next(n for n in split_names(cells[row]) if n in named)]]
    near: dict[str, list[int]] = {}
    for row in (row for row in rows if side[row] != DROPPED):
        near.setdefault(cluster[row], []).append(row)
    for together in near.values():  # none that was drawn is parted here: their sides are their cluster's
        if len(set(side[together])) > 1:
            side[together] = DROPPED
        else:
            group[together] = min(group[together])
    return group, side


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
    """The commonest, of several the smallest."""
    return min(votes, key=lambda vote: (-votes[vote], vote))
