"""Pairs of near-duplicates -> clusters -> groups: images that show the same thing must stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffdi.intake.groups import memberships

Pairs = npt.NDArray[np.int64]  # (M, 2) row numbers, first < second


def components(pairs: Pairs, count: int) -> npt.NDArray[np.int64]:
    """(count,) the number of each row's connected component."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def component_names(pairs: Pairs, names: Sequence[str]) -> list[str]:
    """For every row the smallest name in its connected component."""
    component = components(pairs, len(names))
    order = np.argsort(np.array(names, dtype=np.str_), kind="stable")
    smallest = np.full(component.max(initial=-1) + 1, -1)
    smallest[component[order[::-1]]] = order[::-1]  # the last write wins: the first by name
    return [names[row] for row in smallest[component]]


def held_together(pairs: Pairs, names: Sequence[str], groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number for every row, equal for rows that `pairs`, groups ("" is none) or both hold together."""
    clusters = component_names(pairs, names)
    joined = join_groups(groups, clusters)
    held = [f"g{g}" if g else f"c{c}" for g, c in zip(joined, clusters, strict=True)]
    return np.asarray(np.unique(held, return_inverse=True)[1])


def join_groups(groups: Sequence[str], clusters: Sequence[str]) -> list[str]:
    """Groups that share a cluster or an image become one, named after the smallest; "" (no group) joins nothing.

    A row whose whole component has no group keeps "".
    """
    clusters = list(clusters)
    rows, names = memberships(groups)
    nodes = {name: i for i, name in enumerate(dict.fromkeys([f"g{g}" for g in names] + [f"c{c}" for c in clusters]))}
    links = [(nodes[f"g{g}"], nodes[f"c{clusters[row]}"]) for row, g in zip(rows, names, strict=True)]
    component = components(np.array(links, np.int64).reshape(-1, 2), len(nodes))
    best: dict[int, str] = {}
    for name, node in nodes.items():
        if name[0] == "g":
            best[component[node]] = min(best.get(component[node], name[1:]), name[1:])
    return [best.get(component[nodes[f"c{c}"]], "") for c in clusters]
