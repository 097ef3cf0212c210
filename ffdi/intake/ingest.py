"""Listed rows -> images.csv: every file decoded once, identified by its bytes, hashed, or rejected with a reason."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.decoding.images import (
    UnreadableImage,
    is_two_tone,
    open_header,
    open_image,
    perceptual_hash,
    read_bytes,
)
from ffdi.intake.duplicates import join_groups
from ffdi.intake.groups import join_names, single_names, split_names
from ffdi.intake.tables import IMAGE_COLUMNS
from ffdi.parallel import cpu_count, ordered_map

DISK_FAULT = 100  # so many unreadable images in a row are no fault of theirs: the disk's, or that of all names
WRONG_NAMES = "the listed names are not those of the files"


@dataclass(frozen=True)
class Intake:
    """What ingest made: `images` has images.csv's columns sorted by image_id, `rejected` has path and reason."""

    images: pd.DataFrame
    rejected: pd.DataFrame
    duplicates: int


class ConflictError(InputError):
    """The same image is listed with two labels or in two given splits; `listed` has path and reason of each such row."""

    def __init__(self, message: str, listed: pd.DataFrame) -> None:
        super().__init__(message)
        self.listed = listed


def ingest(
    listed: pd.DataFrame,
    root: Path,
    *,
    max_pixels: int,
    max_rejected: float,
    workers: int | None = None,
    closest: Callable[[str], str | None] = lambda path: None,
    progress: Callable[[Iterator[object]], Iterable[object]] = lambda results: results,
) -> Intake:
    """Decode every listed image fully and describe it.

    The same bytes listed twice are merged and counted, their groups joined. Raises ConflictError when they carry two
    labels or stand in two given splits, InputError when more than `max_rejected` of the files are unreadable, or when
    100 in a row are. `closest` gives the name on disk that is most like a listed one that is not there.
    """
    missing: set[str] = set()

    def examine(path: str) -> tuple[str, int, int, str, str] | str:
        try:
            data = read_bytes(root, path)
            image = open_image(data, max_pixels=max_pixels)
            if is_two_tone(image):
                raise UnreadableImage("nothing but two grey levels: a mask")
        except UnreadableImage as error:
            if os.path.lexists(root / path):
                return str(error)
            missing.add(path)
            like = closest(path)
            return f"{error}; the closest name is {like!r}" if like else str(error)
        identity = hashlib.sha256(data).hexdigest()
        return identity, image.width, image.height, open_header(data).format or "", perceptual_hash(image)

    facts: list[tuple[str, int, int, str, str]] = []
    readable: list[int] = []
    rejected: list[tuple[str, str]] = []
    in_a_row = 0
    results = ordered_map(examine, listed["path"], workers or cpu_count())
    for row, (path, fact) in enumerate(zip(listed["path"], progress(results), strict=True)):
        in_a_row = in_a_row + 1 if isinstance(fact, str) else 0
        if isinstance(fact, str):
            rejected.append((path, fact))
            if in_a_row == DISK_FAULT:
                last = f"{DISK_FAULT} unreadable images in a row, the last {root / path}: {fact}"
                names_differ = missing.issuperset(name for name, _ in rejected[-DISK_FAULT:])
                raise InputError(f"{last}: {WRONG_NAMES if names_differ else 'check the disk'}")
        elif isinstance(fact, tuple):
            facts.append(fact)
            readable.append(row)
    if len(rejected) > max_rejected * len(listed):
        path, reason = rejected[0]
        raise InputError(
            f"{len(rejected)} of {len(listed)} images are unreadable, more than data.max_rejected = {max_rejected:g}; "
            f"the first is {path}: {reason}"
        )
    described = listed.join(pd.DataFrame(facts, columns=_FACTS, index=readable), how="inner")
    merged, duplicates = _merge(described)
    attributes = [c for c in listed.columns if c.startswith("attr_")]
    return Intake(
        images=merged[[*IMAGE_COLUMNS, *attributes]],
        rejected=pd.DataFrame(sorted(rejected), columns=["path", "reason"]),
        duplicates=duplicates,
    )


_FACTS = ["image_id", "width", "height", "format", "phash"]


def _merge(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """One row an image_id, the first path by name, and the number of rows that were merged away."""
    rows = rows.sort_values(["image_id", "path"], kind="stable").reset_index(drop=True)
    twins = rows[rows["image_id"].duplicated(keep=False)]
    if twins.empty:
        return rows, 0
    _refuse_conflicts(twins)
    rows["group"] = _joined_names(rows)
    merged = rows.drop_duplicates("image_id").reset_index(drop=True)
    return merged, len(rows) - len(merged)


def _refuse_conflicts(twins: pd.DataFrame) -> None:
    """`twins` are rows of the same bytes, sorted by image_id and path."""
    said: list[str] = []
    listed: list[tuple[str, str]] = []
    for column, what in (("label", "labels"), ("given_split", "given splits")):
        parted = twins[twins.groupby("image_id")[column].transform("nunique") > 1]
        reasons = []
        for _, rows in parted.groupby("image_id"):
            ends = rows.drop_duplicates(column)
            places = " and ".join(f"{p} ({column} {v})" for p, v in zip(ends["path"], ends[column], strict=True))
            reasons.append(f"the same image under two {what}: {places}")
            listed += [(path, reasons[-1]) for path in rows["path"]]
        if reasons:
            said.append(f"{reasons[0]}; {len(reasons)} such images in all")
    if said:
        raise ConflictError("; ".join(said), pd.DataFrame(sorted(listed), columns=["path", "reason"]))


def _joined_names(rows: pd.DataFrame) -> list[str]:
    """For every row the groups of its image: those of all rows of the same bytes.

    Where rows of the same bytes name one group each, those groups are one, named after the smallest; rows of several
    groups, as a forgery that is listed for both its people, make no two people one.
    """
    image_ids, cells = list(rows["image_id"]), list(rows["group"])
    single = single_names(cells)
    renamed = dict(zip(single, join_groups(single, image_ids), strict=True))
    held: dict[str, set[str]] = {}
    for image_id, cell in zip(image_ids, cells, strict=True):
        held.setdefault(image_id, set()).update(renamed.get(name, name) for name in split_names(cell))
    return [join_names(held[image_id]) for image_id in image_ids]
