"""Groups that a data set names: images of one group must stay together. An image may have several groups.

A forgery has two people, the one in the picture and the one whose face it shows. Both kinds of names share one
namespace: 003 is the same person in either role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError

Texts: TypeAlias = Union[Sequence[str], "pd.Series[str]"]
Ints = npt.NDArray[np.int64]
SEPARATOR = "|"  # between the names in a cell of the column `group`
_EXAMPLES = 3


def split_names(cell: str) -> list[str]:
    """The distinct names in a cell of the column `group`, in order; [] for no group."""
    return [name for name in dict.fromkeys(part.strip() for part in cell.split(SEPARATOR)) if name]


def join_names(names: Iterable[str]) -> str:
    """The cell that holds these names, sorted and each once; "" is not a name."""
    return SEPARATOR.join(sorted(set(names) - {""}))


def several(cells: Texts) -> npt.NDArray[np.bool_]:
    """(N,) whether a cell holds more than one name."""
    many = _holds_separator(as_texts(cells))
    rows = np.flatnonzero(many)
    many[rows] = [len(split_names(cell)) > 1 for cell in as_texts(cells).iloc[rows]]
    return many


def single_names(cells: Texts) -> pd.Series[str]:
    """(N,) the name in each cell that holds one, "" where it holds several."""
    texts, many = as_texts(cells), several(cells)
    return texts.mask(many, "") if many.any() else texts


def as_texts(texts: Texts) -> pd.Series[str]:
    """A column of text, whatever holds it."""
    return texts if isinstance(texts, pd.Series) else pd.Series(list(texts), dtype="str")


def coded(texts: pd.Series[str]) -> tuple[Ints, pd.Series[str]]:
    """((N,) the place of each text among the distinct ones, which are sorted; those)."""
    code, distinct = pd.factorize(texts, sort=True)
    return code.astype(np.int64, copy=False), pd.Series(distinct, dtype="str")


def repeated(texts: Sequence[str], code: npt.NDArray[np.integer[Any]]) -> pd.Series[str]:
    """(N,) the text of each place `code` (N,) in `texts`."""
    return pd.Series(texts, dtype="str").take(code).reset_index(drop=True)


@dataclass(frozen=True)
class Memberships:
    """Every name in every cell, row by row: row `row` (M,) has the name `names[name]` (M,); `names` are sorted, distinct."""

    row: Ints
    name: Ints
    names: pd.Series[str]


def memberships(cells: Texts) -> Memberships:
    """The names in the cells of the column `group`; a cell that many rows have is split once."""
    code, distinct = pd.factorize(as_texts(cells))
    texts = pd.Series(distinct, dtype="str")
    split = np.flatnonzero(_holds_separator(texts) | (texts.str.strip() != texts).to_numpy(bool))
    count = (texts != "").to_numpy(bool).astype(np.int64)
    parts = [split_names(cell) for cell in texts.iloc[split]]
    count[split] = [len(names) for names in parts]
    start = np.cumsum(count) - count
    if len(split):  # each cell's names, in the order of the cells
        whole = np.setdiff1d(np.flatnonzero(count), split)
        at = np.concatenate([start[whole], np.repeat(start[split], count[split]) + _ranks(count[split])])
        flat = pd.concat([texts.iloc[whole], pd.Series([n for names in parts for n in names], dtype="str")])
        flat = flat.iloc[np.argsort(at, kind="stable")]
    else:
        flat = texts[count > 0]
    name, names = coded(flat)
    row = np.repeat(np.arange(len(code)), count[code])
    return Memberships(row, name[np.repeat(start[code], count[code]) + _ranks(count[code])], names)


def _ranks(count: Ints) -> Ints:
    """0, 1, ... count - 1 for each count, one after the other."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _holds_separator(texts: pd.Series[str]) -> npt.NDArray[np.bool_]:
    return texts.str.contains(SEPARATOR, regex=False).to_numpy(bool, copy=True)


def group_names(pattern: str) -> list[str]:
    """The named groups of a regular expression that stand for groups of images: all whose name begins with `group`.

    Raises re.error where `pattern` is not a regular expression.
    """
    return [name for name in re.compile(pattern).groupindex if name.startswith("group")]


def add_groups(
    cells: Sequence[str], paths: Sequence[str], patterns: Sequence[str], max_ungrouped: float
) -> tuple[list[str], list[str]]:
    """(column `group`, messages): images without a group in `cells` get what the patterns find in their paths.

    Each pattern has (?P<group>...) and may have more such groups, as (?P<group2>...): each match is a group of the
    image. Raises InputError for a pattern that matches none of these paths, or where more than the share
    `max_ungrouped` of them gets no group from any pattern.
    """
    out = list(cells)
    rows = [row for row, cell in enumerate(out) if not cell]
    if not rows:
        raise InputError("data.group has no effect: every image has a group of its own; leave it out")
    for pattern in patterns:
        search, names, matched = re.compile(pattern).search, group_names(pattern), False
        for row in rows:
            found = search(paths[row])
            if named := [found[name] for name in names if found[name]] if found else []:
                matched = True
                if held := [name for name in named if SEPARATOR in name]:
                    raise InputError(f"data.group: {held[0]!r} in {paths[row]}: the name of a group has no {SEPARATOR}")
                out[row] = join_names([*split_names(out[row]), *named])
        if not matched:
            raise InputError(
                f"data.group: {pattern} names no group in any of {len(rows)} paths, such as {paths[rows[0]]}: correct it"
            )
    messages = _second_sources([out[row] for row in rows], [paths[row] for row in rows])
    missed = [paths[row] for row in rows if not out[row]]
    if not missed:
        return out, messages
    line = f"data.group names no group in {len(missed)} of {len(rows)} paths, such as {', '.join(missed[:_EXAMPLES])}"
    if len(missed) > max_ungrouped * len(rows):
        raise InputError(f"{line}: more than data.max_ungrouped = {max_ungrouped:g}: correct one of them")
    return out, [*messages, line]


def _second_sources(cells: Sequence[str], paths: Sequence[str]) -> list[str]:
    """A message where folders or files are named after the image's group and a second one, as 000_001 of a forgery."""
    known = {cell for cell in cells if cell}
    found = []
    for cell, path in zip(cells, paths, strict=True):
        if not cell or SEPARATOR in cell:
            continue
        for part in path.split("/"):
            words = re.split(r"[^0-9A-Za-z]+", part)
            if cell in words and (other := next((w for w in words if w != cell and w in known), "")):
                found.append(f"{path} ({cell}, and {other})")
                break
    if not found:
        return []
    cure = "if both are sources, data.group must name both: (?P<group2>...)"
    return [f"{len(found)} of {len(cells)} paths name a second group, such as {', '.join(found[:_EXAMPLES])}: {cure}"]


def drawn_order(group: npt.NDArray[Any], seed: int) -> npt.NDArray[np.int64]:
    """(N,) the place of every row's group in an order drawn from `seed`, to give StratifiedGroupKFold for its groups.

    Its own `shuffle` is wrong before scikit-learn 1.8, the first release without Python 3.10: it shuffles the class
    counts apart from the groups they belong to, so that folds are unbalanced. From 1.8 on it gives the same folds as
    this order.
    """
    names, at = np.unique(group, return_inverse=True)
    place = np.empty(len(names), np.int64)
    place[np.random.RandomState(seed).permutation(len(names))] = np.arange(len(names))
    return place[at]
