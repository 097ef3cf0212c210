"""A data set's own layout -> one table of (path, label, group, given_split, attr_*), a row per listed image.

`path` is POSIX and relative to the root; `label` 0 or 1; `group` "" where nothing is known; `given_split` train, test
or "". No image is opened here.

A split named val, valid or validation is the test set where no split is named test; beside one it belongs to train,
for ffdi draws its own validation folds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.archives import beside
from ffdi.intake.groups import group_of
from ffdi.intake.label_files import inside, read_label_file
from ffdi.intake.labels import CLASSES, labels_of
from ffdi.intake.names import Names
from ffdi.intake.walk import BESIDE, BEYOND_LIMIT, NOT_LISTED, TABLE, Tree, passed_over, walk

SPLIT_NAMES = {"": "", "train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")

# Folders beside or below those of a class that hold no examples of it: what preprocessing and file managers leave there.
NO_EXAMPLES = (
    *("mask", "masks", "gt_masks", "face_masks", "segmentation*", "landmark", "landmarks", "keypoints"),
    *("heatmap*", "heat_map*", "heat-map*", "saliency*", "thumb", "thumbs", "thumbnail", "thumbnails"),
)

_Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out: section `data` of params, or an entry of evaluate.cross, as the library takes it.

    `name`: imagefolder, csv or multi_ffdi. `classes`: what the data set calls its classes -> label, in any case; None
    for the usual words. `group`: a regular expression with (?P<group>...) searched in the path, for rows that have no
    group of their own. `limit`: the first rows of each given split. `exclude`: patterns, in any case, of the names of
    folders that hold no examples of a class; None for the usual ones.
    """

    name: str
    table: str = "labels.csv"
    classes: Mapping[str, int] | None = None
    group: str | None = None
    limit: int | None = None
    exclude: Sequence[str] | None = None


@dataclass(frozen=True)
class Listing:
    """What a layout lists: `rows`, one an image, and of every other file below the root (path, why it is `skipped`).

    `names` knows which listed names were found under another.
    """

    rows: pd.DataFrame
    skipped: list[tuple[str, str]]
    names: Names


def read_layout(root: Path, layout: Layout) -> Listing:
    """The images that a data set lists, none of them opened. Raises InputError naming file, row and rule."""
    if not root.is_dir():
        raise InputError(f"{root}: data.root is no folder")
    tables: list[str] = []
    if layout.name == "imagefolder":
        classes = layout.classes or CLASSES
        tree = _walk_classes(root, classes, layout.exclude)
        columns = _imagefolder(root, classes, tree.images)
    else:
        tree = walk(root)
        if layout.name == "csv":
            tables, columns = [PurePosixPath(layout.table).as_posix()], _csv(root, layout.table)
        else:
            tables, columns = _multi_ffdi(root)
    names = Names(root, tree)
    columns["path"] = paths = names.files(columns["path"])
    if not paths:
        over = ", ".join(passed_over(tree.skipped))
        raise InputError(f"{root}: layout {layout.name} lists no image" + (f"; passed over: {over}" if over else ""))
    listed = {names.place(path): path for path in paths}
    skipped = [(path, NOT_LISTED + " or ".join(tables)) for path in tree.images if names.place(path) not in listed]
    others = ((path, TABLE if path in tables else reason) for path, reason in tree.skipped)
    skipped += [(path, reason) for path, reason in others if names.place(path) not in listed]
    skipped += [(path, BESIDE) for path in beside(root)]
    if layout.group is not None:
        columns["group"] = [g or group_of(layout.group, p) for g, p in zip(columns["group"], paths, strict=True)]
    rows = pd.DataFrame(columns)
    if layout.limit is not None:
        rows = rows.groupby("given_split", sort=False).head(layout.limit).reset_index(drop=True)
        taken = {names.place(path) for path in rows["path"]}
        beyond = [path for place, path in listed.items() if place not in taken]
        skipped += [(path, BEYOND_LIMIT) for path in beyond if os.path.lexists(root / path)]
    return Listing(rows, skipped, names)


