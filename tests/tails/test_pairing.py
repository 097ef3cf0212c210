"""Real and fake of one group in one batch: every image once, what has no partner too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import CPU, FOLDS, PLAIN, TABLE, cross_validated, same

from ffdi.errors import ParamsError
from ffdi.tails.batches import FeatureTable
from ffdi.tails.feature_source import Streamed
from ffdi.tails.folds import FoldedTable
from ffdi.tails.pairing import couples, paired_order

# Three groups: a has two of each class, b one real and three fakes, c a real alone
LABELS = torch.tensor([0, 0, 1, 1, 0, 1, 1, 1, 0])
GROUPS = list("aaaabbbbc")


def table(views: int = 1) -> FeatureTable:
    features = torch.arange(9 * views).float().view(-1, 1)
    made = FeatureTable.of_features(features, LABELS)
    first, count = torch.arange(9) * views, torch.full((9,), views)
    return replace(made, first=first, views=count, image_ids=made.image_ids[:9]).grouped(GROUPS)


def epoch(made: FeatureTable, batch_size: int, seed: int = 0, views: str = "sample") -> list[list[int]]:
    """The rows of each batch of an epoch."""
    generator = torch.Generator().manual_seed(seed)
    return [x.flatten().long().tolist() for x, _ in made.shuffled(batch_size, views, generator, CPU, "group")]


def couples_in(batch: list[int], views: int = 1) -> list[str]:
    """The group of each couple, which stands at 2k and 2k + 1."""
    images = [row // views for row in batch]
    sides = zip(images[::2], images[1::2], strict=False)
    return [GROUPS[a] for a, b in sides if GROUPS[a] == GROUPS[b] and LABELS[a] != LABELS[b]]


@pytest.mark.parametrize("batch_size", [2, 4, 6, 64])
@pytest.mark.parametrize("seed", range(5))
def test_couples_stand_in_one_batch_and_every_image_comes_once(batch_size: int, seed: int) -> None:
    batches = epoch(table(), batch_size, seed)
    assert sorted(row for batch in batches for row in batch) == list(range(9))
    assert Counter(group for batch in batches for group in couples_in(batch)) == {"a": 2, "b": 1}
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_partners_and_order_change_from_epoch_to_epoch_and_repeat_with_the_seed() -> None:
    drawn = [epoch(table(), 4, seed) for seed in range(20)]
    assert drawn == [epoch(table(), 4, seed) for seed in range(20)]
    flat = [[row for batch in batches for row in batch] for batches in drawn]
    partners = {frozenset(rows[at ^ 1] for at in [rows.index(4)]) for rows in flat}  # of the real image of b
    assert partners == {frozenset({fake}) for fake in (5, 6, 7)}
    assert len({tuple(rows) for rows in flat}) == 20


def test_all_views_are_paired_view_by_view() -> None:
    batches = epoch(table(views=3), 4, views="all")
    assert sorted(row for batch in batches for row in batch) == list(range(27))
    assert Counter(group for batch in batches for group in couples_in(batch, 3)) == {"a": 6, "b": 3}


@given(
    labels=st.lists(st.integers(0, 1), min_size=1, max_size=30),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_any_table(labels: list[int], seed: int, data: st.DataObject) -> None:
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=len(labels), max_size=len(labels))))
    of, order = torch.tensor(labels), torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    paired = paired_order(order, of, groups)
    assert sorted(paired.tolist()) == list(range(len(labels)))
    sides = paired[: len(paired) // 2 * 2].view(-1, 2)
    found = (groups[sides[:, 0]] == groups[sides[:, 1]]) & (of[sides[:, 0]] != of[sides[:, 1]])
    assert int(found.sum()) == couples(of, groups)  # those that are left over in a group are of one class


class _Store:
    """Rows of one number each, as a store reads them."""

    def read(self, rows: Sequence[tuple[str, int]]) -> Any:
        return np.array([[float(image)] for image, _ in rows], np.float32)


def test_features_that_are_streamed_are_paired_too() -> None:
    rows = [(str(n), 0) for n in range(9)]
    streamed = replace(table(), source=Streamed(_Store(), rows, 3))  # type: ignore[arg-type]
    batches = epoch(streamed, 4)
    assert sorted(row for batch in batches for row in batch) == list(range(9))
    assert Counter(group for batch in batches for group in couples_in(batch)) == {"a": 2, "b": 1}


def test_a_training_with_pairs_repeats_and_differs_from_one_without() -> None:
    groups = [f"g{n // 4}" for n in range(36)]
    images = FoldedTable.of(TABLE, FOLDS, None, groups)
    paired = replace(PLAIN, epochs=1, pairing="group")
    first, second = cross_validated(paired, images), cross_validated(paired, images)
    assert same(first[0].state, second[0].state)
    assert not same(first[0].state, cross_validated(replace(paired, pairing="none"), images)[0].state)


@pytest.mark.parametrize(
    ("groups", "count"), [(None, 0), ([f"g{n}" for n in range(36)], 24), ([f"g{n % 2}" for n in range(36)], 2)]
)
def test_groups_that_give_no_couple_are_an_error(groups: Any, count: int) -> None:
    images = FoldedTable.of(TABLE, FOLDS, None, groups)
    with pytest.raises(
        ParamsError, match=f"pairing: group: none of the {count} groups of the training images"
    ) as error:
        cross_validated(replace(PLAIN, pairing="group"), images)
    assert "\n" not in str(error.value)


def test_parts_of_a_table_and_its_views_keep_their_groups() -> None:
    made = table(views=2)
    assert made.groups is not None and made.groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    part = made.of(torch.tensor([8, 4])).views_as_images()
    assert part.groups is not None and part.groups.tolist() == [2, 2, 1, 1]
