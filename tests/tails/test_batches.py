"""Rows of features to batches: an image and its views are one entry."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.errors import ParamsError, ShardError
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.shard_index import Index
from ffdi.features.shards import write_shard
from ffdi.features.store import FeatureStore
from ffdi.files import sha256_file
from ffdi.tails.augment import augmentation
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.feature_source import InMemory, Streamed, one_thread


def table(views: list[int]) -> FeatureTable:
    """An image a entry of `views`; each row's feature is (image, view)."""
    counts = torch.tensor(views)
    rows = [[i, v] for i, n in enumerate(views) for v in range(n)]
    return FeatureTable(
        tuple(f"i{n}" for n in range(len(views))),
        InMemory(torch.tensor(rows, dtype=torch.float16).view(-1, 2, 1, 1)),
        torch.cumsum(counts, 0) - counts,
        counts,
        torch.arange(len(views)) % 2,
    )


def drawn(source: FeatureTable, batch_size: int, views: str, seed: int) -> list[list[tuple[int, int, int]]]:
    """(image, view, label) of every sample of one epoch, by batch."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [(int(x[0, 0, 0]), int(x[1, 0, 0]), int(y)) for x, y in zip(features, labels, strict=True)]
        for features, labels in source.shuffled(batch_size, views, generator)
    ]


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=20)


@given(views=shapes, batch_size=st.integers(1, 7), seed=st.integers(0, 9))
@settings(deadline=None)
def test_sample_draws_one_view_of_every_image(views: list[int], batch_size: int, seed: int) -> None:
    samples = [s for batch in drawn(table(views), batch_size, "sample", seed) for s in batch]
    assert sorted(image for image, _, _ in samples) == list(range(len(views)))
    assert all(view < views[image] and label == image % 2 for image, view, label in samples)


@given(views=shapes, batch_size=st.integers(1, 7), seed=st.integers(0, 9))
@settings(deadline=None)
def test_all_draws_every_view_once(views: list[int], batch_size: int, seed: int) -> None:
    samples = [s for batch in drawn(table(views), batch_size, "all", seed) for s in batch]
    assert sorted(samples) == [(i, v, i % 2) for i, n in enumerate(views) for v in range(n)]


@given(count=st.integers(2, 30), batch_size=st.integers(2, 7))
@settings(deadline=None)
def test_no_batch_has_one_sample(count: int, batch_size: int) -> None:
    """Train-mode BatchNorm over a 1x1 map cannot take a batch of one."""
    sizes = [len(batch) for batch in drawn(table([1] * count), batch_size, "sample", 0)]
    assert min(sizes) > 1 and max(sizes) <= batch_size + 1


def test_sample_draws_every_view_in_the_long_run() -> None:
    made = table([3] * 30)
    views = Counter(v for seed in range(10) for batch in drawn(made, 8, "sample", seed) for _, v, _ in batch)
    assert sorted(views) == [0, 1, 2] and min(views.values()) > 60  # 100 each are due


def test_the_order_comes_from_the_generator_alone() -> None:
    made = table([2] * 20)
    torch.manual_seed(1)
    first = drawn(made, 4, "sample", 5)
    torch.manual_seed(2)
    assert drawn(made, 4, "sample", 5) == first != drawn(made, 4, "sample", 6)


@given(views=shapes, data=st.data())
@settings(deadline=None)
def test_views_follow_their_image_into_any_part(views: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(views))), min_size=1, unique=True))
    part = table(views).of(torch.tensor(chosen))
    assert part.image_ids == tuple(f"i{n}" for n in chosen)
    samples = [s for batch in drawn(part, 4, "all", 0) for s in batch]
    assert sorted(samples) == sorted((i, v, i % 2) for i in chosen for v in range(views[i]))


def test_clean_is_view_0_in_the_tables_order() -> None:
    parts = list(table([2, 1, 3]).clean(2))
    features = torch.cat([x for x, _ in parts])
    assert features.view(-1, 2).tolist() == [[0, 0], [1, 0], [2, 0]]
    assert torch.cat([y for _, y in parts]).tolist() == [0, 1, 0]


IDS = sorted(hashlib.sha256(bytes([i])).hexdigest() for i in range(4))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Four images of 1, 2, 2 and 2 views; a feature is 100 * image + view."""
    spec = FeatureSpec("tiny", "n", "c", "ab" * 32, 8, (2, 1, 1), "float16", {})
    rows = [(image, v) for n, image in enumerate(IDS) for v in range(1 if n == 0 else 2)]
    features = np.array([100 * IDS.index(i) + v for i, v in rows], np.float16)
    write_shard(tmp_path / "shard-00000.h5", spec, rows, [features.repeat(2).reshape(-1, 2, 1, 1)])
    digest = sha256_file(tmp_path / "shard-00000.h5")
    Index(spec, {}, ({"name": "shard-00000.h5", "rows": 7, "sha256": digest},)).write(tmp_path)
    return FeatureStore(tmp_path)


