"""Label files and lists as Parquet: read as a csv of the same cells."""

import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import picture
from layout_cases import touch

from ffdi.deploy.inputs import find_inputs
from ffdi.errors import InputError
from ffdi.evaluation.submission import read_image_list, write_submission
from ffdi.intake.listing import parquet_labels
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings
from ffdi.intake.tables import read_table


def write(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def listed(root: Path) -> Any:
    return read_layout(root, DataSettings(".", "csv", table="labels.parquet")).rows


def test_typed_labels_and_attributes_are_read_as_of_a_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_labels, "_ROWS", 2)
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    write(
        tmp_path / "labels.parquet",
        path=pa.array(["a.jpg", " b.jpg", None, "c.jpg"]),
        label=pa.array([1, 0, None, 1], pa.int8()),
        group=pa.array(["x", "y", None, "x"]).dictionary_encode(),
        split=["test", "train", "", "train"],
        year=pa.array([2019, None, None, 2021]),
        strength=[0.5, 1.0, None, None],
        real=[False, True, None, False],
        __index_level_0__=[5, 3, None, 0],
        day=pa.array([datetime.date(2026, 1, 2), None, None, None]),
    )
    rows = listed(tmp_path)
    assert list(rows["path"]) == ["a.jpg", "b.jpg", "c.jpg"] and list(rows["label"]) == [1, 0, 1]
    assert list(rows["group"]) == ["x", "y", "x"] and list(rows["given_split"]) == ["test", "train", "train"]
    assert not [name for name in rows if "index" in name]
    attributes = rows[["attr_year", "attr_strength", "attr_real", "attr_day"]].to_numpy().tolist()
    assert attributes == [["2019", "0.5", "False", "2026-01-02"], ["", "1.0", "True", ""], ["2021", "", "False", ""]]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"path": ["a.jpg", "../b.jpg"], "label": [1, 0]}, r"row 2: path '\.\./b\.jpg' leads out"),
        ({"path": ["a.jpg"], "target": [1]}, "no column 'label'; the header is 'path,target'; data.columns says"),
        (
            {"path": ["a.jpg"], "label": [1], "image": [{"bytes": b"x"}]},
            "column 'image' is struct<bytes: binary>, no text",
        ),
        ({"path": pa.array([], pa.string()), "label": pa.array([], pa.int8())}, "no rows"),
        ({"path": ["a.jpg"], "label": [7]}, "row 1: label '7'"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(
    tmp_path: Path, columns: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_labels, "_ROWS", 1)
    touch(tmp_path, "a.jpg")
    write(tmp_path / "labels.parquet", **columns)
    with pytest.raises(InputError, match=rf"labels\.parquet: {says}") as caught:
        listed(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_text("path,label\na.jpg,1\n")
    with pytest.raises(InputError, match=r"labels\.parquet: not a readable table"):
        listed(tmp_path)


def test_a_table_of_paths_is_an_argument_of_predict(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg")
    table = write(tmp_path / "t.parquet", path=["in/a.jpg", "gone.jpg"])
    with open(table, "rb") as nothing:
        assert find_inputs([str(table)], nothing).files == [tmp_path / "in/a.jpg", tmp_path / "gone.jpg"]


def test_a_submission_of_a_list_and_as_parquet(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    picture(0, 8).save(tmp_path / "root/a.jpg")
    listing = read_image_list(
        write(tmp_path / "l.parquet", img_name=["a.jpg", "b.jpg"], target=[1, 0]), tmp_path / "root"
    )
    scores = [(tmp_path / "root/a.jpg", 0.75), (tmp_path / "root/b.jpg", "gone")]
    for out in ("s.parquet", "s.csv"):
        write_submission(tmp_path / out, listing, scores, prior=0.25, max_rejected=0.5)
    found = read_table(tmp_path / "s.parquet", ("img_name", "y_pred"))
    assert found.to_numpy().tolist() == [["a.jpg", 0.75], ["b.jpg", 0.25]]
    assert (tmp_path / "s.csv").read_text() == "img_name,y_pred\na.jpg,0.75\nb.jpg,0.25\n"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_at_midnight_is_a_date_as_in_a_csv_of_pandas(tmp_path: Path, unit: str) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    days = [datetime.datetime(2026, 1, 2), None, datetime.datetime(2026, 1, 3)]
    write(
        tmp_path / "labels.parquet",
        path=["a.jpg", "b.jpg", "c.jpg"],
        label=[1, 0, 1],
        day=pa.array(days, pa.timestamp(unit)),
        text=["at 00:00:00"] * 3,
    )
    frame = pd.read_parquet(tmp_path / "labels.parquet")
    frame.to_csv(tmp_path / "labels.csv", index=False)
    rows = listed(tmp_path)
    assert list(rows["attr_day"]) == ["2026-01-02", "", "2026-01-03"]
    assert rows.equals(read_layout(tmp_path, DataSettings(".", "csv")).rows)
