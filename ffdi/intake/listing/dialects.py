"""How a table of text is written: its encoding and delimiter, and the lines before its header. Spreadsheets differ in these."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffdi.errors import InputError
from ffdi.intake.decoding.formats import SUFFIXES

# In which programs save text that is no UTF-8: of Western, Central European, Cyrillic, Mac, Japanese, Chinese, Korean systems
CODE_PAGES = ("cp1252", "cp1250", "cp1251", "mac_roman", "cp932", "gb18030", "big5", "cp949")
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_TRIED = (",", ";", "\t")  # without a line sep=
_HEAD = 1 << 16  # bytes that are looked at
_BLOCK = 1 << 18
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's own mark
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")  # characters without a width

AS_CSV = "save it as CSV in UTF-8"
_NO_TEXT = {  # first bytes -> what the file is
    b"PK\x03\x04": "a zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls)",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ\0": "compressed by xz",
    b"%PDF-": "a PDF",
    b"{\\rtf": "a text document (RTF)",
    b"SQLite format 3\0": "an SQLite database",
}
_IN_ZIP = {b"xl/": "an Excel workbook (.xlsx)", b"opendocument.spreadsheet": "a spreadsheet (.ods)"}
_IN_ZIP |= {b"Index/": "a Numbers spreadsheet"}
_MARKUP = re.compile(rb"\s*<(!doctype html|html|table|\?xml|head|meta)", re.IGNORECASE)
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Dialect:
    """How to read a table: `encoding` and `delimiter`, and the number of lines before the header that are no rows.

    `told` says what of it is unlike a plain csv: UTF-8, commas, the header first.
    """

    encoding: str = "utf-8-sig"
    delimiter: str = ","
    start: int = 0
    told: tuple[str, ...] = ()


def find_dialect(file: Path, required: Sequence[str]) -> Dialect:
    """The dialect in which the header of `file` has the `required` columns; a plain csv where none has them.

    Without required columns, that in which it has most.
    Raises InputError for a file that is no text, whatever its name, and OSError.
    """
    with open(file, "rb") as data:
        head = data.read(_HEAD)
    _refuse_no_text(file, head)
    encoding, told = _encoding(head)
    if encoding == "utf-8-sig":
        _refuse_nul(file)
    lines = list(io.StringIO(head.decode(encoding, errors="replace"), newline=""))
    given = _SEP_LINE.fullmatch(lines[0].rstrip("\r\n")) if lines else None
    start = 1 if given else 0
    tried = (given[1],) if given else _TRIED
    told += ["a first line sep="] if given else []
    fitting: list[str] = []
    comments = 0
    while start < len(lines):
        headers = {d: _header_in(lines[start:], d, required) for d in tried}
        fitting = sorted(
            (d for d in tried if headers[d] and set(required) <= set(headers[d])), key=lambda d: -len(headers[d])
        )
        if fitting or (lines[start].strip() and not _is_comment(lines[start])):
            break
        comments += bool(lines[start].strip())
        start += 1
    delimiter = fitting[0] if fitting else tried[0]
    told += [f"{_DELIMITERS.get(delimiter, repr(delimiter))} between columns"] if delimiter != "," else []
    told += [f"{comments} line{'s' * (comments != 1)} of comment above the header"] if comments else []
    return Dialect(encoding, delimiter, start, tuple(told))


def header_names(fields: Sequence[str], required: Sequence[str]) -> list[str]:
    """The names in a header: without spaces around them, characters that nobody sees, and a # before the first one."""
    names = [visible(name) for name in fields]
    if names and names[0] not in required and names[0].lstrip("# ") in required:
        names[0] = names[0].lstrip("# ")
    return names


def visible(text: str) -> str:
    """A name or value as one sees it: composed, with plain spaces, none of them around it, and nothing without a width."""
    if text.isascii():
        return text.strip()
    spaced = "".join(" " if char.isspace() else char for char in _UNSEEN.sub("", text))
    return unicodedata.normalize("NFC", spaced.strip())


def _header_in(lines: Sequence[str], delimiter: str, required: Sequence[str]) -> list[str]:
    try:
        return header_names(next(csv.reader(lines, delimiter=delimiter), []), required)
    except (csv.Error, TypeError):  # a delimiter that cannot be one
        return []


def _is_comment(line: str) -> bool:
    return line.startswith("#") and not line.strip().lower().endswith(SUFFIXES)


def _encoding(head: bytes) -> tuple[str, list[str]]:
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding, [encoding.upper()]
    even, odd = head[0:200:2], head[1:200:2]  # of English text in UTF-16, every other byte is 0
    for encoding, text, zeros in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        if len(zeros) > 3 and not any(zeros) and all(text):
            return encoding, ["UTF-16 without a mark"]
    return "utf-8-sig", []


def _refuse_no_text(file: Path, head: bytes) -> None:
    what = next((what for magic, what in _NO_TEXT.items() if head.startswith(magic)), None)
    if head.startswith(b"PK\x03\x04"):
        what = next((inside for mark, inside in _IN_ZIP.items() if mark in head), what)
    if _MARKUP.match(head.removeprefix(codecs.BOM_UTF8)):
        what = "a web page or XML"
    if head.startswith(b"PAR1"):
        raise InputError(f"{file}: is a Parquet file: let its name end in .parquet")
    if what:
        raise InputError(f"{file}: is {what} and no csv, whatever its name: open it in its program and {AS_CSV}")


def _refuse_nul(file: Path) -> None:
    """No program writes a NUL into a table: the file is damaged. Python's csv module reads it without a word."""
    start = 0
    with open(file, "rb", buffering=0) as data:  # small blocks stay in the processor's cache
        while block := data.read(_BLOCK):
            if (at := block.find(b"\0")) >= 0:
                row = len((file.read_bytes()[: start + at] + b"x").splitlines())
                raise InputError(f"{file}: row {row}: a NUL byte: the file is damaged or no text: {AS_CSV}")
            start += len(block)
