"""Tables as Parquet: the same rows as in a csv, typed, and checked when they are read."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffdi.errors import InputError
from ffdi.intake.table_files import columns, csv_file, parquet_file
from ffdi.intake.table_files.csv_lines import CsvLines
from ffdi.intake.table_files.names import found_table
from ffdi.intake.tables import join, read_folds, read_images, read_table, tables_digest, write_table

AWKWARD = ["a b", "a,b", 'a"b', "a\nb", "a\rb", "ä 人", "NA", "", " x ", "0012", "1e5"]


def images(count: int = 11) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"{i:064x}" for i in range(count)],
            "path": [f"{AWKWARD[i % 11]}/{i}.jpg" for i in range(count)],
            "label": [i % 2 for i in range(count)],
            "group": [AWKWARD[i % 11] for i in range(count)],
            "given_split": "",
            "width": 4000,
            "height": 3000,
            "format": "JPEG",
            "phash": [f"{i:032x}" for i in range(count)],
            "attr_year": ["2019"] * count,
        }
    )


def folds(count: int = 11) -> pd.DataFrame:
    fold = ["" if i % 3 == 0 else str(i % 3) for i in range(count)]
    role = ["train" if number else "test" for number in fold]
    ids = [f"{i:064x}" for i in range(count)]
    return pd.DataFrame({"image_id": ids, "group": ids, "cluster": ids, "role": role, "fold": fold})


@pytest.fixture
def three_rows_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (csv_file, parquet_file):
        monkeypatch.setattr(module, "BLOCK", 3)


@pytest.mark.parametrize(("read", "table"), [(read_images, images()), (read_folds, folds())])
def test_parquet_gives_what_the_csv_gives(
    read: Callable[[Path], pd.DataFrame], table: pd.DataFrame, tmp_path: Path, three_rows_a_block: None
) -> None:
    found = []
    for ending in ("csv", "parquet"):
        write_table(tmp_path / f"table.{ending}", table)
        found.append(read(tmp_path / f"table.{ending}"))
    pd.testing.assert_frame_equal(*found)
    assert set(found[1].dtypes.astype(str)) <= {"str", "object", "int64"}  # object with pandas 2
    write_table(tmp_path / "again.parquet", found[1])
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "table.parquet").read_bytes()


def test_columns_are_typed_and_row_groups_have_statistics(tmp_path: Path, three_rows_a_block: None) -> None:
    write_table(tmp_path / "i.parquet", images())
    write_table(tmp_path / "f.parquet", folds())
    schema, of_folds = pq.read_schema(tmp_path / "i.parquet"), pq.read_schema(tmp_path / "f.parquet")
    assert [str(schema.field(name).type) for name in ("image_id", "label", "width", "attr_year")] == [
        *("string", "int8", "int32", "string")
    ]
    assert str(of_folds.field("fold").type) == "int32" and of_folds.field("fold").nullable
    assert pq.read_table(tmp_path / "f.parquet")["fold"].to_pylist()[:4] == [None, 1, 2, None]
    written = pq.ParquetFile(tmp_path / "i.parquet").metadata
    assert written.num_row_groups == 4 and written.row_group(0).column(0).compression == "ZSTD"
    first = written.row_group(0).column(schema.get_field_index("image_id")).statistics
    assert (first.min, first.max, first.null_count) == (f"{0:064x}", f"{2:064x}", 0)


def test_scores_keep_every_bit(tmp_path: Path) -> None:
    scores = pd.DataFrame(
        {"image_id": ["a", "b"], "label": [1, 0], "score": [0.1 + 0.2, 5e-324], "fold_0": [1.0, np.nan]}
    )
    write_table(tmp_path / "s.parquet", scores)
    back = read_table(tmp_path / "s.parquet", ("image_id", "score"))
    assert back["score"].tolist() == scores["score"].tolist() and back["label"].tolist() == [1, 0]
    assert back["fold_0"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("label", ["1", "0"], "column 'label' is string, and has to be int8"),
        ("label", [1.0, 0.0], "column 'label' is double, and has to be int8"),
        ("label", [1, None], "row 2: no label"),
        ("image_id", [1, 2], "column 'image_id' is int64, and has to be string"),
        ("image_id", ["a", "a"], "row 2: image_id 'a' stands there twice"),
        ("phash", ["00", "0"], "row 2: phash '0' has lost digits"),
    ],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, column: str, values: list[Any], says: str) -> None:
    table = {name: pa.array(images(2)[name].tolist()) for name in images(2)} | {column: pa.array(values)}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=re.escape(f"t.parquet: {says}")):
        read_images(tmp_path / "t.parquet")


def test_other_writers_of_parquet_are_read(tmp_path: Path) -> None:
    images(4).astype({"group": "category", "label": "int16"}).to_parquet(tmp_path / "pandas.parquet")
    write_table(tmp_path / "t.csv", images(4))
    pd.testing.assert_frame_equal(read_images(tmp_path / "pandas.parquet"), read_images(tmp_path / "t.csv"))
    images(4).iloc[[3, 1]].to_parquet(tmp_path / "index.parquet")
    found = read_images(tmp_path / "index.parquet")
    assert found["label"].tolist() == [1, 1] and found.index.tolist() == [0, 1]
    numbers = pa.table({name: pa.array(images(4)[name].tolist()) for name in images()})
    coded = numbers.set_column(2, "label", numbers["label"].dictionary_encode())
    pq.write_table(coded, tmp_path / "coded.parquet")
    pd.testing.assert_frame_equal(read_images(tmp_path / "coded.parquet"), read_images(tmp_path / "t.csv"))


def test_columns_that_nobody_asks_for_may_hold_anything(tmp_path: Path) -> None:
    table = pa.table(
        {"path": ["a", "b"], "label": ["fake", None], "width": [1, None], "image": [{"bytes": b"x"}, None]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", ("path",))["label"].tolist() == ["fake", ""]
    assert list(read_table(tmp_path / "t.parquet", ("path",), others=False)) == ["path"]
    with pytest.raises(InputError, match="column 'label' is string, and has to be int8"):
        read_table(tmp_path / "t.parquet", ("path", "label"))


@pytest.mark.parametrize(
    ("content", "says"), [(b"PAR1 not", "not a readable table"), (b"", "not a readable table"), (None, "no such file")]
)
def test_a_file_that_is_no_parquet(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.parquet: {says}") as caught:
        read_folds(tmp_path / "t.parquet")
    assert "\n" not in str(caught.value)


def test_a_table_cut_short_is_no_table(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", images())
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable table"):
        read_images(tmp_path / "t.parquet")


def test_the_table_that_is_there_is_found_and_two_are_refused(tmp_path: Path) -> None:
    assert found_table(tmp_path / "images") == tmp_path / "images.csv"
    write_table(tmp_path / "images.parquet", images())
    assert found_table(tmp_path / "images") == tmp_path / "images.parquet"
    write_table(tmp_path / "folds.parquet", folds())
    digest = tables_digest(tmp_path / "images.parquet", tmp_path / "folds.parquet")
    assert re.fullmatch(r"\w{64}  images.parquet\n\w{64}  folds.parquet\n", digest)
    write_table(tmp_path / "images.csv", images())
    with pytest.raises(InputError, match=r"images\.csv and images\.parquet: both are there"):
        found_table(tmp_path / "images")


def test_the_csv_has_the_bytes_of_the_csv_module(tmp_path: Path, three_rows_a_block: None) -> None:
    """What is joined column by column is what csv.writer makes of each row."""
    numbers = [0.1, -0.0, 1e300, 1.0, float("nan"), float("inf"), 1e-7, 123456789.0, 2.5, 1e16, 0.3]
    table = images().assign(score=numbers, mixed=[*AWKWARD[:9], 3, None], flag=True)
    plain = table.drop(columns=["mixed", "flag"])
    short = plain.astype({"score": "float32"})
    for part in (
        table,
        plain,
        short,
        table[["path", "label"]],
        table[["path"]],
        table.iloc[:0],
        table.drop(columns="mixed"),
    ):
        write_table(tmp_path / "t.csv", part)
        with open(tmp_path / "plain.csv", "w", encoding="utf-8", newline="") as text:
            lines: Any = CsvLines(text)
            part.to_csv(lines, index=False, lineterminator=CsvLines.END, quoting=csv.QUOTE_MINIMAL)
        assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n\n3,4\n",
        "a,b\n 1 ,\n,x\n",
        "a,b\n1,2",
        "a,a\n1,2\n",
        "a,\n1,2\n",
        "a,b\n1\n2,3\n",
    ],
)
def test_both_readers_of_csv_agree(tmp_path: Path, text: str) -> None:
    """Arrow's reader is taken where it gives what pandas gives: without blank lines, with ragged rows, names that repeat."""
    (tmp_path / "t.csv").write_text(text)
    fast = csv_file.read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(fast, pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False))


