"""What the reader of every layout returns, and the names of splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffdi.errors import InputError
from ffdi.intake.listing.evidence import Labelled

SPLIT_NAMES = {"": "", "train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")
# Folders that hold no examples of a class: preprocessing and file managers leave them there.
NO_EXAMPLES = (
    *("mask", "masks", "gt_masks", "face_masks", "segmentation*", "landmark", "landmarks", "keypoints"),
    *("heatmap*", "heat_map*", "heat-map*", "saliency*", "thumb", "thumbs", "thumbnail", "thumbnails"),
)
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class LayoutRows:
    """What the reader of a layout returns: the `columns` path, label, group, given_split and attr_*, the evidence for
    the labels, and the tables that it read.

    A reader lists every image of the tree or raises an error, but for a layout with `tables`, or with a reason
    `unlisted`: there the images without a row are reported as skipped. It refuses paths that are not UTF-8, resolves given_split with given_splits, and
    joins the groups of an image with join_names. `around` is the text before and after the name of a class in messages:
    "label " and " of labels.csv". `messages` are lines about the rows that the user should read.
    """

    columns: Columns
    labelled: Labelled
    around: tuple[str, str]
    tables: tuple[str, ...] = ()
    unlisted: str = ""
    messages: tuple[str, ...] = ()

    @property
    def meaning(self) -> dict[str, int]:
        """What stands for the label in each row -> the label."""
        return dict(zip(self.labelled.values, self.labelled.labels, strict=True))


def given_splits(names: Sequence[str]) -> list[str]:
    """Known names of splits -> train, test or "" for each."""
    named = {name: SPLIT_NAMES[name] for name in set(names)}
    val = "train" if "test" in named.values() else "test"
    return [val if (split := named[name]) == "val" else split for name in names]


def refuse_no_utf8(root: Path, paths: Iterable[str]) -> None:
    """Raise InputError for a path that is not UTF-8."""
    for path in paths:
        if not path.isascii() and path != path.encode(errors="replace").decode():
            raise InputError(f"{root}: file name {path!r} is not UTF-8: rename it")
