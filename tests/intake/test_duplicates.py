"""Near-duplicates, clusters and final groups."""

import io
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from ffdi.intake.decoding.images import perceptual_hash
from ffdi.intake.near_duplicates import embeddings as by_embeddings
from ffdi.intake.near_duplicates import forest, hashes
from ffdi.intake.near_duplicates.clusters import component_names, held_together, join_groups
from ffdi.intake.near_duplicates.embeddings import embedding_pairs
from ffdi.intake.near_duplicates.hashes import HashIndex, parse_hashes, perceptual_pairs

NO_PAIRS = np.empty((0, 2), np.int64)


def pairs(*found: tuple[int, int]) -> Any:
    return np.array(found, np.int64).reshape(-1, 2)


def hashed(picture_bits: int, mirror_bits: int = 0x5555555555555555) -> str:
    return f"{picture_bits:016x}{mirror_bits:016x}"


def flipped(value: int, bits: int, rng: np.random.Generator) -> int:
    """The hash with this many of its bits turned."""
    for bit in rng.choice(64, bits, replace=False):
        value ^= 1 << int(bit)
    return value


def planted(seed: int, count: int, bits: int) -> list[str]:
    """Random hashes; two in three are near an earlier one or just not, by either hash, upright or mirrored."""
    rng = np.random.default_rng(seed)
    made: list[tuple[int, int]] = []
    for _ in range(count):
        one, other = (int(h) for h in rng.integers(0, 2**64, 2, dtype=np.uint64))
        if made and rng.random() < 2 / 3:
            like = made[int(rng.integers(len(made)))]
            near = flipped(like[int(rng.integers(2))], int(rng.integers(max(0, bits - 2), bits + 3)), rng)
            one, other = [(near, other), (one, near), like][int(rng.choice(3, p=[0.45, 0.45, 0.1]))]
        made.append((one, other))
    return [hashed(one, other) for one, other in made]


def distances(listed: list[str]) -> Any:
    """(N, N): of the image and the image, the image and the mirror, or the mirror and the image, whichever is least."""
    plain, mirror = parse_hashes(listed).T
    both = np.bitwise_count(plain[:, None] ^ mirror[None])
    return np.minimum(np.bitwise_count(plain[:, None] ^ plain[None]), np.minimum(both, both.T)).astype(int)


def components(near: Any) -> list[int]:
    """The first row of each row's component, by walking a matrix of who is near whom."""
    first = [-1] * len(near)
    for start in range(len(near)):
        waiting = [start] if first[start] < 0 else []
        while waiting:
            row = waiting.pop()
            if first[row] < 0:
                first[row] = start
                waiting += np.flatnonzero(near[row]).tolist()
    return first


def linked(found: Any, count: int) -> list[int]:
    near = np.zeros((count, count), bool)
    near[found[:, 0], found[:, 1]] = near[found[:, 1], found[:, 0]] = True
    return components(near)


def test_hashes_are_two_words_of_64_bits() -> None:
    assert parse_hashes(["ffffffffffffffff0000000000000001"]).tolist() == [[2**64 - 1, 1]]
    assert parse_hashes([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("bits", "due"), [(0, []), (1, [[0, 1]]), (2, [[0, 1], [1, 2]]), (3, [[0, 1], [1, 2]]), (64, [[0, 1], [1, 2]])]
)
def test_pairs_within_so_many_bits(bits: int, due: list[list[int]]) -> None:
    # 0b000, 0b001 and 0b111: distances 1, 2 and, of the first and last, 3, which two nearer pairs link already.
    # The mirrors are 32 bits away.
    found = perceptual_pairs([hashed(0b000), hashed(0b001), hashed(0b111)], bits)
    assert found.tolist() == due


def test_a_mirror_image_is_a_pair_once() -> None:
    left, right = 0x00000000FFFFFFFF, 0x0F0F0F0F0F0F0F0F  # 32 bits apart
    assert perceptual_pairs([hashed(left, right), hashed(right, left)], 0).tolist() == [[0, 1]]
    # An image that is its own mirror image, twice: near by both hashes, one pair.
    assert perceptual_pairs([hashed(left, left), hashed(left, left)], 0).tolist() == [[0, 1]]
    assert perceptual_pairs([hashed(left, left)], 64).tolist() == []
    assert perceptual_pairs([], 6).tolist() == perceptual_pairs([], 12).tolist() == []
    # The mirror image's hash alone says nothing: only an image is compared, with images and with mirror images.
    assert perceptual_pairs([hashed(left, right), hashed(~left & 0x123456789ABCDEF0, right)], 0).tolist() == []


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 12))
def test_pairs_are_a_forest_that_links_what_all_near_pairs_link(seed: int, count: int, bits: int) -> None:
    listed = planted(seed, count, bits)
    found, distance = perceptual_pairs(listed, bits), distances(listed)
    assert found.shape[1] == 2 and found.dtype == np.int64 and (found[:, 0] < found[:, 1]).all()
    assert found.tolist() == sorted(found.tolist())
    length = distance[found[:, 0], found[:, 1]]
    for within in range(bits + 1):  # at every distance: the most alike first
        due = components(distance <= within)
        assert linked(found[length <= within], count) == due
        assert (length <= within).sum() == count - len(set(due))
    assert (length <= bits).all()


