"""Layout imagefolder: folders named after classes, in folders named after splits where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ffdi.errors import InputError
from ffdi.intake.listing.evidence import Labelled
from ffdi.intake.listing.labels import Classes, classes_line
from ffdi.intake.listing.layout_rows import SPLIT_NAMES, Columns, LayoutRows, given_splits
from ffdi.intake.listing.walk import Search, Tree

# Folders that hold no examples of a class: preprocessing and file managers leave them there.
NO_EXAMPLES = (
    *("mask", "masks", "gt_masks", "face_masks", "segmentation*", "landmark", "landmarks", "keypoints"),
    *("heatmap*", "heat_map*", "heat-map*", "saliency*", "thumb", "thumbs", "thumbnail", "thumbnails"),
)


def walk_classes(search: Search, root: Path, classes: Classes, exclude: Sequence[str] | None) -> Tree:
    """The files that `search` finds below root outside the folders that `exclude` names. A class or split folder is never excluded.

    Raises InputError for a pattern of `exclude` that names no folder.
    """
    patterns = {pattern: pattern.casefold() for pattern in (NO_EXAMPLES if exclude is None else exclude)}
    used: set[str] = set()

    def excluded(folder: str) -> bool:
        *above, name = folder.casefold().split("/")
        is_class_or_split = name in SPLIT_NAMES or classes.of(folder.rpartition("/")[2]) is not None
        if is_class_or_split and (not above or (len(above) == 1 and above[0] in SPLIT_NAMES)):
            return False
        matching = [pattern for pattern, folded in patterns.items() if fnmatchcase(name, folded)]
        used.update(matching)
        return bool(matching)

    tree = search(excluded)
    if exclude is not None and (idle := [pattern for pattern in exclude if pattern not in used]):
        raise InputError(f"data.exclude: {idle[0]!r} is the name of no folder below {root}: leave it out")
    return tree


def read_imagefolder(root: Path, classes: Classes, paths: list[str]) -> LayoutRows:
    """root/CLASS/**/image or root/SPLIT/CLASS/**/image: the folders' names give label and split, in any case."""
    placed = [_place_in_folders(root, classes, path) for path in paths]
    names = [place.name for place in placed]
    meaning = {name: classes.of(name) for name in sorted(set(names))}
    labels: list[int] = []
    for path, place in zip(paths, placed, strict=True):
        if (label := meaning[place.name]) is None:
            raise _unknown_class(root, classes, path, place, meaning)
        labels.append(label)
    splits = [place.split for place in placed]
    if "" in splits and any(splits):
        within, without = (next(p for p, s in zip(paths, splits) if bool(s) is want) for want in (True, False))
        both = f"{within!r} is in the folder of a split, {without!r} is in none"
        raise InputError(f"{root}: {both}: put all images into such folders, or none")
    columns: Columns = {"path": paths, "label": labels, "group": [""] * len(paths)}
    inner = [place.inner for place in placed]
    labelled = Labelled(str(root), paths, inner, names, labels, {}, classes.given is not None)
    return LayoutRows(columns | {"given_split": given_splits(splits)}, labelled, ("folder ", ""))


@dataclass(frozen=True)
class _Place:
    """From the folders of an image: its split or "", the `name` of its class or "", its `inner` path below those."""

    split: str
    name: str
    inner: str


def _place_in_folders(root: Path, classes: Classes, path: str) -> _Place:
    if not path.isascii() and path != path.encode(errors="replace").decode():
        raise InputError(f"{root}: file name {path!r} is not UTF-8: rename it")
    folders = path.split("/")[:-1]
    first = folders[0].casefold() if folders else ""
    split = first if first in SPLIT_NAMES and classes.of(first) is None else ""
    depth = int(bool(split))
    return _Place(split, folders[depth] if len(folders) > depth else "", path.split("/", depth + 1)[-1])


def _unknown_class(
    root: Path, classes: Classes, path: str, place: _Place, meaning: Mapping[str, int | None]
) -> InputError:
    folder = "/".join(path.split("/")[: bool(place.split) + 1])
    where = f"folder {folder!r}" if place.name else f"{path!r} outside any class folder"
    line = classes_line(classes.with_values(meaning))
    remedy = f"; add {line} to data" if place.name else ""
    return InputError(f"{root}: {where}: not in data.classes ({classes.known}){remedy}")
