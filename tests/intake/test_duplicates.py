"""Near-duplicates, clusters and final groups."""

import io
from typing import Any

import numpy as np
import pytest
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from ffdi.intake import duplicates
from ffdi.intake.duplicates import component_names, embedding_pairs, join_groups, parse_hashes, perceptual_pairs
from ffdi.intake.images import perceptual_hash

NO_PAIRS = np.empty((0, 2), np.int64)


def pairs(*found: tuple[int, int]) -> Any:
    return np.array(found, np.int64).reshape(-1, 2)


def hashed(picture_bits: int, mirror_bits: int = 0x5555555555555555) -> str:
    return f"{picture_bits:016x}{mirror_bits:016x}"


def test_hashes_are_two_words_of_64_bits() -> None:
    assert parse_hashes(["ffffffffffffffff0000000000000001"]).tolist() == [[2**64 - 1, 1]]
    assert parse_hashes([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("bits", "due"), [(0, []), (1, [[0, 1]]), (2, [[0, 1], [1, 2]]), (3, [[0, 1], [0, 2], [1, 2]])]
)
def test_pairs_within_so_many_bits(bits: int, due: list[list[int]]) -> None:
    # 0b000, 0b001 and 0b111: distances 1, 2 and, of the first and last, 3. The mirrors are 32 bits away.
    found = perceptual_pairs([hashed(0b000), hashed(0b001), hashed(0b111)], bits)
    assert found.tolist() == due


def test_a_mirror_image_is_a_pair_once() -> None:
    left, right = 0x00000000FFFFFFFF, 0x0F0F0F0F0F0F0F0F  # 32 bits apart
    assert perceptual_pairs([hashed(left, right), hashed(right, left)], 0).tolist() == [[0, 1]]
    # An image that is its own mirror image, twice: near by both hashes, one pair.
    assert perceptual_pairs([hashed(left, left), hashed(left, left)], 0).tolist() == [[0, 1]]
    assert perceptual_pairs([hashed(left, left)], 64).tolist() == []
    assert perceptual_pairs([], 6).tolist() == []


def test_pairs_of_real_pictures() -> None:
    image = picture(7, 96)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    variants = [
        image,
        Image.open(buffer).convert("RGB"),
        image.resize((48, 48)),
        ImageEnhance.Brightness(image).enhance(0.9),
        ImageOps.mirror(image),
    ]
    others = [picture(seed, 96) for seed in (8, 9, 10)]
    found = perceptual_pairs([perceptual_hash(i) for i in (*variants, *others)], 6)
    assert found.tolist() == [[a, b] for a in range(5) for b in range(a + 1, 5)]


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hashes = [hashed(int(h), int(m)) for h, m in rng.integers(0, 2**10, (50, 2))]
    embeddings = rng.normal(size=(50, 3))
    whole = perceptual_pairs(hashes, 1), embedding_pairs(embeddings, 0.9)
    monkeypatch.setattr(duplicates, "_BLOCK_BYTES", 7 * 50 * 8)
    parts = perceptual_pairs(hashes, 1), embedding_pairs(embeddings, 0.9)
    assert all(len(found) > 5 and (found == other).all() for found, other in zip(whole, parts, strict=True))


def test_embedding_pairs_are_mutual_nearest_neighbours() -> None:
    # On a circle at 9, 4, 0, 90 and 180 degrees: 4 and 0 choose each other; 9 chooses 4, which does not choose it.
    angles = np.deg2rad([9, 4, 0, 90, 180])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert embedding_pairs(circle, 0.9).tolist() == [[1, 2]]
    assert embedding_pairs(circle * [[1], [50], [1], [1], [1]], 0.9).tolist() == [[1, 2]]  # a length says nothing
    assert embedding_pairs(circle, 0.9999).tolist() == []  # cos 4 degrees is .9976
    assert embedding_pairs(circle[:1], 0.0).tolist() == []
    assert embedding_pairs(np.array([[0.0, 0.0], [1.0, 0.0]]), 0.5).tolist() == []  # a zero vector is like nothing


def test_components_are_named_after_their_smallest() -> None:
    names = ["d", "b", "c", "a", "e"]
    # d-b and b-c are one component; a stays alone, e too.
    assert component_names(pairs((0, 1), (1, 2)), names) == ["b", "b", "b", "a", "e"]
    assert component_names(NO_PAIRS, names) == names
    assert component_names(pairs((0, 4), (0, 4)), names) == ["d", "b", "c", "a", "d"]


def test_groups_that_share_a_cluster_become_one() -> None:
    groups = ["zoe", "anna", "zoe", "", "", "carl"]
    clusters = ["1", "1", "2", "2", "3", "4"]
    # Cluster 1 joins zoe and anna; cluster 2 brings the row without a group to zoe's; cluster 3 knows no group.
    assert join_groups(groups, clusters) == ["anna", "anna", "anna", "anna", "", "carl"]
    # A group and a cluster of the same name are two things.
    assert join_groups(["1", "b"], ["2", "1"]) == ["1", "b"]


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
