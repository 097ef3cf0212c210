"""Label tables as spreadsheets write them: read where the meaning is certain, and said; otherwise one true line."""

import io
import zipfile
from pathlib import Path
from unicodedata import normalize

import pytest
from layout_cases import read, table, touch

from ffdi.deploy.inputs import find_inputs
from ffdi.errors import InputError
from ffdi.evaluation.submission import read_image_list
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import Columns, DataSettings

ROWS = [["a.jpg", 1, "anna"], ["in/b.jpg", 0, "bo, cy"]]
PLAIN = 'path,label,group\na.jpg,1,anna\nin/b.jpg,0,"bo, cy"\n'
SEMICOLONS = "path;label;group\r\na.jpg;1;anna\r\nin/b.jpg;0;bo, cy\r\n"
TABS = "path\tlabel\tgroup\r\na.jpg\t1\tanna\r\nin/b.jpg\t0\tbo, cy\r\n"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (PLAIN.encode(), ""),
        (PLAIN.encode("utf-8-sig"), ""),
        (PLAIN.replace("\n", "\r").encode(), ""),  # an old Mac's
        (SEMICOLONS.encode(), "semicolons between columns"),
        (TABS.encode(), "tabs between columns"),
        (TABS.encode("utf-16"), "UTF-16, tabs between columns"),  # Excel's Unicode text
        (b"\xfe\xff" + TABS.encode("utf-16-be"), "UTF-16, tabs between columns"),
        (TABS.encode("utf-16-le"), "UTF-16 without a mark, tabs between columns"),
        (SEMICOLONS.encode("utf-32"), "UTF-32, semicolons between columns"),
        (b"sep=;\r\n" + SEMICOLONS.encode(), "a first line sep=, semicolons between columns"),
        (b"\xef\xbb\xbfsep=,\n" + PLAIN.encode(), "a first line sep="),
        (b"SEP=|\n" + SEMICOLONS.replace(";", "|").encode(), "a first line sep=, vertical bars between columns"),
        (b"sep=\t\r" + TABS.replace("\r\n", "\r").encode(), "a first line sep=, tabs between columns"),
        (b"# made by hand\n\n# twice\n" + PLAIN.encode(), "2 lines of comment above the header"),
        (b"# " + PLAIN.encode(), ""),  # the header itself
        (PLAIN.encode() + b"# the end\n", "without 1 line of comment"),
        (PLAIN.replace("path", "\u200bpath\xa0").replace(",group", ", \ufeffgroup ").encode(), ""),
        (PLAIN.replace("group\n", "group,,\n").replace("anna\n", "anna,,\n").replace('cy"\n', 'cy", ,\n').encode(), ""),
        (PLAIN.replace("anna\n", "anna,,\n,,,,\n").encode(), ""),
        (PLAIN.replace(",1,", ",1.0,").replace(",0,", ", 0\xa0,").encode(), ""),
        (SEMICOLONS.replace(";1;", ";1,00;").replace(";0;", ";0,;").encode(), "semicolons between columns"),
    ],
)
def test_a_table_of_a_spreadsheet_is_read_and_what_is_not_plain_is_said(tmp_path: Path, data: bytes, told: str) -> None:
    listing = read_layout(table(tmp_path, data), DataSettings(".", "csv"))
    assert listing.rows[["path", "label", "group"]].values.tolist() == ROWS
    assert [column for column in listing.rows if column.startswith("attr_")] == []
    assert listing.messages == [f"{tmp_path}/labels.csv: read with {told}"] * bool(told)


@pytest.mark.parametrize(
    ("words", "header", "labels"),
    [
        ("TRUE FALSE", "is_fake", [1, 0]),
        ("WAHR FALSCH", "is_real", [0, 1]),
        ("VRAI FAUX", "Fake", [1, 0]),
        ("ja nein", "is_manipulated", [1, 0]),
    ],
)
def test_truth_values_mean_what_the_header_asks(tmp_path: Path, words: str, header: str, labels: list[int]) -> None:
    yes, no = words.split()
    found, _ = read(table(tmp_path, f"path;{header}\na.jpg;{yes}\nb.jpg;{no}\n"), "csv", columns=Columns(label=header))
    assert list(found["label"]) == labels
    with pytest.raises(InputError, match=rf"row 2: label '{yes}' is neither .* add `classes: .*{no}'?: 0 or 1"):
        read(table(tmp_path, f"path;label\na.jpg;{yes}\nb.jpg;{no}\n"), "csv")


