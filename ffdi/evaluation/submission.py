"""A submission: the score of every image of a list, in its order, and the AUC against the list's labels if it has any."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.console import Console
from ffdi.errors import FfdiError, InputError
from ffdi.files import replacing
from ffdi.intake.ingest import DISK_FAULT, WRONG_NAMES
from ffdi.intake.listing.label_files import read_list
from ffdi.intake.listing.names import Names, find_files
from ffdi.intake.table_files.csv_file import csv_rows
from ffdi.intake.table_files.csv_lines import CsvLines
from ffdi.intake.table_files.names import is_parquet
from ffdi.intake.table_files.parquet_file import parquet_rows, write_rows
from ffdi.metrics import Metrics, auc

_HEADER = ("img_name", "y_pred")


@dataclass(frozen=True)
class ImageList:
    """A list of images: the name that each row gives and the file that it means.

    `label_column` and `labels` are the list's true labels, empty when it has none. `names_on_disk` knows the files of
    `root` when some names are spelt differently there.
    """

    file: Path
    root: Path
    names: Sequence[str]
    files: Sequence[Path]
    label_column: str
    labels: Sequence[int]
    names_on_disk: Names | None
    told: Sequence[str] = ()

    def lines(self) -> list[str]:
        """What is unlike a plain csv, and each kind of difference between the listed names and those on disk."""
        return [*self.told, *(self.names_on_disk.messages() if self.names_on_disk else ())]

    def closest_name(self, file: Path) -> str | None:
        """The name on disk that is most like that of a missing file."""
        if self.names_on_disk is None or os.path.lexists(file):
            return None
        return self.names_on_disk.closest(os.path.relpath(file, self.root))


@dataclass(frozen=True)
class Submission:
    """What was written. `unreadable` has a line for each image that could not be read.

    `metrics` has the AUC with its interval against the list's labels; it is empty when there are none to compare with.
    """

    unreadable: Sequence[str]
    metrics: Metrics


def read_image_list(file: Path, root: Path) -> ImageList:
    """Read a list whose names start from `root`, see read_list; raises as it does."""
    told: list[str] = []
    listed, known = read_list(file, root, told.append)
    files, names_on_disk = find_files(root, [path for _, path in listed])
    column, labels = known or ("", [])
    return ImageList(file, root, [name for name, _ in listed], files, column, labels, names_on_disk, told)


def write_submission(
    out: Path,
    listed: ImageList,
    scores: Iterable[tuple[Path, float | str]],
    *,
    prior: float,
    max_rejected: float,
    console: Console = Console(),
) -> Submission:
    """Write img_name,y_pred for every row of `listed`, as Parquet where the name of `out` ends so. `scores` yields (file, P(fake) or the reason why it is unreadable).

    An unreadable image gets `prior`. Raises InputError, and leaves no file, when more than the share `max_rejected` or
    all images are unreadable.
    """
    unreadable, readable = _UnreadableImages(listed, max_rejected), list[float | None]()

    def rows() -> Iterator[tuple[str, float]]:
        for (file, score), name in zip(console.progress(scores, len(listed.names)), listed.names):
            unreadable.check(file, score)
            readable.append(None if isinstance(score, str) else score)
            yield name, prior if isinstance(score, str) else score

    with replacing(out) as temporary:  # opened first: a folder that cannot be written to is reported before any scoring
        written = _write_parquet(temporary, rows()) if is_parquet(out) else _write_csv(temporary, rows())
        if written != len(listed.names):
            raise FfdiError(f"{out}: {written} rows were written, {listed.file} lists {len(listed.names)}")
    return Submission(unreadable.lines, _against_labels(listed, readable) if listed.labels else {})


def _write_csv(file: Path, rows: Iterable[tuple[str, float]]) -> int:
    """Write img_name,y_pred; the number of rows that are there when they are read back."""
    with open(file, "w", encoding="utf-8", newline="") as text:
        table = csv.writer(CsvLines(text), lineterminator=CsvLines.END)
        table.writerow(_HEADER)
        table.writerows(rows)
    return csv_rows(file)


def _write_parquet(file: Path, rows: Iterable[tuple[str, float]]) -> int:
    """The same as Parquet."""
    schema = pa.schema(list(zip(_HEADER, (pa.string(), pa.float64()), strict=True)))
    with open(file, "wb") as out:
        write_rows(out, schema, (dict(zip(_HEADER, row, strict=True)) for row in rows))
    return parquet_rows(file)


@dataclass
class _UnreadableImages:
    """The unreadable images so far: a line each, and those that came one after the other."""

    listed: ImageList
    max_rejected: float
    lines: list[str] = field(default_factory=list)
    in_a_row: list[Path] = field(default_factory=list)

    def check(self, file: Path, score: float | str) -> None:
        """Take note of an image. Raises InputError when too many are unreadable, in all or in a row."""
        if not isinstance(score, str):
            self.in_a_row.clear()
            return
        self.in_a_row.append(file)
        closest = f"; the closest name is {name!r}" if (name := self.listed.closest_name(file)) else ""
        self.lines.append(f"{str(file)!r}: {score}{closest}")
        if len(self.in_a_row) == DISK_FAULT:
            on_disk = any(map(os.path.lexists, self.in_a_row))
            rule = f"check {'the disk' if on_disk else f'the list, for {WRONG_NAMES},'} and --root"
            raise InputError(f"{DISK_FAULT} unreadable images in a row, the last {self.lines[-1]}: {rule}")
        total = len(self.listed.names)
        if len(self.lines) > self.max_rejected * total or len(self.lines) == total:
            raise InputError(
                f"{len(self.lines)} of {total} images cannot be read, and perhaps more: nothing is written above "
                f"--max-rejected {self.max_rejected:g}, nor where all are; the first is {self.lines[0]}"
            )


def _against_labels(listed: ImageList, scores: Sequence[float | None]) -> Metrics:
    """The AUC of what could be scored, each image a group of its own; empty when only one class was scored."""
    pairs = [(label, score) for label, score in zip(listed.labels, scores, strict=True) if score is not None]
    labels, known = (np.array(values) for values in zip(*pairs, strict=True))
    if len(np.unique(labels)) < 2:
        return {}
    low, high = auc_interval(labels, known, np.arange(len(labels)), bootstrap=Bootstrap(1000))
    return {"auc": auc(labels, known), "auc_low": low, "auc_high": high, "tested_on": listed.file.name}
