"""A submission: the score of every image of a list, or of every unit of its images, such as a video, in its order; and the
AUC against the list's labels if it has any."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ffdi.bootstrap import Array, Bootstrap, auc_interval
from ffdi.console import Console
from ffdi.errors import FfdiError, InputError
from ffdi.evaluation.settings import UnitRule
from ffdi.evaluation.units import aggregated, numbered
from ffdi.files import replacing
from ffdi.intake.ingest import DISK_FAULT, WRONG_NAMES
from ffdi.intake.listing.label_files import read_label_file, read_list
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
    `root` when some names are spelt differently there. With a `unit`, `units` has its cell of each row.
    """

    file: Path
    root: Path
    names: Sequence[str]
    files: Sequence[Path]
    label_column: str
    labels: Sequence[int]
    names_on_disk: Names | None
    told: Sequence[str] = ()
    unit: UnitRule | None = None
    units: Sequence[str] = ()

    @property
    def numbered(self) -> tuple[npt.NDArray[np.int64], list[str]]:
        """((N,) the number of the unit of each row, the units' names): in the order in which they come first; of a row
        without one, the image's name."""
        if self.unit is None:
            return np.arange(len(self.names)), list(self.names)
        numbers, names = numbered(self.units, self.names)
        _, first, place = np.unique(numbers, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return rank[place], [names[number] for number in order]

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
    """What was written: so many `rows`, `guessed` of them the prior. `unreadable` has a line for each image that could not be
    read.

    `metrics` has the AUC with its interval against the list's labels; it is empty when there are none to compare with.
    """

    unreadable: Sequence[str]
    rows: int
    guessed: int
    metrics: Metrics


def read_image_list(file: Path, root: Path, unit: UnitRule | None = None) -> ImageList:
    """Read a list whose names start from `root`, see read_list; raises as it does, and where it has no column of `unit`."""
    told: list[str] = []
    listed, known = read_list(file, root, told.append)
    units = read_label_file(file, ("img_name", unit.attribute)).columns[unit.attribute] if unit else ()
    files, names_on_disk = find_files(root, [path for _, path in listed])
    column, labels = known or ("", [])
    return ImageList(file, root, [name for name, _ in listed], files, column, labels, names_on_disk, told, unit, units)


def write_submission(
    out: Path,
    listed: ImageList,
    scores: Iterable[tuple[Path, float | str]],
    *,
    prior: float,
    max_rejected: float,
    console: Console = Console(),
) -> Submission:
    """Write img_name,y_pred for every row of `listed`, or UNIT,y_pred for every unit of its images, as Parquet where the name
    of `out` ends so. `scores` yields (file, P(fake) or the reason why it is unreadable).

    An unreadable image gets `prior`; a unit is scored by its readable images, and gets `prior` where it has none. Raises InputError, and leaves no file, when more than the share `max_rejected` or
    all images are unreadable.
    """
    unreadable, readable = _UnreadableImages(listed, max_rejected), list[float]()  # NaN for an unreadable one
    header = (listed.unit.attribute if listed.unit else _HEADER[0], _HEADER[1])
    of_image, names = listed.numbered

    def rows_of_images() -> Iterator[tuple[str, float]]:
        for (file, score), name in zip(console.progress(scores, len(listed.names)), listed.names):
            unreadable.check(file, score)
            readable.append(np.nan if isinstance(score, str) else score)
            yield name, prior if isinstance(score, str) else score

    def rows() -> Iterator[tuple[str, float]]:
        if listed.unit is None:
            yield from rows_of_images()
        else:
            deque(rows_of_images(), maxlen=0)
            yield from zip(names, np.nan_to_num(_of_units(readable, of_image, listed.unit), nan=prior).tolist())

    with replacing(out) as temporary:  # opened first: a folder that cannot be written to is reported before any scoring
        write = _write_parquet if is_parquet(out) else _write_csv
        written = write(temporary, header, rows())
        if written != len(names):
            raise FfdiError(f"{out}: {written} rows were written, {listed.file} lists {len(names)}")
    joined = _of_units(readable, of_image, listed.unit)
    metrics = _against_labels(listed, of_image, joined) if listed.labels else {}
    return Submission(unreadable.lines, len(names), int(np.isnan(joined).sum()), metrics)


def _of_units(scores: Sequence[float], of_image: npt.NDArray[np.int64], unit: UnitRule | None) -> Array:
    """(U,) the score of each unit, of those of its images that are known; NaN where none is."""
    of_images = np.array(scores, np.float64)
    if unit is None:
        return of_images
    out = np.full(int(of_image.max()) + 1, np.nan)
    known = np.flatnonzero(~np.isnan(of_images))
    if len(known):
        some, place = np.unique(of_image[known], return_inverse=True)
        out[some] = aggregated(place, of_images[known], unit.score)
    return out


def _write_csv(file: Path, header: tuple[str, str], rows: Iterable[tuple[str, float]]) -> int:
    """Write the rows; the number of rows that are there when they are read back."""
    with open(file, "w", encoding="utf-8", newline="") as text:
        table = csv.writer(CsvLines(text), lineterminator=CsvLines.END)
        table.writerow(header)
        table.writerows(rows)
    return csv_rows(file)


def _write_parquet(file: Path, header: tuple[str, str], rows: Iterable[tuple[str, float]]) -> int:
    """The same as Parquet."""
    schema = pa.schema(list(zip(header, (pa.string(), pa.float64()), strict=True)))
    with open(file, "wb") as out:
        write_rows(out, schema, (dict(zip(header, row, strict=True)) for row in rows))
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


def _against_labels(listed: ImageList, of_image: npt.NDArray[np.int64], scores: Array) -> Metrics:
    """The AUC of what could be scored, each image or unit (U,) a group of its own; empty when only one class was scored.

    A unit is fake where one of its images is.
    """
    fake = np.zeros(len(scores), np.int64)
    np.maximum.at(fake, of_image, np.array(listed.labels, np.int64))
    labels, known = fake[~np.isnan(scores)], scores[~np.isnan(scores)]
    if len(np.unique(labels)) < 2:
        return {}
    low, high = auc_interval(labels, known, np.arange(len(labels)), bootstrap=Bootstrap(1000))
    return {"auc": auc(labels, known), "auc_low": low, "auc_high": high, "tested_on": listed.file.name}
