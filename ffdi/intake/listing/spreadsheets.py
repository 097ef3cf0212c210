"""What spreadsheets make of names that look like numbers or dates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ffdi.intake.listing.label_files import LabelFile

_MOST_ROWS = 1_048_576  # of a sheet: a longer table was in none, and is not searched
_LONGEST = 16  # more than what comes of an id
_MONTH = "(jan|feb|mar|mrz|m\u00e4r|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*"
_SPOILT = re.compile(
    rf"\d([.,]\d+)?E[+-]\d\d+|\d\d?[-. ]+{_MONTH}|{_MONTH}[-. ]+\d\d(\d\d)?|#+|#(NAME\?|REF!|VALUE!|N/A|DIV/0!)",
    re.IGNORECASE,
)


def spoilt_cells(table: LabelFile, names: Sequence[str]) -> Iterator[str]:
    """A line for each of these columns whose cells look like what a spreadsheet made of an id: 1.23E+11, 3-Apr, ###."""
    for name in names if len(table.lines) < _MOST_ROWS else ():
        spoilt = {v for v in set(table.columns[name]) if len(v) < _LONGEST and _SPOILT.fullmatch(v)}
        if spoilt:
            rows = [row for row, value in enumerate(table.columns[name]) if value in spoilt]
            such = f"{table.columns[name][rows[0]]!r} in row {table.lines[rows[0]]}"
            yield (
                f"{table.file}: {len(rows)} cells of {name} look like what a spreadsheet makes of an id, such as {such}: "
                "two ids may have become one: write the table anew, with that column as text"
            )