@pytest.mark.parametrize("bits", [0, 3, 4, 6, 7, 8, 11, 12, 64])
def test_the_index_finds_what_comparing_all_with_all_finds(bits: int) -> None:
    rng = np.random.default_rng(bits)
    base = [int(h) for h in rng.integers(0, 2**64, 300, dtype=np.uint64)]
    base += [0, 0, 2**64 - 1, base[0]]
    queries = [flipped(base[i], int(rng.integers(0, min(bits + 3, 64))), rng) for i in range(0, 300, 2)]
    # ... and the difference all in one word of sixteen bits, or evenly over all four.
    queries += [base[1] ^ ((1 << min(bits, 16)) - 1) << shift for shift in (0, 16, 32, 48)]
    queries += [base[2] ^ sum(1 << 16 * (i % 4) + i // 4 for i in range(min(bits, 64))), 0, 2**64 - 1]
    one, other = np.array(queries, np.uint64), np.array(base, np.uint64)
    distance = np.bitwise_count(one[:, None] ^ other[None])
    query, row, found = HashIndex(other, bits).search(one)
    assert np.stack([query, row], axis=1).tolist() == np.argwhere(distance <= bits).tolist()
    assert found.tolist() == distance[distance <= bits].tolist()


@pytest.mark.parametrize("bits", [0, 6, 12])
def test_the_index_of_nothing_and_the_search_for_nothing(bits: int) -> None:
    none, one = np.empty(0, np.uint64), np.array([5], np.uint64)
    for base, queries in ((none, one), (one, none), (none, none)):
        assert [found.tolist() for found in HashIndex(base, bits).search(queries)] == [[], [], []]


def test_the_index_is_faster_than_comparing_all_with_all() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)

    def all_with_all() -> int:
        return sum(
            len(np.argwhere(np.bitwise_count(hashes[start : start + 500, None] ^ hashes[None]) <= 6))
            for start in range(0, len(hashes), 500)
        )

    def by_index() -> int:
        return len(HashIndex(hashes, 6).search(hashes)[0])

    def median(search: Callable[[], int]) -> float:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            assert search() == len(hashes)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    assert 5 * median(by_index) < median(all_with_all)


@pytest.mark.parametrize("bits", [0, 6, 12])
def test_many_equal_hashes_are_no_more_pairs_than_images(bits: int) -> None:
    tracemalloc.start()
    found = perceptual_pairs([hashed(7)] * 5000, bits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 4999 and set(linked(found[:50], 51)) == {0}
    assert len(set(component_names(found, ["n"] * 5000))) == 1 and np.unique(found).tolist() == list(range(5000))
    assert peak < 2**24  # all with all were 200 MB at a bit more than a byte each


@pytest.mark.parametrize("kept", [1, 10, 100])
def test_thinning_parts_nothing(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    listed = planted(5, 300, 6)
    whole, distance = perceptual_pairs(listed, 6), distances(listed)
    for module in (forest, hashes):
        monkeypatch.setattr(module, "KEPT_PAIRS", kept)
    monkeypatch.setattr(hashes, "_QUERIES", 11)
    found = perceptual_pairs(listed, 6)
    for within in range(7):
        due = components(distance <= within)
        assert all(linked(f[distance[f[:, 0], f[:, 1]] <= within], 300) == due for f in (whole, found))
    assert len(found) == len(whole) > 90


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
    assert len(found) == 4 and linked(found, 8) == [0, 0, 0, 0, 0, 5, 6, 7]


@pytest.mark.parametrize("bits", [1, 6, 12])
def test_blocks_and_workers_do_not_show(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    listed = planted(0, 60, bits)
    embeddings = np.random.default_rng(0).normal(size=(50, 3))
    whole = perceptual_pairs(listed, bits), embedding_pairs(embeddings, 0.9)
    monkeypatch.setattr(hashes, "_QUERIES", 7)
    monkeypatch.setattr(by_embeddings, "_BLOCK_BYTES", 7 * 50 * 4)
    for workers in (1, 3):
        monkeypatch.setattr(hashes, "cpu_count", lambda workers=workers: workers)
        parts = perceptual_pairs(listed, bits), embedding_pairs(embeddings, 0.9)
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
