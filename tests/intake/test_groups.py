"""Names of groups as numbers, and rows of the same bytes that are merged."""

import hashlib
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ffdi.intake.groups import coded, join_names, memberships, several, single_names, split_names
from ffdi.intake.merging import merge_twins
from ffdi.intake.near_duplicates.clusters import join_groups

CELLS = ["b", "", "a|c", " b ", "b|b", "c|a|", "|", "ü|b", "b", "d"]


@pytest.mark.parametrize("cells", [CELLS, CELLS[::-1], ["", ""], ["x", "y", "x"], ["a|b"], []])
def test_memberships_are_the_names_of_each_cell_row_by_row(cells: list[str]) -> None:
    of = memberships(cells)
    due = [(row, name) for row, cell in enumerate(cells) for name in split_names(cell)]
    assert list(zip(of.row.tolist(), of.names.iloc[of.name], strict=True)) == due
    assert list(of.names) == sorted({name for _, name in due})
    assert several(cells).tolist() == [len(split_names(cell)) > 1 for cell in cells]
    assert list(single_names(cells)) == ["" if len(split_names(cell)) > 1 else cell for cell in cells]


def test_numbers_sort_as_their_names() -> None:
    code, names = coded(pd.Series(["é", "b", "B", "b"], dtype="str"))
    assert code.tolist() == [2, 1, 0, 1] and list(names) == ["B", "b", "é"]


def listed(seed: int, count: int) -> pd.DataFrame:
    """Rows of which many have the same bytes, in no order; some of two or three groups."""
    rng = np.random.default_rng(seed)
    names = ["", *"abcdefgh", *map("|".join, product("abc", "def"))]
    ids = [hashlib.sha256(bytes([n])).hexdigest() for n in rng.integers(0, 40, count).tolist()]
    columns = {"image_id": ids, "path": [f"{n}.png" for n in rng.permutation(count)], "group": rng.choice(names, count)}
    return pd.DataFrame(columns).astype("str").assign(label=0, given_split="")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [0, 1, 5, 60])
def test_rows_of_the_same_bytes_become_the_first_path_with_the_groups_of_all(seed: int, count: int) -> None:
    rows = listed(seed, count)
    single = ["" if "|" in cell else cell for cell in rows["group"]]
    renamed = dict(zip(single, join_groups(single, list(rows["image_id"])), strict=True))
    due = []
    for image_id, of_image in rows.groupby("image_id"):
        names = [renamed.get(name, name) for cell in of_image["group"] for name in split_names(cell)]
        due.append((image_id, of_image["path"].min(), join_names(names)))
    merged, gone = merge_twins(rows)
    assert list(zip(merged["image_id"], merged["path"], merged["group"], strict=True)) == due
    assert gone == count - len(due)
