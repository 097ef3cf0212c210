"""Groups from patterns in paths and from columns."""

from pathlib import Path
from typing import Any

import pytest
from layout_cases import read, table, touch

from ffdi.errors import InputError
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings


def test_group_by_pattern_and_by_column(tmp_path: Path) -> None:
    text = "path,label,group\np1_a.jpg,1,\np1_b.jpg,0,own\nother.jpg,0,\n"
    rows, _ = read(table(tmp_path, text), "csv", group=r"(?P<group>p\d+)_", max_ungrouped=0.5)
    assert list(rows["group"]) == ["p1", "own", ""]  # the column wins; no match is no group


def test_a_pattern_where_every_row_has_a_group_has_no_effect(tmp_path: Path) -> None:
    table(tmp_path, "path,label,group\np1_a.jpg,1,x\np1_b.jpg,0,y\n")
    with pytest.raises(InputError, match=r"data\.group has no effect: every .* has a group of its own"):
        read(tmp_path, "csv", group=r"(?P<group>p\d+)_")


def test_a_path_names_several_groups(tmp_path: Path) -> None:
    touch(tmp_path, "real/000/0.png", "real/003/0.png", "fake/003_000/0.png", "fake/x_009/0.png", "fake/000_000/0.png")
    one = r"/(?P<group>\d{3})(_(?P<group2>\d{3}))?/"
    due = {
        "real/000/0.png": "000",
        "real/003/0.png": "003",
        "fake/003_000/0.png": "000|003",
        "fake/x_009/0.png": "009",
        "fake/000_000/0.png": "000",  # of one person, whoever stands twice
    }
    for patterns in ([one, r"x_(?P<group>\d+)/"], [r"/(?P<group>\d{3})[_/]", r"_(?P<group>\d{3})/"]):
        rows, _ = read(tmp_path, "imagefolder", group=patterns)
        assert dict(zip(rows["path"], rows["group"], strict=True)) == due


def test_a_second_source_that_the_pattern_leaves_out_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "real/000/000.png", "real/001/001.png", "fake/000_001/001.png", "fake/001_777/000.png")
    one = r"/(?P<group>\d{3})(_\d{3})?/"
    (line,) = read_layout(tmp_path, DataSettings(".", "imagefolder", group=one)).messages
    # 777 is nobody's; a frame's number stands in a part of its own.
    assert line.startswith("1 of 4 paths name a second group, such as fake/000_001/001.png (000, and 001): ")
    both = r"/(?P<group>\d{3})(_(?P<group2>\d{3}))?/"
    assert read_layout(tmp_path, DataSettings(".", "imagefolder", group=both)).messages == []


def test_a_cell_of_the_column_group_holds_several(tmp_path: Path) -> None:
    rows, _ = read(table(tmp_path, "path,label,group\na.jpg,1,b | a|b\nb.jpg,0,|\nc.jpg,0,b\n"), "csv")
    assert list(rows["group"]) == ["a|b", "", "b"]


@pytest.mark.parametrize("patterns", [r"video(?P<group>\d+)", [r"clip(?P<group>\d+)", r"video(?P<group>\d+)"]])
def test_a_group_pattern_that_matches_nothing_is_an_error(tmp_path: Path, patterns: Any) -> None:
    touch(tmp_path, "real/clip00/0.png", "fake/clip01/0.png")
    with pytest.raises(InputError, match=r"group: video.* names no group in any of 2 paths, such as fake/clip01/0.png"):
        read(tmp_path, "imagefolder", group=patterns)
    # A match of nothing is no match.
    with pytest.raises(InputError, match="names no group in any of 2 paths"):
        read(tmp_path, "imagefolder", group=r"(?P<group>\d*)_?")


def test_a_group_pattern_that_misses_too_many_stops_and_says_how_many(tmp_path: Path) -> None:
    rows = [f"p{i}_a.jpg,1,\n" for i in range(6)] + ["x.jpg,0,\n", "y.jpg,0,\n"] + ["z.jpg,0,own\n"] * 8
    root = table(tmp_path, "path,label,group\n" + "".join(rows))
    layout = {"table": "labels.csv", "group": r"(?P<group>p\d+)_"}
    listing = read_layout(
        root, DataSettings(".", "csv", **layout, max_ungrouped=0.25)
    )  # 2 of the 8 that have none of their own
    assert listing.messages == ["data.group names no group in 2 of 8 paths, such as x.jpg, y.jpg"]
    with pytest.raises(InputError, match=r"2 of 8 paths, such as x.jpg, y.jpg: more than data.max_ungrouped = 0.24"):
        read_layout(root, DataSettings(".", "csv", **layout, max_ungrouped=0.24))
    assert read_layout(root, DataSettings(".", "csv", group=r"(?P<group>.)", max_ungrouped=0.0)).messages == []


def test_a_group_pattern_that_could_change_nothing_is_an_error(tmp_path: Path) -> None:
    root = table(tmp_path, "path,label,group\np1_a.jpg,1,anna\n")
    with pytest.raises(InputError, match=r"data.group has no effect: every image has a group of its own"):
        read(root, "csv", group=r"(?P<group>p\d+)_")


def test_the_name_of_a_group_holds_no_separator(tmp_path: Path) -> None:
    touch(tmp_path, "real/a|b/0.png", "fake/c/0.png")
    with pytest.raises(InputError, match=r"'a\|b' in real/a\|b/0.png: the name of a group has no \|"):
        read(tmp_path, "imagefolder", group=r"/(?P<group>[^/]+)/")
