"""A setting of a data set that has no effect is an error."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from params_files import COMMITTED, changed

from ffdi.errors import ParamsError
from ffdi.evaluation.settings import OtherDataSettings
from ffdi.intake.listing.known_layouts import LAYOUTS as KNOWN
from ffdi.intake.settings import Columns, DataSettings
from ffdi.params.reading import read_params

IMPORTERS = ("faceforensics", "celeb_df", "dfdc", "deepfakebench", "df40", "real_and_fake_140k", "openfake")
LAYOUTS = ("auto", "imagefolder", "csv", "multi_ffdi", *IMPORTERS)
READ_BY = {
    "table": ("csv",),
    "columns": ("csv",),
    "list_by": ("csv", "multi_ffdi"),
    "classes": ("auto", "imagefolder", "csv", "multi_ffdi", "deepfakebench"),
    "exclude": ("auto", "imagefolder"),
}  # all others: by every layout
READ_BY_ALL = ("root", "layout", "max_pixels", "max_rejected", "synthesise", "tables")

# A value of each key of `data` that asks for something.
ASKS: dict[str, Any] = {
    "root": "x",
    "layout": "csv",
    "table": "labels.csv",
    "columns": Columns(path="file"),
    "list_by": "table",
    "classes": {"a": 0},
    "group": "(?P<group>.)",
    "max_ungrouped": 0.2,
    "attributes": {"method": "(?P<value>.)"},
    "limit": 3,
    "exclude": ("masks",),
    "max_pixels": 9,
    "max_rejected": 0.5,
    "synthesise": 1,
    "tables": "parquet",
}


@pytest.mark.parametrize("section", [DataSettings, OtherDataSettings], ids=lambda section: section.__name__)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_setting_that_has_no_effect_is_an_error(layout: str, section: type[DataSettings]) -> None:
    assert [*ASKS] == [field.name for field in fields(DataSettings)]
    for key, value in ASKS.items():
        data = {"root": "s3://x/y", key: value} | {"layout": layout}
        if section is OtherDataSettings:
            data["recipes"] = ("late_cut",)
        if key == "max_ungrouped":
            with pytest.raises(ParamsError, match="max_ungrouped has no effect without group: leave it out"):
                section(**data).check_written(data)
            data["group"] = ASKS["group"]
        if layout in READ_BY.get(key, LAYOUTS) and (section, key) != (OtherDataSettings, "synthesise"):
            section(**data).check_written(data)
        else:
            with pytest.raises(ParamsError, match=rf"{key} has no effect with layout {layout}, which reads root, "):
                section(**data).check_written(data)


@pytest.mark.parametrize(
    ("key", "place"),
    [("data", "data"), ("evaluate.cross", "evaluate.cross.away")],
)
def test_a_setting_that_has_no_effect_is_said_with_its_place(tmp_path: Path, key: str, place: str) -> None:
    data = {"root": "x", "layout": "imagefolder", "table": "labels.csv"}
    file = changed(tmp_path, **{key: data if key == "data" else {"away": data | {"recipes": ["late_cut"]}}})
    with pytest.raises(ParamsError) as caught:
        read_params(file)
    says = rf"{place}: table has no effect with layout imagefolder, which reads (root, .*): leave it out"
    found = re.fullmatch(rf"{re.escape(str(file))}: {says}", str(caught.value))
    assert found and "table," not in found[1] and ("synthesise" in found[1]) == (key == "data")


def test_how_a_folder_is_listed_is_no_question() -> None:
    with pytest.raises(ParamsError, match="list_by has no effect with a root that is no URL"):
        DataSettings("data/demo", list_by="prefix").check_written({"root", "list_by"})


A, B = {"root": "x/a", "layout": "imagefolder"}, {"root": "s3://bucket/b.zip"}


def test_a_root_may_be_a_list_of_sets(tmp_path: Path) -> None:
    data = {"root": [A | {"exclude": ["m"]}, B | {"classes": {0: 1}}, B | {"name": "c"}], "max_pixels": 9}
    read = read_params(changed(tmp_path, data=data | {"max_rejected": 0.5, "synthesise": 1})).data
    assert [one.called for one in read.sets] == ["a", "b", "c"] and read.name == "a+b+c"
    assert (read.sets[0].exclude, read.sets[1].classes, read.max_pixels) == (("m",), {"0": 1}, 9)
    assert DataSettings("x").sets == ()


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        ({"root": []}, "data: root: a list of no sets: name one"),
        ({"root": [A, {"root": "y/A"}]}, "data: root: two sets are called 'A', x/a and y/A: give one a `name`"),
        ({"root": [A, B | {"name": "a"}]}, "two sets are called 'a', x/a and s3://bucket/b.zip"),
        ({"root": [{"root": ".."}]}, r"data: root: '..' is no name of a set \(..\): it becomes a folder"),
        ({"root": [A | {"name": "a|b"}]}, r"'a\|b' is no name of a set"),
        ({"root": [A], "layout": "csv"}, "data: layout has no effect beside a list of sets: write it in the sets"),
        ({"root": [A], "limit": 3}, "data: limit has no effect beside a list of sets"),
        ({"root": [A | {"table": "t.csv"}]}, "data.root.0: table has no effect with layout imagefolder"),
        ({"root": [A, A | {"name": "c", "max_pixels": 9}]}, "data.root.1: max_pixels has no effect with layout"),
        ({"root": [A | {"group": "("}]}, r"data.root.0.group: must be a regular expression"),
        ({"root": [A | {"layout": "xls"}]}, r"yaml: data.root.0.layout: Input should be '"),
        ({"root": [A | {"labels": 1}]}, r"unknown key data.root.0.labels: choose one of root, layout, .*, name"),
        ({"root": [{"layout": "csv"}]}, r"yaml: data.root.0.root: Field required$"),
        ({"root": [{"root": [A]}]}, r"yaml: data.root.0.root: must be one folder, archive or URL: only data.root"),
        ({"root": ["x"]}, r"yaml: data.root.0: Input should be a valid dictionary \(is 'x'\)"),
        ({"root": 5}, r"yaml: data.root: Input should be a valid string \(is 5\)$"),
        ({"root": [{"root": "s3://me:secret-key@b/c"}]}, r"data.root.0.root: s3://...: holds a user name or a key"),
    ],
    ids=str,
)
def test_what_is_no_list_of_sets_is_said_in_one_line(tmp_path: Path, data: dict[str, Any], rule: str) -> None:
    with pytest.raises(ParamsError, match=rule) as caught:
        read_params(changed(tmp_path, data=data))
    assert "secret-key" not in str(caught.value) and "\n" not in str(caught.value)


def test_other_data_are_one_set(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"evaluate.cross.x.root: must be one folder, archive or URL"):
        read_params(changed(tmp_path, **{"evaluate.cross": {"x": {"root": [A], "recipes": ["late_cut"]}}}))


def test_no_root_holds_a_key(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"data.root: s3://...: holds a user name or a key") as caught:
        read_params(changed(tmp_path, **{"data.root": "s3://me:secret-key@bucket/set"}))
    assert "secret-key" not in str(caught.value)


def test_what_asks_for_nothing_needs_no_effect(tmp_path: Path) -> None:
    nothing = {"root": "x", "layout": "multi_ffdi", "classes": None, "group": None, "limit": None, "synthesise": 0}
    assert read_params(changed(tmp_path, data=nothing | {"max_pixels": 9})).data.classes is None
    other = {"other": nothing | {"exclude": None, "table": "", "recipes": []}}
    assert read_params(changed(tmp_path, **{"evaluate.cross": other})).evaluate.cross["other"].synthesise == 0


def test_a_mapping_of_columns_asks_for_something(tmp_path: Path) -> None:
    data = {"root": "x", "layout": "imagefolder", "columns": {}}
    with pytest.raises(ParamsError, match="data: columns has no effect with layout imagefolder"):
        read_params(changed(tmp_path, data=data))


def test_every_layout_says_what_it_reads() -> None:
    assert set(get_args(get_type_hints(DataSettings)["layout"])) == set(LAYOUTS) == {"auto", *KNOWN}
    text = COMMITTED.with_name("docs").joinpath("data.md").read_text()
    keys = [field.name for field in fields(DataSettings) if field.name not in READ_BY_ALL]
    read = {layout: DataSettings.keys_of(layout) for layout in LAYOUTS}
    rows = [f"| `{name}` | {' | '.join('yes' if key in read[name] else '' for key in keys)} |" for name in LAYOUTS]
    for row in (f"| `data.layout` | {' | '.join(f'`{key}`' for key in keys)} |", *rows):
        assert row in text, row


def test_the_settings_of_a_layout_are_read_from_the_file(tmp_path: Path) -> None:
    columns = {"path": "file", "group": ["a", "b"], "split": None}
    written = {"root": "x", "columns": columns, "classes": {0: 1, True: 0, "x": 1}, "table": "t.csv", "limit": 2}
    data = read_params(changed(tmp_path, data=written)).data
    assert data.columns == Columns(path="file", group=("a", "b"))
    assert data.columns.named() == {"path": "file", "group": ("a", "b")}
    assert data.classes == {"0": 1, "True": 0, "x": 1}
    assert (data.layout, data.table, data.group, data.limit) == ("csv", "t.csv", None, 2)
    for patterns in (["a*"], []):
        folders = {"root": "x", "layout": "imagefolder", "exclude": patterns}
        assert read_params(changed(tmp_path, data=folders)).data.exclude == tuple(patterns)


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({"x": "easy"}, r"x must be a regular expression with \(\?P<value>\.\.\.\)"),
        ({"x": "(?P<value>"}, r"x must be a regular expression"),
        ({"attr_x": "(?P<value>.)"}, "'attr_x' is no name of an attribute"),
        ({"a-b": "(?P<value>.)"}, "'a-b' is no name of an attribute"),
    ],
)
def test_what_is_no_attribute_is_said_when_params_are_read(
    tmp_path: Path, attributes: dict[str, str], rule: str
) -> None:
    with pytest.raises(ParamsError, match=rf"data.attributes: {rule}"):
        read_params(changed(tmp_path, data={"root": "x", "layout": "imagefolder", "attributes": attributes}))


def test_the_attributes_of_a_file_are_read(tmp_path: Path) -> None:
    data = {"root": "x", "layout": "imagefolder", "attributes": {"difficulty": "(?P<value>easy)_"}}
    assert read_params(changed(tmp_path, data=data)).data.attributes == {"difficulty": "(?P<value>easy)_"}
