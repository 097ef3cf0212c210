"""Images of a model's own training, found again on disk by the sha256 of their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.console import Console
from ffdi.deploy.pictures import Picture, pictures_of
from ffdi.errors import InputError
from ffdi.files import sha256_file
from ffdi.intake.listing.walk import walk
from ffdi.intake.tables import read_table

FEWEST = 20  # of a class, for a cost that says anything


@dataclass(frozen=True)
class TrainingImages:
    """(N,) `pictures` with out-of-fold scores, and the `label`, `fold` and `group` of each. Where `grouped` is false, no groups
    are known and each image is one of its own."""

    pictures: tuple[Picture, ...]
    labels: np.ndarray
    folds: np.ndarray
    groups: np.ndarray
    grouped: bool

    def take(self, rows: np.ndarray) -> TrainingImages:
        """Those of some rows."""
        pictures = tuple(self.pictures[row] for row in rows)
        return TrainingImages(pictures, self.labels[rows], self.folds[rows], self.groups[rows], self.grouped)


def find_training_images(place: Path, oof: pd.DataFrame, console: Console = Console()) -> TrainingImages:
    """Those of the images of `oof` (image_id, fold, label) that are in a folder, or in a csv with a column `path`, relative to
    the csv's folder, and maybe `group`.

    InputError when there are fewer than FEWEST of a class: `place` is then another data set.
    """
    files, groups = _listed(place)
    known = {row.image_id: row for row in oof.itertuples()}
    found: dict[str, tuple[Path, str]] = {}
    for file, group in zip(console.progress(files, len(files), phase="hash"), groups, strict=True):
        if (image_id := sha256_file(file)) in known:
            found[image_id] = file, group
    rows = [(known[image_id], *found[image_id]) for image_id in sorted(found)]
    labels = np.array([row.label for row, _, _ in rows], dtype=int)
    if min((labels == label).sum() for label in (0, 1)) < FEWEST:
        raise InputError(
            f"{place}: {len(rows)} of its {len(files)} images are of the model's training, with out-of-fold scores: name "
            "the data that it was trained on"
        )
    grouped = any(group for _, _, group in rows)
    of_rows = [group if grouped else image_id for image_id, (_, _, group) in zip(sorted(found), rows, strict=True)]
    pictures = tuple(picture for _, file, _ in rows for picture in pictures_of(file)[:1])
    folds = np.array([row.fold for row, _, _ in rows], dtype=int)
    return TrainingImages(pictures, labels, folds, np.array(of_rows), grouped)


def _listed(place: Path) -> tuple[list[Path], list[str]]:
    """The files, and the group of each where there are any."""
    if place.is_dir():
        files = [place / image for image in walk(place).images]
        return files, [""] * len(files)
    table = read_table(place, ("path",))
    files = [place.parent / path for path in table["path"]]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{missing[0]}: {place.name} names it, and there is no such file")
    return files, list(table["group"]) if "group" in table else [""] * len(files)