def test_given_classes_hold_for_a_number_however_it_is_written(tmp_path: Path) -> None:
    found, _ = read(
        table(tmp_path, "path,label\na.jpg,1.0\nb.jpg,0\nc.jpg,2\n"), "csv", classes={"1": 0, "0": 1, "2": 1}
    )
    assert list(found["label"]) == [0, 1, 1]


def book(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "x")
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (book("xl/workbook.xml"), r"is an Excel workbook \(\.xlsx\) and no csv"),
        (book("data.csv"), "is a zip archive and no csv"),
        (book("mimetypeapplication/vnd.oasis.opendocument.spreadsheet"), r"is a spreadsheet \(\.ods\)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"is an Excel workbook \(\.xls\)"),
        (b"\n<!DOCTYPE html><html>", "is a web page or XML"),
        (b"\xef\xbb\xbf<table><tr>", "is a web page or XML"),
        (b"\x1f\x8b\x08\0", "is compressed by gzip"),
        (b"PAR1", "is a Parquet file: let its name end in .parquet"),
        (b"path,label\na.jpg,1\nb.jpg,1\0\n", "row 3: a NUL byte"),
        (b"path,label\n" + b"a.jpg,1\n" * 50_000 + b"b.jpg,1\0\n", "row 50002: a NUL byte"),
        (b"sep=;\npath,label\na.jpg,1\n", "no column 'path'; the header is 'path,label'"),
        (b"#hi\npath;label\na.jpg;1;x\n", "row 3: 3 fields, the header has 2"),
        (b"sep=;\n#hi\npath;label\n\na.jpg;2\n", "row 5: label '2'"),
        (b"path,label,,\na.jpg,1,,\nb.jpg,0,x,y\n", "several columns have values and no name"),
        (b"\xff\xfepath,label\n", "not UTF-16, as its first bytes say|no column 'path'"),
        (b"path,label,path \na.jpg,1,a\n", "stands twice in the header"),
        (b"path;label\na.jpg;0,5\n", "row 2: label '0,5' is neither"),
        ("path,label,group\na.jpg,1,J\xf6rg\n".encode("latin-1"), "row 2: not UTF-8: save it as CSV in UTF-8"),
        ("path,label\nJ\xf6rg.jpg,1\n".encode("latin-1"), "row 2: not UTF-8: save it as CSV in UTF-8"),
    ],
)
def test_what_is_not_certain_is_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read(table(tmp_path, data), "csv")
    assert str(tmp_path / "labels.csv") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("page", "name"),
    [("cp1252", "in/J\xf6rg\u2019s.jpg"), ("cp1251", "\u0430\u043d\u043d\u0430.jpg"), ("cp932", "\u9854.jpg")],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_encoding_is_certain_where_the_names_are_on_disk(tmp_path: Path, page: str, name: str, form: str) -> None:
    touch(tmp_path, on_disk := normalize(form, name))
    listing = read_layout(table(tmp_path, f"path,label\na.jpg,0\n{name},1\n".encode(page)), DataSettings(".", "csv"))
    assert list(listing.rows["path"]) == ["a.jpg", on_disk]
    assert listing.messages[0].endswith("in which its names are those on disk")


def test_ids_that_a_spreadsheet_spoilt_are_told(tmp_path: Path) -> None:
    rows = "a.jpg,1,1.23E+11,1E5\nb.jpg,0,03. Apr,2024-01-02\nc.jpg,0,1E+05,x\nd.jpg,1,anna,y\n"
    listing = read_layout(table(tmp_path, f"path,label,group,note\n{rows}"), DataSettings(".", "csv"))
    (said,) = listing.messages
    assert "3 cells of group look like what a spreadsheet makes of an id, such as '1.23E+11' in row 2" in said


def test_lists_and_tables_of_commands(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    table(tmp_path, "img_name\ttarget\na.jpg\t1\nb.jpg\t0\n".encode("utf-16"), "list.csv")
    listed = read_image_list(tmp_path / "list.csv", tmp_path)
    assert list(listed.names) == ["a.jpg", "b.jpg"] and list(listed.labels) == [1, 0]
    assert listed.lines() == [f"{tmp_path}/list.csv: read with UTF-16, tabs between columns"]
    table(tmp_path, b"sep=;\npath;note\na.jpg;1,5\n", "some.csv")
    inputs = find_inputs([str(tmp_path / "some.csv")], io.BytesIO())
    assert inputs.files == [tmp_path / "a.jpg"] and "a first line sep=, semicolons" in inputs.passed_over[0]
