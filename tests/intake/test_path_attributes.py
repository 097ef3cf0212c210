"""Attributes from patterns in paths."""

from pathlib import Path

import pytest
from layout_cases import read, table, touch

from ffdi.errors import InputError

DIFFICULTY = {"difficulty": r"(?P<value>easy|mid|hard)_"}


def test_paths_name_the_values_of_attributes(tmp_path: Path) -> None:
    touch(tmp_path, "real/real_1.png", "fake/easy_1_0001.png", "fake/hard_2_1000.png", "fake/odd.png")
    rows, _ = read(tmp_path, "imagefolder", attributes=DIFFICULTY | {"parts": r"_(?P<value>[01]{4})\."})
    due = {"real/real_1.png": "", "fake/easy_1_0001.png": "easy", "fake/hard_2_1000.png": "hard", "fake/odd.png": ""}
    assert dict(zip(rows["path"], rows["attr_difficulty"], strict=True)) == due
    assert sorted(rows["attr_parts"]) == ["", "", "0001", "1000"]


def test_a_group_of_the_pattern_that_takes_no_part_is_no_value(tmp_path: Path) -> None:
    touch(tmp_path, "real/1.png", "fake/gan_1.png")
    rows, _ = read(tmp_path, "imagefolder", attributes={"method": r"(?P<value>gan)?_?\d\.png"})
    assert dict(zip(rows["path"], rows["attr_method"], strict=True)) == {"real/1.png": "", "fake/gan_1.png": "gan"}


def test_a_table_may_have_attributes_of_both_kinds_but_not_one_twice(tmp_path: Path) -> None:
    root = table(tmp_path, "path,label,method\neasy_1.jpg,1,x\nb.jpg,0,\n")
    rows, _ = read(root, "csv", attributes=DIFFICULTY)
    assert (list(rows["attr_method"]), list(rows["attr_difficulty"])) == (["x", ""], ["easy", ""])
    with pytest.raises(InputError, match=r"data.attributes: method is a column of the table too"):
        read(root, "csv", attributes={"method": r"(?P<value>easy)"})


@pytest.mark.parametrize("pattern", [r"(?P<value>simple)_", r"(?P<value>\d*)x?"])
def test_a_pattern_without_a_value_in_any_path_is_an_error(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "real/a.png", "fake/b.png")
    with pytest.raises(InputError, match=r"data.attributes.difficulty: .* names no value in any of 2 paths, such as f"):
        read(tmp_path, "imagefolder", attributes={"difficulty": pattern})