def _walk_classes(root: Path, classes: Mapping[str, int], exclude: Sequence[str] | None) -> Tree:
    """The tree without the folders that `exclude` names; those of a class or split are no such folders."""
    patterns = {pattern: pattern.casefold() for pattern in (NO_EXAMPLES if exclude is None else exclude)}
    own = {name.casefold() for name in classes}.union(SPLIT_NAMES)
    used: set[str] = set()

    def excluded(folder: str) -> bool:
        *above, name = folder.casefold().split("/")
        if name in own and (not above or (len(above) == 1 and above[0] in SPLIT_NAMES)):
            return False
        matching = [pattern for pattern, folded in patterns.items() if fnmatchcase(name, folded)]
        used.update(matching)
        return bool(matching)

    tree = walk(root, excluded)
    if exclude is not None and (idle := [pattern for pattern in exclude if pattern not in used]):
        raise InputError(f"data.exclude: {idle[0]!r} is the name of no folder below {root}: leave it out")
    return tree


def _given_splits(names: Sequence[str]) -> list[str]:
    """Names of splits, all of them known -> train, test or "" ."""
    named = {name: SPLIT_NAMES[name] for name in set(names)}
    val = "train" if "test" in named.values() else "test"
    return [val if (split := named[name]) == "val" else split for name in names]


def _imagefolder(root: Path, classes: Mapping[str, int], paths: Sequence[str]) -> _Columns:
    """root/CLASS/**/image or root/SPLIT/CLASS/**/image: the folders' names give label and split, in any case."""
    labels = {name.casefold(): label for name, label in classes.items()}
    if clashing := [name for name, label in classes.items() if labels[name.casefold()] != label]:
        raise InputError(f"data.classes: {clashing[0]!r} stands there with both labels: case does not matter")
    columns: _Columns = {"path": [], "label": []}
    splits: list[str] = []
    for path in paths:
        if not path.isascii() and path != path.encode(errors="replace").decode():
            raise InputError(f"{root}: file name {path!r} is not UTF-8: rename it")
        folders = path.split("/")[:-1]
        first = folders[0].casefold() if folders else ""
        split = first if first in SPLIT_NAMES and first not in labels else ""
        inner = folders[1:] if split else folders
        if not inner or (name := inner[0].casefold()) not in labels:
            where = (
                f"folder {'/'.join(folders[: bool(split) + 1])!r}" if inner else f"{path!r} outside any class folder"
            )
            known = "real, fake and their usual synonyms" if classes == CLASSES else ", ".join(classes)
            raise InputError(f"{root}: {where}: not in data.classes ({known})")
        columns["path"].append(path)
        columns["label"].append(labels[name])
        splits.append(split)
    if "" in splits and any(splits):
        inside, outside = (
            next(p for p, s in zip(columns["path"], splits) if bool(s) is want) for want in (True, False)
        )
        both = f"{inside!r} is in the folder of a split, {outside!r} is in none"
        raise InputError(f"{root}: {both}: put all images into such folders, or none")
    return columns | {"group": [""] * len(splits), "given_split": _given_splits(splits)}


def _csv(root: Path, name: str) -> _Columns:
    """A table inside root with columns path, label and, if there, group and split; all others become attr_*."""
    table = read_label_file(root / name, ("path", "label"))
    own = table.columns
    empty = [""] * len(table.lines)
    splits = [split.lower() for split in own.get("split", empty)]
    if unknown := set(splits).difference(SPLIT_NAMES):
        row = next(i for i, split in enumerate(splits) if split in unknown)
        raise table.error(row, f"split {own['split'][row]!r} is not one of train, test, val")
    columns: _Columns = {
        "path": inside(root, "", table, "path"),
        "label": labels_of(table, "label"),
        "group": own.get("group", empty),
        "given_split": _given_splits(splits),
    }
    return columns | {f"attr_{k}": v for k, v in own.items() if k not in ("path", "label", "group", "split")}


def _multi_ffdi(root: Path) -> tuple[list[str], _Columns]:
    """trainset/ and valset/ with trainset_label.txt and valset_label.txt (img_name,target; 1 = fake).

    They are in root or in its folder phase1. Also gives the paths of these tables.
    """
    top = "" if (root / "trainset_label.txt").exists() or not (root / "phase1").is_dir() else "phase1/"
    columns: _Columns = {"path": [], "label": [], "group": [], "given_split": []}
    tables = [f"{top}{name}_label.txt" for name in ("trainset", "valset")]
    for file, name, split in zip(tables, ("trainset", "valset"), ("train", "test"), strict=True):
        table = read_label_file(root / file, ("img_name", "target"))
        columns["path"] += inside(root, f"{top}{name}/", table, "img_name")
        columns["label"] += labels_of(table, "target")
        columns["group"] += [""] * len(table.lines)
        columns["given_split"] += [split] * len(table.lines)
    return tables, columns
