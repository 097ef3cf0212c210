"""Lines of a csv as every program of the project ends them. Loads no pandas."""

from __future__ import annotations

from typing import TextIO


class CsvLines:
    """A text file for csv.writer(..., lineterminator=CsvLines.END): lines end in LF, and a carriage return is quoted.

    Before Python 3.13 the csv module quotes only the characters of its own line end, so a lone carriage return needs
    this line end.
    """

    END = "\r\n"

    def __init__(self, text: TextIO) -> None:
        self.text = text

    def write(self, line: str) -> int:
        return self.text.write(line.removesuffix(self.END) + "\n")
