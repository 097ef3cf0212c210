"""Pairs of near-duplicates -> clusters -> groups: images that show the same thing must stay together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffdi.intake.groups import Memberships, Texts, as_texts, coded, memberships
from ffdi.intake.table_files.columns import text_of

Rows = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.int64]  # (M, 2) row numbers, first < second


def components(pairs: Pairs, count: int) -> npt.NDArray[np.int64]:
    """(count,) the number of each row's connected component."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def component_names(pairs: Pairs, names: Texts) -> list[str]:
    """For every row the smallest name in its connected component."""
    texts = as_texts(names)
    return list(texts.iloc[component_rows(pairs, texts)])


def component_rows(pairs: Pairs, names: Texts) -> Rows:
    """(N,) for every row the first row, by name, of its connected component."""
    component = components(pairs, len(names))
    order = _sorted_rows(as_texts(names))
    smallest = np.full(component.max(initial=-1) + 1, -1)
    smallest[component[order[::-1]]] = order[::-1]  # the last write wins: the first by name
    return smallest[component]


def _sorted_rows(names: pd.Series[str]) -> Rows:
    text = text_of(names)
    if pc.all(pc.less_equal(text[:-1], text[1:])).as_py():  # as images.csv is
        return np.arange(len(names))
    return np.argsort(coded(names)[0], kind="stable")


def held_together(pairs: Pairs, names: Texts, groups: Texts) -> Rows:
    """A number for every row, equal for rows that `pairs`, groups ("" is none) or both hold together."""
    cluster = component_rows(pairs, names)
    joined = joined_groups(memberships(groups), cluster)
    return np.where(joined >= 0, joined + len(cluster), cluster)


def join_groups(groups: Texts, clusters: Texts) -> list[str]:
    """Groups that share a cluster or an image become one, named after the smallest; "" (no group) joins nothing.

    A row whose whole component has no group keeps "".
    """
    of_rows = memberships(groups)
    joined = joined_groups(of_rows, pd.factorize(as_texts(clusters))[0])
    names = [*of_rows.names, ""]
    return [names[code] for code in joined.tolist()]


def joined_groups(groups: Memberships, cluster: Rows) -> Rows:
    """As join_groups, but by numbers: (N,) the place among groups.names, -1 for none, of rows in these clusters (N,)."""
    count, clusters = len(groups.names), int(cluster.max(initial=-1)) + 1
    component = components(np.column_stack([groups.name, cluster[groups.row] + count]), count + clusters)
    smallest = np.full(component.max(initial=-1) + 1, -1)
    smallest[component[:count][::-1]] = np.arange(count)[::-1]  # the last write wins: the first by name
    return smallest[component[cluster + count]]
