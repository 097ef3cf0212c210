"""Pairs -> clusters -> final groups."""

import numpy as np
from duplicate_cases import NO_PAIRS, components, linked, pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.intake.near_duplicates.clusters import component_names, held_together, join_groups


def test_components_are_named_after_their_smallest() -> None:
    names = ["d", "b", "c", "a", "e"]
    # d-b and b-c are one component; a stays alone, e too.
    assert component_names(pairs((0, 1), (1, 2)), names) == ["b", "b", "b", "a", "e"]
    assert component_names(NO_PAIRS, names) == names
    assert component_names(pairs((0, 4), (0, 4)), names) == ["d", "b", "c", "a", "d"]
    assert component_names(NO_PAIRS, []) == []


@settings(deadline=None)
@given(
    st.lists(st.text("abAB0\u00e9", min_size=1, max_size=3), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=10),
)
def test_the_name_is_the_smallest_of_the_component(names: list[str], listed: list[tuple[int, int]]) -> None:
    found = pairs(*((a % len(names), b % len(names)) for a, b in listed))
    due = linked(found, len(names))
    smallest = {c: min(n for n, other in zip(names, due, strict=True) if other == c) for c in due}
    assert component_names(found, names) == [smallest[c] for c in due]


def test_groups_that_share_a_cluster_become_one() -> None:
    groups = ["zoe", "anna", "zoe", "", "", "carl"]
    clusters = ["1", "1", "2", "2", "3", "4"]
    # Cluster 1 joins zoe and anna; cluster 2 brings the row without a group to zoe's; cluster 3 knows no group.
    assert join_groups(groups, clusters) == ["anna", "anna", "anna", "anna", "", "carl"]
    # A group and a cluster of the same name are two things.
    assert join_groups(["1", "b"], ["2", "1"]) == ["1", "b"]


def test_an_image_of_several_groups_joins_them() -> None:
    assert join_groups(["000|003", "003|005", "007", "005", ""], list("12345")) == ["000", "000", "007", "000", ""]
    # Near-duplicates chain on: 007 is near a picture of 003.
    assert join_groups(["000|003", "003", "007"], ["1", "2", "2"]) == ["000", "000", "000"]


rows = st.lists(st.tuples(st.sampled_from(["", "", "p", "q", "r", "s"]), st.sampled_from("abcdef")), max_size=14)


@settings(deadline=None)
@given(rows)
def test_joined_groups_part_neither_groups_nor_clusters(listed: list[tuple[str, str]]) -> None:
    groups, clusters = [g for g, _ in listed], [c for _, c in listed]
    joined = join_groups(groups, clusters)
    for a, (group, cluster) in enumerate(listed):
        for b, (other, another) in enumerate(listed):
            if cluster == another or (group and group == other):
                assert joined[a] == joined[b]
        assert not group or joined[a] <= group  # named after the smallest
    assert set(joined) <= {"", *groups}


def test_rows_are_held_together_by_pairs_by_groups_and_by_both() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    # 0 and 1 are of one group, 1 and 2 a pair, 3 and 4 a pair of no group, 5 a group of its own.
    held = held_together(pairs((1, 2), (3, 4)), names, ["x", "x", "", "", "", "y"]).tolist()
    assert held[0] == held[1] == held[2] and held[3] == held[4]
    assert len({held[0], held[3], held[5]}) == 3
    assert len(set(held_together(NO_PAIRS, ["p", "q"], ["q", ""]))) == 2  # a group is no image of that name


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", "", "p", "q", "r"]), min_size=1, max_size=12), st.data())
def test_what_is_held_together_is_what_a_walk_reaches(groups: list[str], data: st.DataObject) -> None:
    count = len(groups)
    row = st.integers(0, count - 1)
    found = pairs(*data.draw(st.lists(st.tuples(row, row), max_size=6)))
    near = np.array([[bool(a) and a == b for b in groups] for a in groups])
    near[found[:, 0], found[:, 1]] = near[found[:, 1], found[:, 0]] = True
    held, due = held_together(found, [f"n{i:02d}" for i in range(count)], groups), components(near)
    assert [[a == b for b in held] for a in held] == [[a == b for b in due] for a in due]
