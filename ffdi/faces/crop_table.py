"""The table of a set of crops, labels.csv: a row a face, with what the layout says of its source."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ffdi.faces.crop_files import CropFiles
from ffdi.faces.footage.footage import is_video
from ffdi.faces.journal import Journal
from ffdi.files import replacing
from ffdi.intake.groups import SEPARATOR
from ffdi.intake.listing.captures import captures
from ffdi.intake.tables import CROP_COLUMNS

_ROLES = ("path", "label", "group", "split")


def write_labels(file: Path, sources: pd.DataFrame, journal: Journal, files: CropFiles) -> int:
    """Write a row for every face of `sources`, in their order, and return how many there are.

    `sources` has the columns of a listing and `image_id`, the sha256 of the source.
    """
    count = 0
    attributes, one_capture = column_names(sources), captures(sources["path"])
    with replacing(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow([*_ROLES, *CROP_COLUMNS, *attributes.values()])
        for source in sources.to_dict("records"):
            path = source["path"]
            video = (
                path if is_video(Path(path)) else source.get("attr_video", "")
            )  # a layout of frames names their video
            for crop, place in _faces(source["image_id"], [path, video], journal, files):
                given = [
                    source["label"],
                    source["group"] or group_of(one_capture.get(path, path)),
                    source["given_split"],
                ]
                rows.writerow([crop, *given, *place, *(source[column] for column in attributes)])
                count += 1
    return count


def _faces(
    sha256: str, source_and_video: list[str], journal: Journal, files: CropFiles
) -> Iterator[tuple[str, list[str]]]:
    """(path of the crop, cells of CROP_COLUMNS) of each face of a source."""
    known = journal.get(sha256)
    for face in known.faces if known else ():
        box = " ".join(map(str, face.box))
        place = [str(face.frame), f"{face.seconds:.3f}", str(face.track), box, f"{face.score:.4f}"]
        yield files.name(sha256, face), source_and_video + place


def group_of(path: str) -> str:
    """The group of a source, or of the capture that it is a part of, whose layout names none: itself."""
    return path.replace(SEPARATOR, "_")  # which would part it into two names


def column_names(sources: pd.DataFrame) -> dict[str, str]:
    """The columns attr_* of a listing, with what the table calls them: their own names, or given_NAME where that is taken."""
    taken = {*_ROLES, *CROP_COLUMNS}
    names = {str(column): str(column).removeprefix("attr_") for column in sources if str(column).startswith("attr_")}
    return {column: f"given_{name}" if name in taken else name for column, name in names.items()}