def test_rows_that_are_all_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\n1,2,3\n4,5,6\n")
    with pytest.raises(InputError, match=r"t\.csv: not a readable table: rows have more fields than the header"):
        read_table(tmp_path / "t.csv", ("path",))


def test_what_is_sorted_is_not_searched_for_twins() -> None:
    column = pd.Series(["a", "b", "b", "c", "a"])
    assert columns.repeated(column).tolist() == [False, False, True, False, True]
    assert not columns.repeated(pd.Series(["a", "b", "c"])).any()
    pieces = pd.concat([pd.Series(["a", "b"]), pd.Series(["c", "d"]), pd.Series(["d"])], ignore_index=True)
    assert columns.repeated(pieces).tolist() == [False] * 4 + [True] and not columns.repeated(pieces[:4]).any()
    assert columns.equal_texts(pieces, pd.Series(list("abcdd"))) and not columns.equal_texts(pieces, pieces[::-1])
    assert columns.equal_texts(pd.Series([], dtype=str), pd.Series([], dtype=str))


def test_rows_in_one_order_are_joined_as_rows_in_another(tmp_path: Path) -> None:
    write_table(tmp_path / "i.csv", images())
    write_table(tmp_path / "f.csv", folds())
    of_images, of_folds = read_images(tmp_path / "i.csv"), read_folds(tmp_path / "f.csv")
    pd.testing.assert_frame_equal(join(of_images, of_folds), join(of_images, of_folds.iloc[::-1]))
    with pytest.raises(InputError, match="differ in 1 images"):
        join(of_images, of_folds.iloc[1:])
