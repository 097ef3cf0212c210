"""Layout openfake: rows worked by hand, and the Parquet files that hold the images themselves."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layout_cases import raw, records, table, touch

from ffdi.errors import InputError

TRAIN = (
    "file_name,prompt,label,model,type,release_date\n"
    'a.jpg,"a fake smile, real joy",real,pexels,real,\n'
    'b.jpg,"a fake smile, real joy",fake,flux.1-dev,base model,2024-08-01\n'
    "c.jpg,,fake,sdxl,base model,2023-07-26\n"
)
TEST = "file_name,label,model,release_date\nd.jpg,Real,docci,\n"


def test_tables_beside_the_images_or_above_them(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "train/b.jpg", "train/c.jpg", "d.jpg", "e.jpg")
    table(tmp_path / "train", TRAIN, "metadata.csv")
    table(tmp_path, TEST, "test_metadata.csv")
    listing = raw(tmp_path, "openfake")
    names = ("label", "given_split", "attr_model", "attr_type", "attr_release_date")
    found = {row["path"]: tuple(row[name] for name in names) for row in records(listing.rows)}
    assert found == {
        "train/a.jpg": (0, "train", "pexels", "real", ""),
        "train/b.jpg": (1, "train", "flux.1-dev", "base model", "2024-08-01"),
        "train/c.jpg": (1, "train", "sdxl", "base model", "2023-07-26"),
        "d.jpg": (0, "test", "docci", "", ""),
    }
    groups = dict(zip(listing.rows["path"], listing.rows["group"], strict=True))
    assert groups["train/a.jpg"] == groups["train/b.jpg"] != "" and groups["train/c.jpg"] == groups["d.jpg"] == ""
    assert ("e.jpg", "not of layout openfake") in listing.skipped
    assert raw(tmp_path, "auto").messages[0].startswith("layout openfake: test_metadata.csv, train/metadata.csv")


def test_a_parquet_of_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    columns = {
        "path": ["a.jpg", "b.jpg"],
        "label": ["real", "fake"],
        "model": ["laion", "sdxl"],
        "release_date": [None, "2023"],
    }
    pq.write_table(pa.table(columns | {"split": ["train", "validation"]}), tmp_path / "openfake.parquet")
    rows = raw(tmp_path, "openfake").rows
    assert list(rows["label"]) == [0, 1] and list(rows["given_split"]) == ["train", "test"]  # no split is called test
    assert list(rows["attr_release_date"]) == ["", "2023"]


def test_images_inside_a_parquet_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    image = pa.array([{"bytes": b"x", "path": "a.jpg"}])
    columns = {"image": image, "prompt": ["p"], "label": ["fake"], "model": ["m"], "release_date": ["2024"]}
    pq.write_table(pa.table(columns), tmp_path / "core/train-00000-of-00001.parquet")
    for layout in ("openfake", "auto"):
        with pytest.raises(
            InputError, match=r"column 'image' holds the images themselves .*: write each to a file below"
        ):
            raw(tmp_path, layout)


def test_a_label_that_is_neither(tmp_path: Path) -> None:
    touch(tmp_path, "d.jpg")
    table(tmp_path, TEST.replace("Real", "1"), "t.csv")
    with pytest.raises(InputError, match=r"t\.csv: row 2: label '1' and split '': real or fake, and train"):
        raw(tmp_path, "openfake")
    table(tmp_path, "path,label\nd.jpg,real\n", "t.csv")
    with pytest.raises(InputError, match="no table with a path, label, model and release_date or prompt"):
        raw(tmp_path, "openfake")
