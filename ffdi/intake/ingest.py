"""Listed rows -> images.csv: each file is decoded once, identified by its bytes and hashed, or rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ffdi.console import Console
from ffdi.errors import InputError, placed
from ffdi.intake.decoding.image_source import Sets
from ffdi.intake.decoding.images import (
    ImageSource,
    UnreadableImage,
    is_two_tone,
    open_header,
    open_image,
    perceptual_hash,
)
from ffdi.intake.decoding.read_ahead import ReadAhead
from ffdi.intake.listing.labels import class_lines
from ffdi.intake.listing.layouts import Listing, read_layout
from ffdi.intake.listing.manifest import read_manifest
from ffdi.intake.listing.remote_listing import remote_listing
from ffdi.intake.listing.several_sets import joined
from ffdi.intake.merging import ConflictError, merge_twins
from ffdi.intake.settings import DataSettings
from ffdi.intake.tables import IMAGE_COLUMNS, skipped_table, write_table
from ffdi.memory import only_new_collected
from ffdi.parallel import cpu_count, ordered_map
from ffdi.storage import Remote

DISK_FAULT = 100  # so many unreadable images in a row are not the files' fault: the disk or the listed names are wrong
_DESCRIBED = 1 << 14  # images that are kept as Python's objects
WRONG_NAMES = "the listed names are not those of the files"


@dataclass(frozen=True)
class Intake:
    """What ingest made: `images` has images.csv's columns sorted by image_id, `rejected` has path and reason.

    `duplicates` counts the rows that were merged into another row of the same bytes.
    """

    images: pd.DataFrame
    rejected: pd.DataFrame
    duplicates: int


@dataclass(frozen=True)
class IntakeFiles:
    """Where the three tables of an ingested data set are written."""

    images: Path
    rejected: Path
    skipped: Path


@dataclass(frozen=True)
class IngestedDataSet:
    """A data set that was listed and ingested."""

    listing: Listing
    intake: Intake

    def summary(self) -> str:
        """One line: how many images, and what was merged, rejected or passed over."""
        fakes = int(self.intake.images["label"].sum())
        counts = (
            f"{len(self.intake.images)} images ({fakes} fake), {self.intake.duplicates} listed twice and merged, "
            f"{len(self.intake.rejected)} rejected, {self.listing.unlisted} on disk but not listed"
        )
        return "; ".join(filter(None, [counts, self.listing.over]))

    def class_lines(self) -> list[str]:
        """What the data set calls each class, with counts and examples."""
        return class_lines(self.intake.images, self.listing.class_names)


class _Description(NamedTuple):
    """The columns of images.csv that the file itself decides."""

    image_id: str
    width: int
    height: int
    format: str
    phash: str


@dataclass(frozen=True)
class _Unreadable:
    """A file that is rejected; `is_missing` where nothing of that name is on disk."""

    path: str
    reason: str
    is_missing: bool


def ingest_data_set(
    source: ImageSource,
    data: DataSettings,
    files: IntakeFiles,
    console: Console = Console(),
    manifest: Path | None = None,
) -> IngestedDataSet:
    """List the images of a data set, describe each of them and write the tables.

    A source at a URL is listed by its `manifest` where there is one of this root, see write_manifest.
    `files.skipped` is written before the first image is read. Raises as read_layout and ingest do; before a
    ConflictError, `files.rejected` is written with the conflicting rows.
    """
    with _listing(source, data, manifest) as (listing, sized):
        return _ingest_listed(listing, sized, data, files, console)


@contextmanager
def _listing(source: ImageSource, data: DataSettings, manifest: Path | None) -> Iterator[tuple[Listing, ImageSource]]:
    """The listing of a source, and the source, which knows the sizes of its files where it is at a URL."""
    if isinstance(source.root, tuple):
        with _listings(source.root, data, manifest) as listings:
            found = joined({name: listing for name, (listing, _) in listings.items()})
            yield found, replace(source, root=tuple((name, sized) for name, (_, sized) in listings.items()))
    elif isinstance(source.root, Remote):
        sizes = read_manifest(manifest, source.root) if manifest else None
        with remote_listing(source.root, data, sizes) as listed:
            yield read_layout(listed.folder, data, listed), replace(source, sizes=listed.sizes)
    else:
        yield read_layout(source.root, data), source


@contextmanager
def _listings(
    sets: Sets, data: DataSettings, manifest: Path | None
) -> Iterator[dict[str, tuple[Listing, ImageSource]]]:
    """What _listing gives of each of several sets, by its name; an error names the set."""
    with ExitStack() as stack:
        found = {}
        for (name, source), one in zip(sets, data.sets, strict=True):
            with placed(name):
                found[name] = stack.enter_context(_listing(source, one, manifest and manifest / name))
        yield found


def _ingest_listed(
    listing: Listing, source: ImageSource, data: DataSettings, files: IntakeFiles, console: Console
) -> IngestedDataSet:
    for line in listing.messages:
        console.say(line)
    write_table(files.skipped, skipped_table(listing.skipped))
    try:
        rejected, closest = data.max_rejected, listing.closest
        intake = ingest(listing.rows, source, max_rejected=rejected, closest=closest, console=console)
    except ConflictError as error:
        write_table(files.rejected, error.listed)
        raise
    write_table(files.images, intake.images)
    write_table(files.rejected, intake.rejected)
    return IngestedDataSet(listing, intake)


@only_new_collected()  # not the rows
def ingest(
    listed: pd.DataFrame,
    source: ImageSource,
    *,
    max_rejected: float = 0.0,
    workers: int | None = None,
    closest: Callable[[str], str | None] = lambda path: None,
    console: Console = Console(),
) -> Intake:
    """Decode every listed image fully and describe it.

    The same bytes listed twice are merged and counted, their groups joined. Raises ConflictError when they carry two
    labels or stand in two given splits, InputError when more than the share `max_rejected` of the files is unreadable,
    or when 100 in a row are. `closest` gives the name on disk that is most like a listed one that is not there.
    """
    ahead = ReadAhead(source)
    describe = partial(_describe, ahead=ahead, closest=closest)
    paths = ahead.over(listed["path"], lambda path: [(path, "")])
    results = ordered_map(describe, paths, workers or cpu_count())
    readable, rejected = _sorted_out(console.progress(results, len(listed)), source)
    if len(rejected) > max_rejected * len(listed):
        first = rejected[0]
        raise InputError(
            f"{len(rejected)} of {len(listed)} images are unreadable, more than data.max_rejected = {max_rejected:g}: "
            f"mend or remove them, or raise it; the first is {first.path}: {first.reason}"
        )
    rows = listed if len(readable) == len(listed) else listed.loc[readable.index]
    merged, duplicates = merge_twins(pd.concat([rows, readable], axis=1))
    attributes = [c for c in listed.columns if c.startswith("attr_")]
    return Intake(
        images=merged[[*IMAGE_COLUMNS, *attributes]],
        rejected=pd.DataFrame(sorted((one.path, one.reason) for one in rejected), columns=["path", "reason"]),
        duplicates=duplicates,
    )


def _describe(path: str, ahead: ReadAhead, closest: Callable[[str], str | None]) -> _Description | _Unreadable:
    source = ahead.source
    try:
        data = ahead.read(path)
        image = open_image(data, max_pixels=source.max_pixels)
        if is_two_tone(image):
            raise UnreadableImage("nothing but two grey levels: a mask")
    except UnreadableImage as error:
        if source.exists(path):
            return _Unreadable(path, str(error), is_missing=False)
        like = closest(path)
        reason = f"{error}; the closest name is {like!r}" if like else str(error)
        return _Unreadable(path, reason, is_missing=True)
    identity = hashlib.sha256(data).hexdigest()
    source.of(path)[0].keep(data, identity)
    return _Description(identity, image.width, image.height, open_header(data).format or "", perceptual_hash(image))


def _sorted_out(
    results: Iterable[_Description | _Unreadable], source: ImageSource
) -> tuple[pd.DataFrame, list[_Unreadable]]:
    """(descriptions by row number, unreadable files in order); InputError for 100 unreadable ones in a row."""
    tables = [_described({})]
    readable: dict[int, _Description] = {}
    rejected: list[_Unreadable] = []
    in_a_row = 0
    for row, result in enumerate(results):
        if isinstance(result, _Description):
            readable[row] = result
            in_a_row = 0
            if len(readable) == _DESCRIBED:
                tables.append(_described(readable))
                readable = {}
            continue
        rejected.append(result)
        in_a_row += 1
        if in_a_row == DISK_FAULT:
            last = f"{DISK_FAULT} unreadable images in a row, the last {source.place(result.path)}: {result.reason}"
            names_differ = all(one.is_missing for one in rejected[-DISK_FAULT:])
            raise InputError(f"{last}: {WRONG_NAMES if names_differ else 'check the disk'}")
    return pd.concat([*tables, _described(readable)]), rejected


def _described(rows: Mapping[int, _Description]) -> pd.DataFrame:
    columns = zip(*rows.values(), strict=True) if rows else [()] * len(_Description._fields)
    types = (int if name in ("width", "height") else "str" for name in _Description._fields)
    named = zip(_Description._fields, columns, types, strict=True)
    return pd.DataFrame({name: pd.Series(list(c), list(rows), dtype=t) for name, c, t in named}, index=list(rows))
