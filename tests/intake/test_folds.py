"""The test set and the folds share no group, whatever the groups are."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.errors import InputError
from ffdi.intake.groups import drawn_order
from ffdi.intake.settings import SplitSettings
from ffdi.intake.splitting import draw
from ffdi.intake.splitting.draw import deal_groups
from ffdi.intake.splitting.folds import assign_folds, balance_table, describe_clusters
from ffdi.intake.tables import FOLD_COLUMNS

pytestmark = pytest.mark.filterwarnings("ignore:The least populated class")
NO_PAIRS = np.empty((0, 2), np.int64)


def table(labels: list[int], groups: list[str], given_split: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"id{i:03d}" for i in range(len(labels))],
            "path": [f"{i}.jpg" for i in range(len(labels))],
            "label": labels,
            "group": groups,
            "given_split": given_split or [""] * len(labels),
        }
    )


def assign(images: pd.DataFrame, pairs: Any = NO_PAIRS, **changes: Any) -> pd.DataFrame:
    settings_ = SplitSettings(**({"test_size": 0.25, "folds": 2} | changes))
    return assign_folds(images, np.asarray(pairs, np.int64).reshape(-1, 2), settings_)


def place(out: pd.DataFrame) -> pd.Series:
    return out["role"] + out["fold"]


def balanced(groups: int, each: int = 2) -> pd.DataFrame:
    """Every group has `each` images, real and fake by turns."""
    return table([i % 2 for i in range(groups * each)], [f"g{i // each:03d}" for i in range(groups * each)])


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


def test_a_new_near_duplicate_pulls_training_images_to_the_test_set_and_never_back() -> None:
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


def dealt(labels: Any, names: Any, parts: int = 4, seed: int = 0) -> Any:
    return deal_groups(np.asarray(labels).astype(str), np.asarray(names).astype(str), parts=parts, seed=seed)


def counts(strata: Any, part: Any, parts: int) -> Any:
    """(strata, parts): images."""
    return np.array([np.bincount(part[strata == s], minlength=parts) for s in np.unique(strata)])


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 12)), min_size=1, max_size=60),
    st.integers(2, 6),
    st.integers(0, 5),
)
def test_dealing_parts_no_group(rows: list[tuple[str, int]], parts: int, seed: int) -> None:
    strata, names = [s for s, _ in rows], np.array([g for _, g in rows])
    part = dealt(strata, names, parts, seed)
    assert len(part) == len(rows) and set(part) <= set(range(parts))
    assert all(len(set(part[names == name])) == 1 for name in names)


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("largest", [1, 2, 5])
def test_dealing_is_even_within_a_group(parts: int, largest: int) -> None:
    rng = np.random.default_rng(parts)
    size = rng.integers(1, largest + 1, 300)
    names = np.repeat(np.arange(300), size)
    strata = np.repeat(rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1]), size)  # a group is of one stratum
    out = counts(strata, dealt(strata, names, parts), parts)
    assert (out.max(axis=1) - out.min(axis=1) <= largest).all()


def test_groups_alike_are_dealt_out_exactly() -> None:
    strata, names = np.tile(["a", "a", "b"], 40), np.repeat(np.arange(40), 3)
    assert counts(strata, dealt(strata, names), 4).tolist() == [[20] * 4, [10] * 4]


def unevenness(strata: Any, part: Any, parts: int) -> float:
    """How far a part is from its even share of a stratum at worst, relative to it."""
    out = counts(strata, part, parts)
    even = out.sum(axis=1, keepdims=True) / parts
    return float((np.abs(out - even) / even).max())


def test_groups_are_drawn_as_the_newest_sklearn_draws_them() -> None:
    """And on the oldest one too, whose own shuffle gives folds that are far from even."""
    import sklearn
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(0)
    names, strata = rng.geometric(0.05, 600), rng.choice(["a", "b"], 600)

    def parts(splitter: Any, groups: Any) -> list[list[int]]:
        return [rows.tolist() for _, rows in splitter.split(strata, strata, groups)]

    ours = parts(StratifiedGroupKFold(5), drawn_order(names, 7))
    assert max(map(len, ours)) - min(map(len, ours)) < 20
    assert all(not set(names[a]) & set(names[b]) for i, a in enumerate(ours) for b in ours[:i])
    if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8):
        assert ours == parts(StratifiedGroupKFold(5, shuffle=True, random_state=7), names)


@pytest.mark.parametrize("seed", [0, 4, 10])
def test_dealing_is_as_even_as_sklearn(seed: int) -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(seed)
    names, strata = rng.geometric(0.01, 3000), rng.choice(["a", "b", "c"], 3000, p=[0.5, 0.4, 0.1])
    theirs = np.empty(3000, np.int64)
    for number, (_, rows) in enumerate(StratifiedGroupKFold(5).split(strata, strata, drawn_order(names, 0))):
        theirs[rows] = number
    ours = unevenness(strata, dealt(strata, names, 5), 5)
    assert ours <= unevenness(strata, theirs, 5) and ours < 0.05


def test_strata_of_few_groups_leave_no_part_empty() -> None:
    strata, names = np.repeat(np.arange(200), 20), np.repeat(np.arange(400), 10)  # two groups of ten in each stratum
    sizes = np.bincount(dealt(strata, names, 5), minlength=5)
    assert sizes.max() - sizes.min() <= 10


def test_the_seed_alone_decides_how_groups_are_dealt() -> None:
    rng = np.random.default_rng(0)
    strata, names = rng.choice(["a", "b"], 400), rng.integers(0, 150, 400)
    one, again, other = (dealt(strata, names, seed=seed) for seed in (3, 3, 4))
    assert (one == again).all() and (one != other).any()


def test_above_many_rows_groups_are_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = balanced(60)
    few = assign(listed, folds=3)
    monkeypatch.setattr(draw, "MANY", 120)
    assert few.equals(assign(listed, folds=3))  # 120 rows are not more
    monkeypatch.setattr(draw, "MANY", 60)
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)  # to import it is an error now
    many = assign(listed, folds=3)
    assert not few.equals(many)
    for out in (few, many):
        assert (place(out).groupby(out["group"]).nunique() == 1).all()
        assert listed["label"].groupby(place(out)).agg(["size", "sum"]).to_numpy().tolist() == [[30, 15]] * 4
    assert many.equals(assign(listed, folds=3)) and not many.equals(assign(listed, folds=3, seed=1))
    with pytest.raises(InputError, match="3 groups with 66 images cannot make 5 folds"):
        assign(balanced(4, each=22), folds=5)


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
