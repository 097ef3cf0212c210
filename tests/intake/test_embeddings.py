"""Near-duplicates by embeddings."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.intake.near_duplicates.embeddings import embedding_pairs


def test_embedding_pairs_are_mutual_nearest_neighbours() -> None:
    # On a circle at 9, 4, 0, 90 and 180 degrees: 4 and 0 choose each other; 9 chooses 4, which does not choose it.
    angles = np.deg2rad([9, 4, 0, 90, 180])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert embedding_pairs(circle, 0.9).tolist() == [[1, 2]]
    assert embedding_pairs(circle * [[1], [50], [1], [1], [1]], 0.9).tolist() == [[1, 2]]  # a length says nothing
    assert embedding_pairs(circle, 0.9999).tolist() == []  # cos 4 degrees is .9976
    assert embedding_pairs(circle[:1], 0.0).tolist() == []
    assert embedding_pairs(np.array([[0.0, 0.0], [1.0, 0.0]]), 0.5).tolist() == []  # a zero vector is like nothing


def test_neighbours_that_are_together_already_hide_none() -> None:
    # Two of one group at 0 and 1 degrees, a copy of the second in another group at 5, a stranger at 90.
    angles = np.deg2rad([0, 1, 5, 90])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert embedding_pairs(circle, 0.9).tolist() == [[0, 1]]
    assert embedding_pairs(circle, 0.9, np.array(["a", "a", "b", "c"])).tolist() == [[1, 2]]
    assert embedding_pairs(circle, 0.999, np.array(["a", "a", "b", "c"])).tolist() == []
    assert embedding_pairs(circle, 0.9, np.array([3, 3, 3, 1])).tolist() == []
    assert embedding_pairs(circle, -1.0, np.zeros(4)).tolist() == []  # there is no other group


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 25), st.integers(1, 5))
def test_embedding_pairs_equal_those_of_each_row_on_its_own(seed: int, count: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings, apart = rng.normal(size=(count, 3)), rng.integers(0, groups, count)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    nearest = {}
    for row in range(count):
        others = [other for other in range(count) if apart[other] != apart[row]]
        if others:
            nearest[row] = max(others, key=lambda other, row=row: unit[row] @ unit[other])
    due = [[a, b] for a, b in nearest.items() if a < b and nearest.get(b) == a and unit[a] @ unit[b] >= 0.5]
    assert embedding_pairs(embeddings, 0.5, apart).tolist() == due
