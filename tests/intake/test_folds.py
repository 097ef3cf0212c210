"""The test set and the folds share no group, whatever the groups are."""

import numpy as np
import pandas as pd
import pytest
from fold_cases import assign, balanced, place, table
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.errors import InputError
from ffdi.intake.splitting.folds import balance_table, describe_clusters
from ffdi.intake.tables import FOLD_COLUMNS

pytestmark = pytest.mark.filterwarnings("ignore:The least populated class")


images = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["", "", "", *"abcdefghijkl"])), min_size=8, max_size=40)


links = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=6)


@settings(deadline=None, max_examples=80)
@given(images, links, st.sampled_from(["stratified", "hash"]), st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.integers(0, 3))
def test_no_group_or_cluster_is_parted(
    rows: list[tuple[int, str]], linked: list[tuple[int, int]], method: str, test_size: float, seed: int
) -> None:
    count = len(rows)
    pairs = [(min(a, b) % count, max(a, b) % count) for a, b in linked]
    listed = table([y for y, _ in rows], [g for _, g in rows])
    try:
        out = assign(listed, pairs, method=method, test_size=test_size, seed=seed)
    except InputError:  # too few groups, or a fold without a class: said, never made
        return
    assert list(out.columns) == list(FOLD_COLUMNS) and list(out["image_id"]) == list(listed["image_id"])
    for names in (out["group"], out["cluster"], listed["group"][listed["group"] != ""]):
        assert place(out)[names.index].groupby(names).nunique().max() in (1, np.nan)
    for a, b in pairs:
        assert place(out)[a] == place(out)[b] and out["cluster"][a] == out["cluster"][b]
    assert ((out["role"] == "test") == (out["fold"] == "")).all()
    train = out[out["role"] == "train"]
    assert set(train["fold"]) == {"0", "1"}
    assert (listed["label"][train.index].groupby(train["fold"]).nunique() == 2).all()
    assert 0 < len(train) < count


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["", "train", "test"]), min_size=12, max_size=12), links)
def test_given_splits_are_respected(splits: list[str], linked: list[tuple[int, int]]) -> None:
    """Groups of four images; the first of each carries the group's split, the others may or may not."""
    given_split = [splits[i // 4] if i % 4 == 0 or splits[i % 12] else "" for i in range(48)]
    listed = table([i % 2 for i in range(48)], [f"g{i // 4:02d}" for i in range(48)], given_split)
    try:
        out = assign(listed)
    except InputError:
        return
    if "test" in given_split:
        assert (out["role"][listed["given_split"] == "test"] == "test").all()
        assert (out["role"][listed["given_split"] == "train"] == "train").all()
    assert (place(out).groupby(out["group"]).nunique() == 1).all()  # rows without a split stay with their group


def test_given_splits_can_be_put_aside() -> None:
    listed = balanced(16)
    listed["given_split"] = ["test"] * 4 + ["train"] * 28
    assert (assign(listed)["role"] == "test").sum() == 4
    assert (assign(listed, use_given=False)["role"] == "test").sum() == 8  # a quarter of 32


def test_rows_without_a_given_split_follow_their_group() -> None:
    listed = balanced(8)
    listed["given_split"] = ["test", ""] + [""] * 14
    out = assign(listed)
    assert list(out["role"][:2]) == ["test", "test"] and set(out["role"][2:]) == {"train"}
    # ... and a near-duplicate of a test image follows it, though it is of another group.
    assert list(assign(listed, [(0, 6)])["role"][[6, 7]]) == ["test", "test"]


def test_a_group_in_two_given_splits_is_an_error_naming_both_files() -> None:
    listed = balanced(8)
    listed["given_split"] = ["test", "train"] + ["train"] * 14
    with pytest.raises(
        InputError, match=r"group 'g000' stands in two given splits: 0.jpg \(test\) and 1.jpg \(train\)"
    ):
        assign(listed)
    assert len(assign(listed, use_given=False)) == 16


@pytest.mark.parametrize(
    ("test_size", "due"),
    [(0.1, 4), (0.2, 8), (0.25, 10), (0.3, 12), (0.4, 16), (0.5, 20), (0.7, 28), (0.75, 30)],
)
def test_test_size_is_the_share_of_the_test_set(test_size: float, due: int) -> None:
    listed = balanced(20)  # 40 images in groups alike: the share can be met exactly
    assert (assign(listed, test_size=test_size)["role"] == "test").sum() == due


@pytest.mark.parametrize(
    ("groups", "folds", "says"),
    [
        (4, 5, r"3 groups with 6 images cannot make 5 folds: lower split.folds"),  # one of four is the test set's
        (1, 2, r"1 groups cannot give a test set of split.test_size = 0.25"),
    ],
)
def test_fewer_groups_than_folds(groups: int, folds: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        assign(balanced(groups), folds=folds)


def test_fewer_images_of_every_class_than_folds() -> None:
    listed = balanced(8, each=1)  # 8 groups of one image: 3 real and 3 fake are left for 5 folds
    with pytest.raises(InputError, match="6 groups with 6 images cannot make 5 folds"):
        assign(listed, folds=5)


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_a_fold_of_one_class_is_an_error(method: str) -> None:
    listed = table([1] * 24, [f"g{i}" for i in range(24)])
    with pytest.raises(InputError, match=r"fold 0 would have 0 real and \d+ fake images: lower split.folds \(is 2\)"):
        assign(listed, method=method)


def test_a_test_set_of_nothing_or_everything_is_an_error() -> None:
    listed = balanced(8)
    with pytest.raises(InputError, match=r"16 of 16 images would be test: change split.test_size or the given splits"):
        assign(listed.assign(given_split="test"))
    with pytest.raises(InputError, match=r"0 of 16 images would be test"):
        assign(listed, method="hash", test_size=1e-9)


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_the_seed_alone_decides(method: str) -> None:
    listed = balanced(24)
    assert assign(listed, method=method, seed=3).equals(assign(listed, method=method, seed=3))
    assert not assign(listed, method=method, seed=3).equals(assign(listed, method=method, seed=4))


def test_classes_are_balanced_over_test_and_folds() -> None:
    listed = table([int(i % 4 == 0) for i in range(160)], [f"g{i:03d}" for i in range(160)])  # a quarter is fake
    out = assign(listed, folds=4, test_size=0.2)
    counts = listed["label"].groupby(place(out)).agg(["size", "sum"])
    assert counts["size"].tolist() == [32] * 5 and counts["sum"].tolist() == [8] * 5


def test_an_attribute_is_balanced_besides_the_label() -> None:
    listed = balanced(40, each=1).assign(attr_camera=["x", "x", "y", "y"] * 10)
    out = assign(listed, stratify_by="camera", test_size=0.5)
    counts = out.groupby([listed["label"], listed["attr_camera"], out["role"]]).size()
    assert counts.tolist() == [5] * 8
    with pytest.raises(InputError, match=r"split.stratify_by: 'age' is no attribute of images.csv; it has camera"):
        assign(listed, stratify_by="age")


def test_rows_without_a_group_are_their_own() -> None:
    out = assign(table([0, 1] * 8, [""] * 16), [(0, 2)])
    assert out["group"].nunique() == 15
    assert out["group"][0] == out["group"][2] == out["cluster"][0] == "id000"


def test_the_balance_table_counts_both_classes_everywhere() -> None:
    listed = table([0, 0, 1, 0, 1, 1, 1], [""] * 7)
    out = pd.DataFrame({"role": ["test", "test", "train", "train", "train", "train", "train"]})
    out["fold"] = ["", "", "0", "1", "1", "1", "0"]
    found = balance_table(listed, out)
    assert list(found.columns) == ["place", "class", "images"]
    assert found.to_numpy().tolist() == [
        ["fold 0", "real", 0],
        ["fold 0", "fake", 2],
        ["fold 1", "real", 1],
        ["fold 1", "fake", 2],
        ["test", "real", 2],
        ["test", "fake", 0],
    ]


def test_clusters_are_described_largest_first() -> None:
    listed = balanced(20)
    out = assign(listed, [(4, 9), (20, 21), (20, 22), (30, 31)])
    assert describe_clusters(listed, out) == [
        "7 images are in 3 clusters of near-duplicates (folds.csv: cluster)",
        "  20.jpg, 21.jpg, 22.jpg",
        "  4.jpg, 9.jpg",
        "  30.jpg, 31.jpg",
    ]
    assert describe_clusters(listed, out, most=1)[1:] == ["  20.jpg, 21.jpg, 22.jpg", "  and 2 more clusters"]
    assert describe_clusters(listed, assign(listed)) == [
        "0 images are in 0 clusters of near-duplicates (folds.csv: cluster)"
    ]


@pytest.mark.parametrize(
    ("size", "due"),
    [
        (6, "  0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg"),
        (9, "  0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg and 3 more"),
    ],
)
def test_of_a_large_cluster_six_images_are_named(size: int, due: str) -> None:
    listed = balanced(20)
    assert describe_clusters(listed, assign(listed, [(0, i) for i in range(1, size)]))[1:] == [due]
