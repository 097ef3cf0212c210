"""Near-duplicates, clusters and final groups."""

import io
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from conftest import picture
from duplicate_cases import components, distances, flipped, hashed, linked, planted
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from ffdi.intake.decoding.images import perceptual_hash
from ffdi.intake.near_duplicates import embeddings as by_embeddings
from ffdi.intake.near_duplicates import forest, hashes, near_hashes
from ffdi.intake.near_duplicates.clusters import component_names
from ffdi.intake.near_duplicates.embeddings import embedding_pairs
from ffdi.intake.near_duplicates.hashes import HashIndex, parse_hashes, perceptual_pairs


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
    for module in (forest, hashes, near_hashes):
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
