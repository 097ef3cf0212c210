"""Images of several groups: the groups they connect, and a draw without them that splits no group."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from fold_cases import assign, place, table
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.errors import InputError
from ffdi.intake.groups import memberships, several
from ffdi.intake.splitting.several_groups import (
    describe_components,
    describe_dropped,
    explain_chain,
    links_without_chains,
)
from ffdi.intake.tables import join, read_folds, sides, write_table

pytestmark = pytest.mark.filterwarnings("ignore:The least populated class")


def pairs_of(people: int, each: int = 2) -> pd.DataFrame:
    """Every person's real photos, and forgeries of persons 0 and 1, 2 and 3, ... as FaceForensics++ has them."""
    real = [f"{i:03d}" for i in range(people) for _ in range(each)]
    fake = [f"{i // 2 * 2:03d}|{i // 2 * 2 + 1:03d}" for i in range(people) for _ in range(each)]
    return table([0] * len(real) + [1] * len(fake), real + fake)


def ring(people: int, each: int = 2) -> pd.DataFrame:
    """Forgeries of each person and the next: all hang together."""
    real = [f"{i:03d}" for i in range(people) for _ in range(each)]
    fake = ["|".join(sorted((f"{i:03d}", f"{(i + 1) % people:03d}"))) for i in range(people) for _ in range(each)]
    return table([0] * len(real) + [1] * len(fake), real + fake)


def parted(images: pd.DataFrame, out: pd.DataFrame) -> list[str]:
    """Groups, by any of the images' names, that stand on two sides; dropped images stand on none."""
    of = memberships(images["group"])
    stands = pd.DataFrame({"name": of.names.iloc[of.name].array, "side": sides(out)[of.row]})
    counts = stands[stands["side"] != "dropped"].groupby("name")["side"].nunique()
    return list(counts.index[counts > 1])


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_a_forgery_stays_with_both_its_sources(method: str) -> None:
    listed = pairs_of(40)
    out = assign(listed, method=method)
    assert parted(listed, out) == [] and set(out["role"]) == {"train", "test"}
    assert (out["group"] == [f"{int(g[:3]) // 2 * 2:03d}" for g in listed["group"]]).all()  # named by the smaller
    assert describe_components(list(listed["group"]), out["group"].to_numpy(str)) == (
        "80 images are of several groups, which join 40 groups into 20 wholes; the largest has 2 groups and 8 images, "
        "5.0% of all"
    )


def test_without_an_image_of_several_groups_nothing_is_said() -> None:
    cells = ["a", "b", ""]
    assert describe_components(cells, np.array(cells)) == explain_chain(cells, cells, np.array(cells)) == ""


def test_a_chain_of_all_is_explained_and_a_way_out_is_offered() -> None:
    with pytest.raises(InputError) as said:
        assign(ring(10))
    assert str(said.value) == (
        "1 groups cannot give a test set of split.test_size = 0.25: change it; 20 images of several groups chain 10 of "
        "10 groups and 40 of 40 images into one, such as 000 and 001 (20.jpg), 001 and 002 (22.jpg), 002 and 003 "
        "(24.jpg): split.two_sources: drop draws without such images and drops those whose groups stand on two sides; "
        "or give the data's own split"
    )


