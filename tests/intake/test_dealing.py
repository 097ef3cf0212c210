"""Groups are drawn as scikit-learn draws them, and dealt out evenly where there are very many."""

import sys
from typing import Any

import numpy as np
import pytest
from fold_cases import assign, balanced, counts, place
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.errors import InputError
from ffdi.intake.groups import drawn_order
from ffdi.intake.splitting import draw
from ffdi.intake.splitting.draw import deal_groups

pytestmark = pytest.mark.filterwarnings("ignore:The least populated class")


def dealt(labels: Any, names: Any, parts: int = 4, seed: int = 0) -> Any:
    return deal_groups(np.asarray(labels).astype(str), np.asarray(names).astype(str), parts=parts, seed=seed)


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