def test_a_table_holds_the_rows_of_its_images_in_the_order_asked(store: FeatureStore) -> None:
    made = load_table(store, [IDS[2], IDS[0]], [1, 0], views="all", memory_gb=1)
    assert made.source.features[:, 0, 0, 0].tolist() == [200, 201, 0]
    assert (made.first.tolist(), made.views.tolist(), made.labels.tolist()) == ([0, 2], [2, 1], [1, 0])
    clean = load_table(store, [IDS[2], IDS[0]], [1, 0], views=0, memory_gb=1)
    assert clean.source.features[:, 0, 0, 0].tolist() == [200, 0] and clean.views.tolist() == [1, 1]


def test_an_image_without_features_is_an_error(store: FeatureStore) -> None:
    with pytest.raises(ShardError, match=f"no features of image {'0' * 64} view 0"):
        load_table(store, [IDS[0], "0" * 64], [0, 1], views="all", memory_gb=1)


def test_features_within_the_memory_limit_are_read_once(store: FeatureStore) -> None:
    assert isinstance(load_table(store, IDS, [0, 1, 0, 1], views="all", memory_gb=28e-9).source, InMemory)


# Features that exceed the memory


def streamed(store: FeatureStore, ids: list[str] = IDS, rows: int = 6) -> FeatureTable:
    """`rows` of 4 bytes fit the memory, a third of them a window."""
    made = load_table(store, ids, [0, 1, 0, 1][: len(ids)], views="all", memory_gb=4e-9 * rows)
    assert isinstance(made.source, Streamed)
    return made


def seen(made: FeatureTable, views: str, seed: int, batch_size: int = 2) -> list[list[tuple[float, int]]]:
    """(feature, label) of every sample of one epoch, by batch."""
    generator = torch.Generator().manual_seed(seed)
    batches = made.shuffled(batch_size, views, generator)
    return [list(zip(x[:, 0, 0, 0].tolist(), y.tolist(), strict=True)) for x, y in batches]


def test_features_beyond_the_memory_limit_stay_in_their_shards(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = FeatureStore.read
    monkeypatch.setattr(FeatureStore, "read", lambda self, rows: read.append(len(rows)) or real(self, rows))
    made = streamed(store)
    assert not read
    assert sorted(s for batch in seen(made, "all", 0) for s in batch) == [
        *((0, 0), (100, 1), (101, 1), (200, 0), (201, 0), (300, 1), (301, 1))
    ]
    assert max(read) == 3  # a window, and the sample that would be a batch of one


def test_a_stream_draws_a_view_of_every_image_and_no_other_order_than_the_generators(store: FeatureStore) -> None:
    made = streamed(store)
    epochs = [seen(made, "sample", seed) for seed in range(20)]
    assert epochs == [seen(made, "sample", seed) for seed in range(20)]
    assert len({str(epoch) for epoch in epochs}) > 10
    for epoch in epochs:
        samples = sorted(s for batch in epoch for s in batch)
        assert [int(x) // 100 for x, _ in samples] == [0, 1, 2, 3] and [y for _, y in samples] == [0, 1, 0, 1]


def test_a_stream_is_clean_in_the_tables_order(store: FeatureStore) -> None:
    made = streamed(store, [IDS[2], IDS[0], IDS[3]], rows=3)
    parts = list(made.of(torch.tensor([2, 0])).clean(1))
    assert [float(x[0, 0, 0, 0]) for x, _ in parts] == [300, 200] and [int(y) for _, y in parts] == [0, 0]


@given(views=shapes, batch_size=st.integers(1, 7), size=st.integers(1, 20), seed=st.integers(0, 9))
@settings(deadline=None)
def test_a_streams_order_is_a_shuffle_and_its_windows_are_bounded(
    views: list[int], batch_size: int, size: int, seed: int
) -> None:
    class Numbers:
        largest = 0

        def read(self, rows: list[tuple[str, int]]) -> np.ndarray:
            Numbers.largest = max(Numbers.largest, len(rows))
            return np.array([row[1] for row in rows], np.float16)

    count = sum(views)
    stream = Streamed(Numbers(), [("i", n) for n in range(count)], size)  # type: ignore[arg-type]
    order = stream.order(torch.arange(count), batch_size, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(count))
    batches = list(order.split(batch_size))
    given = list(stream.batches(order, [len(batch) for batch in batches]))
    assert [b.tolist() for b in given] == [b.tolist() for b in batches]
    assert Numbers.largest <= max(size, batch_size)


def test_a_streams_window_comes_from_few_blocks() -> None:
    """Neighbours are read together, and yet no window is in order."""
    stream = Streamed(None, [], 1024)  # type: ignore[arg-type]
    order = stream.order(torch.arange(8192), 64, torch.Generator().manual_seed(0))
    for window in order.split(1024):
        assert len({at // 256 for at in window.tolist()}) == 4
        assert abs(np.corrcoef(window, range(1024))[0, 1]) < 0.2


def test_a_stream_misses_no_row_silently(store: FeatureStore) -> None:
    with pytest.raises(ShardError, match=f"no features of image {'0' * 64} view 0"):
        load_table(store, ["0" * 64, *IDS], [0, 0, 1, 0, 1], views="all", memory_gb=1e-9)


def test_torch_has_its_threads_back_whatever_happens() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
        for _ in table([1, 2, 1]).clean(1):
            assert torch.get_num_threads() == 2  # the consumer's own work
        with pytest.raises(ParamsError):
            augmentation(resolve_augment([{"jitter": {"hue": 0.1}}]))(torch.zeros(2, 4, 3, 3))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