@pytest.mark.parametrize(("chained", "fails"), [(14, False), (24, True)])
def test_a_chain_of_most_is_refused(chained: int, fails: bool) -> None:
    """Two folds of the training images: one whole may hold three quarters of them."""
    large = ring(chained, each=1)
    cells = [*large["group"], *(f"p{i:02d}" for i in range(8) for _ in range(2))]
    listed = table([*large["label"], *([0, 1] * 8)], cells)
    if fails:
        with pytest.raises(InputError, match=r"one group would hold 77.4% of the images in 2 folds.* chain 24 of 32"):
            assign(listed, test_size=0.1)
    else:
        assert parted(listed, assign(listed, test_size=0.1)) == []
    persons = listed.assign(group=["one" if "p" not in g else g for g in cells])  # a large person is nobody's chain
    assert parted(persons, assign(persons, test_size=0.1)) == []


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_dropped_are_only_forgeries_whose_groups_are_parted(method: str) -> None:
    listed = ring(24)
    out = assign(listed, two_sources="drop", method=method, seed=1)
    dropped = (out["role"] == "dropped").to_numpy()
    assert dropped.any() and not dropped.all() and not dropped[~several(list(listed["group"]))].any()
    assert parted(listed, out) == [] and (out["fold"][dropped] == "").all()
    stands = dict(zip(listed["group"], sides(out), strict=True))  # of real photos: each names one
    for cell, is_dropped in zip(listed["group"], dropped, strict=True):
        if "|" in cell:
            assert is_dropped == (len({stands[name] for name in cell.split("|")}) > 1)
    if method == "hash":  # what is added moves no photo: drawn as if no forgery were there
        real = ~several(list(listed["group"]))
        alone = listed[real].reset_index(drop=True)
        alone = assign(alone.assign(label=[i % 2 for i in range(len(alone))]), method=method, seed=1)
        assert (sides(out)[real] == sides(alone)).all()
    else:
        assert dropped.sum() <= 12  # half a fold has room for five people in a row
    assert describe_dropped(listed, out) == (
        f"{dropped.sum()} of 48 images of several groups are dropped, for those stand on two sides (folds.csv: role "
        f"dropped), such as {', '.join(listed['path'][dropped].head(3))}"
    )


def test_near_duplicates_with_people_on_two_sides_are_dropped_together() -> None:
    people = table([i % 2 for i in range(48)], [f"p{i // 2:02d}" for i in range(48)])
    options: dict[str, Any] = {"method": "hash", "two_sources": "drop", "seed": 1}
    stands = dict(zip(people["group"], place(assign(people, method="hash", seed=1)), strict=True))
    a, b, *_ = (name for name, side in stands.items() if side == "train0")
    c, d, *_ = (name for name, side in stands.items() if side == "train1")
    listed = table([*people["label"], 1, 1, 1], [*people["group"], f"{a}|{b}", f"{c}|{d}", f"{a}|{b}"])
    assert list(place(assign(listed, **options))[48:]) == ["train0", "train1", "train0"]
    assert list(place(assign(listed, [(48, 49)], **options))[48:]) == ["dropped", "dropped", "train0"]


def test_dropped_rows_are_in_folds_csv_and_nowhere_else(tmp_path: Any) -> None:
    listed = ring(24)
    write_table(tmp_path / "folds.csv", assign(listed, two_sources="drop", seed=1))
    folds = read_folds(tmp_path / "folds.csv")
    dropped = folds["role"] == "dropped"
    assert len(folds) == 96 and (folds["fold"][dropped] == -1).all() and dropped.any()
    joined = join(listed, folds)
    assert set(joined["image_id"]) == set(folds["image_id"][~dropped])
    assert list(joined.index) == list(range(len(joined))) and set(joined["role"]) == {"train", "test"}
    assert set(sides(folds)[dropped]) == {"dropped"} and "dropped" not in set(sides(joined))


def test_a_given_split_that_parts_a_forgery_offers_to_drop_it() -> None:
    listed = pairs_of(40).assign(given_split=["test" if i < 6 else "train" for i in range(160)])  # 3 people are test
    with pytest.raises(InputError, match=r"group '000' stands in two given splits: 0.jpg \(test\) .*two_sources: drop"):
        assign(listed)
    out = assign(listed, two_sources="drop")
    assert set(out["role"][:6]) == {"test"} and parted(listed, out) == []
    # Given for training, of people of the test set: those alone are dropped.
    assert list(np.flatnonzero(out["role"] == "dropped")) == [80, 81, 82, 83, 84, 85, 86, 87]
    persons = listed.assign(group=[g.split("|")[0] for g in listed["group"]])
    with pytest.raises(InputError) as said:
        assign(persons)
    assert "two_sources" not in str(said.value)  # it would change nothing


