"""The search for hashes that differ in a few bits, by their blocks."""

import numpy as np
import pytest
from duplicate_cases import distances, planted

from ffdi.intake.near_duplicates import hashes, near_hashes
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.intake.near_duplicates.near_hashes import MOST_BITS, near_pairs


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 6, MOST_BITS])
@pytest.mark.parametrize("part", [1 << 18, 20])
def test_it_finds_each_pair_that_comparing_all_with_all_finds_once(
    monkeypatch: pytest.MonkeyPatch, bits: int, part: int
) -> None:
    monkeypatch.setattr(near_hashes, "_PART", part)
    base = hashes.parse_hashes(planted(bits, 200, bits)).T.reshape(-1)
    distance = np.bitwise_count(base[:, None] ^ base[None]).astype(int)
    due = [(a, b, distance[a, b]) for a, b in np.argwhere(distance <= bits).tolist() if a < b != a + 200 and a < 200]
    found = np.concatenate(list(near_pairs(base, 200, bits, None)))
    ends = np.sort(found[:, :2], axis=1)
    assert sorted((a, b, d) for (a, b), d in zip(ends.tolist(), found[:, 2].tolist(), strict=True)) == due
    assert len(due) > 20


def test_pairs_of_one_component_are_left_out() -> None:
    base = np.array([0, 1, 3, 7, 2**64 - 1], np.uint64)
    found = np.concatenate(list(near_pairs(base, 5, 6, None, np.array([0, 1, 0, 1, 2]))))
    assert sorted(map(sorted, found[:, :2].tolist())) == [[0, 1], [0, 3], [1, 2], [2, 3]]


def test_images_that_are_all_near_each_other_are_linked_without_comparing_all(monkeypatch: pytest.MonkeyPatch) -> None:
    # Frames that are nearly blank: a few bits of noise around one hash, so that all pairs are near.
    rng = np.random.default_rng(0)
    noise = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (600, 2), np.uint64), axis=1)
    listed = [f"{int(one):016x}{0x5555555555555555:016x}" for one in noise]
    whole, distance = perceptual_pairs(listed, 6), distances(listed)
    compared = []
    searched = near_pairs

    def counted(*arguments: object) -> object:
        for edges in searched(*arguments):  # type: ignore[arg-type]
            compared.append(len(edges))
            yield edges

    monkeypatch.setattr(hashes, "near_pairs", counted)
    monkeypatch.setattr(hashes, "KEPT_PAIRS", 1000)
    monkeypatch.setattr(near_hashes, "KEPT_PAIRS", 1000)
    found = perceptual_pairs(listed, 6)
    length = [np.sort(distance[pairs[:, 0], pairs[:, 1]]) for pairs in (whole, found)]
    assert np.array_equal(*length)
    assert sum(compared) < (distance <= 6).sum() / 2 / 5


def test_a_picture_like_its_own_mirror_image_is_no_pair() -> None:
    # A search that ends early because it has many pairs would lose some if these counted.
    base = np.tile(np.random.default_rng(0).integers(0, 2**64, 50, np.uint64), 2)
    assert sum(map(len, near_pairs(base, 50, 6, None))) == 0


def test_the_work_of_a_row_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = [0]
    near = near_hashes._HashPart._near

    def counted(part: near_hashes._HashPart, one: near_hashes.Rows, *rest: object) -> object:
        compared.append(len(one))
        return near(part, one, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(near_hashes._HashPart, "_near", counted)
    base = np.random.default_rng(0).integers(0, 2**64, 40_000, np.uint64)
    assert sum(map(len, near_pairs(base, len(base), 6, None))) == 0
    assert sum(compared) < 0.5 * len(base)  # by one word of sixteen bits alone, 40 of each row
