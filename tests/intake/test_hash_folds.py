"""The method hash places each group by its name: what is added moves nothing."""

from typing import Any

import pytest
from fold_cases import assign, balanced, place, table
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore:The least populated class")


def test_hash_never_moves_an_old_group() -> None:
    few, many = balanced(40), balanced(120)
    for seed in (0, 1):
        old, new = (assign(listed, method="hash", folds=3, seed=seed) for listed in (few, many))
        before, after = (place(out).groupby(out["group"]).first() for out in (old, new))
        assert (after[before.index] == before).all()
    share = (new["role"] == "test").mean()
    assert 0.15 < share < 0.35  # of 120 groups a quarter, by chance: 4 % is one standard deviation
    # Stratified does move them, which is why hash exists.
    stratified = [place(out).groupby(out["group"]).first() for out in map(assign, (few, many))]
    assert (stratified[1][stratified[0].index] != stratified[0]).any()


def test_hash_draws_test_set_and_folds_independently() -> None:
    out = assign(balanced(200), method="hash", folds=2)
    train = out[out["role"] == "train"]
    assert 0.35 < (train["fold"] == "0").mean() < 0.65


START = 80  # ungrouped images that are always there, so that no fold lacks a class


more = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["", "", *"abcdef"])), max_size=15)


near = st.lists(st.tuples(st.integers(0, 109), st.integers(0, 109)), max_size=5)


@settings(deadline=None, max_examples=80)
@given(more, more, near, near, st.sampled_from([0.1, 0.25, 0.6]), st.integers(0, 3))
def test_what_is_added_never_moves_a_test_image_into_training(
    old: list[tuple[int, str]],
    new: list[tuple[int, str]],
    old_links: list[tuple[int, int]],
    new_links: list[tuple[int, int]],
    test_size: float,
    seed: int,
) -> None:
    first = [(i % 2, "") for i in range(START)] + old
    rows = first + new
    before_count, count = len(first), len(rows)
    listed = table([y for y, _ in rows], [g for _, g in rows])
    old_pairs = [(a % before_count, b % before_count) for a, b in old_links]
    new_pairs = [(a % count, before_count + b % len(new)) for a, b in new_links] if new else []
    settings_: dict[str, Any] = {"method": "hash", "test_size": test_size, "seed": seed}
    before = assign(listed[:before_count], old_pairs, **settings_)
    after = assign(listed, old_pairs + new_pairs, **settings_)
    alone = assign(listed, **settings_)["role"]  # where each of the intake's groups and images goes by its name

    was, now = place(before), place(after)[:before_count]
    assert (now[was == "test"] == "test").all()
    pulled = alone.groupby(after["group"]).transform(lambda roles: (roles == "test").any())
    assert ((after["role"] == "test") == pulled).all()
    # What the new images neither joined nor are near to stays where it was, down to the fold.
    touched = {a for a, _ in new_pairs} | {b for _, b in new_pairs}
    same = ~after["group"].isin(after["group"][list(touched)])[:before_count]
    assert (was[same] == now[same]).all()
    if not new_pairs:
        assert (was == now).all()


def test_a_near_duplicate_pulls_images_to_the_test_set_never_out_of_it() -> None:
    listed = table([i % 2 for i in range(101)], [f"g{i // 2:03d}" for i in range(100)] + [""])
    old = assign(listed[:100], method="hash")
    new = assign(listed, method="hash")  # the last image is new
    assert (place(new)[:100] == place(old)).all()
    test, train = (old.index[old["role"] == role][0] for role in ("test", "train"))
    joined = place(assign(listed, [(test, 100), (train, 100)], method="hash"))
    assert set(joined[[test, train, 100]]) == {"test"}
    moved = joined[:100] != place(old)
    assert set(listed["group"][:100][moved]) == {listed["group"][train]}  # the whole group, and it alone


def test_hash_takes_an_image_for_no_group_of_its_name() -> None:
    listed = table([0, 1] * 50, [""] * 100)
    by_image, by_group = assign(listed, method="hash"), assign(listed.assign(group=listed["image_id"]), method="hash")
    assert (by_image["group"] == by_group["group"]).all() and (place(by_image) != place(by_group)).any()


def test_hash_folds_hold_joined_groups_together() -> None:
    listed = balanced(100)
    linked = [(i, i + 2) for i in range(0, 196, 10)]
    out = assign(listed, linked, method="hash", folds=4)
    assert all(place(out)[a] == place(out)[b] for a, b in linked)
    assert set(out["fold"]) == {"", "0", "1", "2", "3"}
