"""Raw photos and videos -> a set of face crops: every source searched once, by its bytes, or rejected with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd

from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.faces.crop_files import CropFiles
from ffdi.faces.crop_table import column_names, write_labels
from ffdi.faces.detectors.detector import FaceDetector, open_detector
from ffdi.faces.footage.footage import is_video
from ffdi.faces.journal import CroppedSource, Journal
from ffdi.faces.set_contact import SetContact
from ffdi.faces.settings import FacesSettings
from ffdi.faces.source_task import SourceTask, Unfit, sha256_of_source
from ffdi.faces.totals import CropTotals, counted_reasons
from ffdi.files import sole_writer, write_json
from ffdi.intake.decoding.images import DECODE_POLICY
from ffdi.intake.ingest import DISK_FAULT
from ffdi.intake.listing.crop_sets import CONTACT, FACTS, JOURNAL, KIND, LABELS, REJECTED, SKIPPED
from ffdi.intake.listing.layouts import Listing, read_layout
from ffdi.intake.merging import ConflictError, merge_twins
from ffdi.intake.tables import skipped_table, write_table
from ffdi.parallel import ordered_map, worker_count

CROP_POLICY = "crops-1"  # another name where frames, faces or crops become others: all sources are then searched anew
NO_FACE = "no face"
_SHOWN = 3  # rejected sources that an error names


@dataclass(frozen=True)
class CropSet:
    """A set of face crops that is complete: its sources, its crops, the rejected of its sources, and a line about them."""

    sources: int
    crops: int
    rejected: int
    line: str


def make_crop_set(
    root: Path, settings: FacesSettings, out: Path, console: Console = Console(), workers: int | None = None
) -> CropSet:
    """Crop the faces of every photo and video that the layout lists below `root`, into the folder `out`.

    What is there already, of the same bytes and settings, is not decoded again. labels.csv is written last. Raises
    InputError as read_layout does, for two sources of the same bytes that differ in label or split, and where more than
    the share `max_rejected` of the sources shows no face or cannot be read; what was cropped until then is kept.
    """
    detector = open_detector(settings.crops)
    console.say(detector.device_line.removeprefix("faces: "))
    _refuse_other(out, root)
    with sole_writer(out):
        out.mkdir(parents=True, exist_ok=True)
        listing = read_layout(root, settings)
        write_table(out / SKIPPED, skipped_table(listing.skipped))
        for line in (*listing.messages, *_about(listing)):
            console.say(line)
        with _journal(out, settings, detector, console) as journal:
            making = _Making(root, settings, out, detector, journal, console, workers or worker_count())
            return making.made(listing.rows)


def _refuse_other(out: Path, root: Path) -> None:
    """InputError for a folder that has something in it and is no set of crops: what is stale there is deleted.

    Also for one that lies in the root, whose crops would be photos of the next run, and for a root that lies in it.
    """
    here, there = out.resolve(), root.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise InputError(f"{root}: holds the folder that the crops are written to, or lies in it: name another folder")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file: name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / JOURNAL).exists():
        raise InputError(f"{out}: has files, and is no set of face crops: name another folder")


def _about(listing: Listing) -> Iterator[str]:
    """What is on disk besides the sources."""
    unlisted = f"{listing.unlisted} on disk but not listed" if listing.unlisted else ""
    if told := "; ".join(filter(None, [unlisted, listing.over])):
        yield told


@contextmanager
def _journal(out: Path, settings: FacesSettings, detector: FaceDetector, console: Console) -> Iterator[Journal]:
    """The journal of the folder; the table of crops that other settings made is deleted first."""
    crops: dict[str, Any] = settings.recorded() | {"detector": {"name": detector.name, "sha256": detector.sha256}}
    key = {"policy": [CROP_POLICY, DECODE_POLICY], "crops": crops, "max_pixels": settings.max_pixels}
    journal = Journal(out, key)
    if journal.was_other:
        console.say("cropped anew: the settings, the detector or the code are others than those of the crops there")
        for name in (LABELS, FACTS, CONTACT):
            (out / name).unlink(missing_ok=True)
    with journal:
        yield journal


@dataclass
class _Making:
    """One run of make_crop_set."""

    root: Path
    settings: FacesSettings
    out: Path
    detector: FaceDetector
    journal: Journal
    console: Console
    workers: int
    rejected: list[Unfit] = field(default_factory=list)
    total: int = 0  # of sources
    faces: int = 0  # of this run
    unread_in_a_row: int = 0

    @property
    def files(self) -> CropFiles:
        return CropFiles(self.out, self.settings.format)

    def made(self, listed: pd.DataFrame) -> CropSet:
        """Search what is new among the listed sources, then write the tables."""
        for given, name in column_names(listed).items():
            if given != f"attr_{name}":
                self.console.say(f"column {given.removeprefix('attr_')!r} of the layout is called {name!r} in {LABELS}")
        sources, twins = self._identified(listed)
        self.total = len(sources) + len(self.rejected)
        self._stop_at_too_many()
        return self._written(sources, twins, self._search(sources))

    def _identified(self, listed: pd.DataFrame) -> tuple[pd.DataFrame, int]:
        """(the sources that can be read, in their order, with their sha256; how many have the bytes of another)."""
        identify = partial(sha256_of_source, self.root)
        found = ordered_map(identify, listed["path"], self.workers)
        ids = list(self.console.progress(found, len(listed), unit="files", phase="check"))
        self.rejected += [one for one in ids if isinstance(one, Unfit)]
        is_read = [isinstance(one, str) for one in ids]
        rows = listed.assign(image_id=[one if isinstance(one, str) else "" for one in ids], at=range(len(listed)))
        try:
            merged, twins = merge_twins(rows[is_read].reset_index(drop=True))
        except ConflictError as error:
            write_table(self.out / REJECTED, error.listed)
            raise InputError(f"{error}; all are in {self.out / REJECTED}") from None
        return merged.sort_values("at").drop(columns="at").reset_index(drop=True), twins

    def _search(self, sources: pd.DataFrame) -> int:
        """Crop the sources that are not there yet; the number of those that are."""
        pairs = list(zip(sources["image_id"], sources["path"], strict=True))
        checked = ordered_map(self._is_known, sources["image_id"], self.workers)
        is_known = list(self.console.progress(checked, 0 if self.journal.is_new else len(pairs), phase="what is there"))
        for (sha256, path), known in zip(pairs, is_known, strict=True):
            self._reject_faceless(self.journal.get(sha256) if known else None, path)
        new = [pair for pair, known in zip(pairs, is_known, strict=True) if not known]
        ended, within = Event(), max(1, self.workers // max(1, len(new)))
        task = SourceTask(self.root, self.settings, self.detector, self.files, ended, within)
        results = ordered_map(task.crop, new, self.workers, ended=ended)
        progress = self.console.progress(results, len(new), unit="sources", note=lambda: f"{self.faces} faces")
        for (_, path), result in zip(new, progress, strict=True):
            if isinstance(result, Unfit):
                self._reject(result)
                continue
            self.journal.add(result)
            self.faces += len(result.faces)
            self.unread_in_a_row = 0
            self._reject_faceless(result, path)
        return len(pairs) - len(new)

    def _is_known(self, sha256: str) -> bool:
        if (source := self.journal.get(sha256)) is None:
            return False
        if not (is_whole := self.files.has(source)):
            self.journal.drop(sha256)
        return is_whole

    def _reject_faceless(self, source: CroppedSource | None, path: str) -> None:
        if source and not source.faces:
            self.rejected.append(Unfit(path, NO_FACE if source.frames == 1 else f"{NO_FACE} in {source.frames} frames"))
            self._stop_at_too_many()

    def _reject(self, one: Unfit) -> None:
        """A source that cannot be read: another run tries it again."""
        self.rejected.append(one)
        self.unread_in_a_row += 1
        if self.unread_in_a_row == DISK_FAULT:
            last = f"the last {self.root / one.path}: {one.reason}"
            raise InputError(f"{DISK_FAULT} unreadable photos and videos in a row, {last}: check the disk")
        self._stop_at_too_many()

    def _stop_at_too_many(self) -> None:
        if len(self.rejected) <= self.settings.max_rejected * self.total:
            return
        self._write_rejected()
        first = "; ".join(f"{one.path}: {one.reason}" for one in self.rejected[:_SHOWN])
        raise InputError(
            f"{len(self.rejected)} of {self.total} photos and videos are rejected ({counted_reasons(self.rejected)}), more than "
            f"max_rejected = {self.settings.max_rejected:g}: mend or remove them, or raise it; the first are {first}; "
            f"those so far are in {self.out / REJECTED}"
        )

    def _write_rejected(self) -> None:
        rows = sorted((one.path, one.reason) for one in self.rejected)
        write_table(self.out / REJECTED, pd.DataFrame(rows, columns=["path", "reason"]))

    def _written(self, sources: pd.DataFrame, twins: int, there: int) -> CropSet:
        """The tables of a complete set, labels.csv last; then what is stale is deleted."""
        totals = CropTotals()
        for sha256, path in zip(sources["image_id"], sources["path"], strict=True):
            totals.add(self.journal.get(sha256), is_video(Path(path)))
        if not totals.crops:
            raise InputError(
                f"{self.root}: no face in any of {self.total} photos and videos: {counted_reasons(self.rejected)}"
            )
        self.journal.keep(sources["image_id"])
        self._write_rejected()
        SetContact(self.root, self.settings, self.journal, self.files).write(self.out / CONTACT, sources)
        write_json(self.out / FACTS, self._facts(totals))
        write_labels(self.out / LABELS, sources, self.journal, self.files)
        self.files.keep(self.journal.sources())
        for draft in self.out.glob(".*.tmp"):  # of runs that were killed
            draft.unlink()
        merged = f"; {twins} more have the bytes of another" if twins else ""
        reasons = f" ({counted_reasons(self.rejected)})" if self.rejected else ""
        line = f"{totals.line}{merged}; {there} searched before; {len(self.rejected)} rejected{reasons}"
        return CropSet(self.total, totals.crops, len(self.rejected), line)

    def _facts(self, totals: CropTotals) -> dict[str, Any]:
        return {
            "kind": KIND,
            "crops": self.settings.recorded(),
            "detector": {"name": self.detector.name, "sha256": self.detector.sha256},
            "versions": totals.versions_line() | {"policy": CROP_POLICY},
            "sources": self.total,
            "crops_written": totals.crops,
            "rejected": len(self.rejected),
        }