def test_dropping_without_a_forgery_is_an_error() -> None:
    with pytest.raises(InputError, match=r"split.two_sources: drop has no effect: no image is of several groups"):
        assign(table([0, 1] * 8, [f"g{i}" for i in range(16)]), two_sources="drop")


def test_forgeries_of_people_without_photos_are_drawn_by_their_first() -> None:
    cells = ["", "b|c", "a|c", "a|d", "e"]
    none = np.array([""] * 5)
    # c and d have no photo but in images that name a or b as well; nobody else names a and b.
    assert list(links_without_chains(cells, np.arange(5), none, 0)) == ["", "b", "a", "a", "e"]
    # One near a photo of no group goes where that goes; one of a known person too.
    assert list(links_without_chains([*cells, "f|g", "e|h"], np.array([0, 1, 2, 3, 4, 0, 6]), np.array([""] * 7), 0))[
        5:
    ] == ["", ""]
    # Of a's two images in two given splits none may part it: the test set has the first say.
    given_split = np.array(["", "", "train", "test", ""])
    assert list(links_without_chains(cells, np.arange(5), given_split, 0)) == ["", "b", "", "a", "e"]


def test_forgeries_join_their_sources_as_far_as_there_is_room() -> None:
    cells = ["a", "b", "c", "d", "a|b", "b|c", "b|c", "c|d"]
    none = np.array([""] * 8)

    def links(most: int, given_split: Any = none) -> list[str]:
        return list(links_without_chains(cells, np.arange(8), given_split, most))[4:]

    assert links(3) == ["a|b", "", "", "c|d"]
    assert links(4) == ["", "b|c", "b|c", ""]  # the commonest first; a or d besides would make six
    assert links(6) == ["a|b", "b|c", "b|c", ""]
    assert links(8) == ["a|b", "b|c", "b|c", "c|d"]
    # Never over the border of a given split: its own, or that of its people.
    assert links(8, np.array(["train", "test", "", "", "", "", "train", ""])) == ["", "b|c", "", "c|d"]


START = 60
names = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=3, unique=True)
cells_ = st.lists(st.one_of(names, st.lists(st.sampled_from("abcdxyz"), max_size=1)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=80)
@given(
    cells_,
    st.lists(st.tuples(st.integers(0, 89), st.integers(0, 89)), max_size=12),
    st.sampled_from(["stratified", "hash"]),
    st.integers(0, 3),
    st.lists(st.sampled_from(["", "", "train", "test"]), min_size=30, max_size=30),
)
def test_dropping_parts_no_group_and_no_near_duplicates(
    drawn: list[list[str]], near: list[tuple[int, int]], method: str, seed: int, splits: list[str]
) -> None:
    cells = [""] * START + ["|".join(sorted(one)) for one in drawn]
    forged = several(cells)
    given_split = ["test"] + ["train"] * (START - 1) + [s if "|" in c else "" for s, c in zip(splits, cells[START:])]
    given_split = given_split if seed % 2 else [""] * len(cells)
    listed = table([i % 2 for i in range(len(cells))], cells, given_split)
    found = [(a % len(cells), b % len(cells)) for a, b in near]
    if seed % 2:  # what a given split parts of its own is none of this
        found = [(a, b) for a, b in found if min(a, b) >= START]
    if not forged.any():
        return
    out = assign(listed, found, method=method, seed=seed, two_sources="drop")
    kept = (out["role"] != "dropped").to_numpy()
    assert parted(listed, out) == [] and kept[~forged].all()
    assert ((out["role"] == listed["given_split"]) | (listed["given_split"] == ""))[kept].all()
    for key in ("cluster", "group"):
        parts = place(out)[kept].groupby(out[key][kept]).nunique()
        assert (parts == 1).all() or (seed % 2 and near)
