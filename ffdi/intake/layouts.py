"""A data set's own layout -> one table of (path, label, group, given_split, attr_*), a row per listed image.

`path` is POSIX and relative to the root; `label` 0 or 1; `group` "" where nothing is known; `given_split` train, test
or "". No image is opened here.

A split named val, valid or validation is the test set where no split is named test; beside one it belongs to train,
for ffdi draws its own validation folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.groups import add_groups, join_names, split_names
from ffdi.intake.label_files import inside, read_label_file
from ffdi.intake.labels import CLASSES, labels_of
from ffdi.intake.walk import image_files

SPLIT_NAMES = {"": "", "train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")

_Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out: section `data` of params, or an entry of evaluate.cross, as the library takes it.

    `name`: imagefolder, csv or multi_ffdi. `classes`: what the data set calls its classes -> label, in any case; None
    for the usual words. `group`: regular expressions with (?P<group>...) searched in the paths of rows that have no
    group of their own, of which a share of `max_ungrouped` may get none. `limit`: the first rows of each given split.
    """

    name: str
    table: str = "labels.csv"
    classes: Mapping[str, int] | None = None
    group: str | Sequence[str] | None = None
    limit: int | None = None
    max_ungrouped: float = 0.05


@dataclass(frozen=True)
class Listing:
    """What a layout lists: `rows`, one an image, and of every other file below the root (path, why it is `skipped`).

    `said` are lines that tell what its reader should know about the rows.
    """

    rows: pd.DataFrame
    skipped: list[tuple[str, str]]
    said: list[str] = field(default_factory=list)


def read_layout(root: Path, layout: Layout) -> Listing:
    """The images that a data set lists, none of them opened. Raises InputError naming file, row and rule."""
    if not root.is_dir():
        raise InputError(f"{root}: data.root is no folder")
    if layout.name == "imagefolder":
        columns = _imagefolder(root, layout.classes or CLASSES)
    elif layout.name == "csv":
        columns = _csv(root, layout.table)
    else:
        columns = _multi_ffdi(root)
    paths = columns["path"]
    if not paths:
        raise InputError(f"{root}: layout {layout.name} lists no image")
    known = set(paths)
    skipped = [(path, "not listed") for path in image_files(root) if path not in known]
    columns["group"] = [join_names(split_names(cell)) for cell in columns["group"]]
    rows = pd.DataFrame(columns)
    said: list[str] = []
    if layout.limit is not None:
        rows = rows.groupby("given_split", sort=False).head(layout.limit).reset_index(drop=True)
    if layout.group is not None:
        patterns = [layout.group] if isinstance(layout.group, str) else layout.group
        rows["group"], said = add_groups(list(rows["group"]), list(rows["path"]), patterns, layout.max_ungrouped)
    return Listing(rows, skipped, said)


def _given_splits(names: Sequence[str]) -> list[str]:
    """Names of splits, all of them known -> train, test or "" ."""
    named = {name: SPLIT_NAMES[name] for name in set(names)}
    val = "train" if "test" in named.values() else "test"
    return [val if (split := named[name]) == "val" else split for name in names]


def _imagefolder(root: Path, classes: Mapping[str, int]) -> _Columns:
    """root/CLASS/**/image or root/SPLIT/CLASS/**/image: the folders' names give label and split, in any case."""
    labels = {name.casefold(): label for name, label in classes.items()}
    if clashing := [name for name, label in classes.items() if labels[name.casefold()] != label]:
        raise InputError(f"data.classes: {clashing[0]!r} stands there with both labels: case does not matter")
    columns: _Columns = {"path": [], "label": []}
    splits: list[str] = []
    for path in image_files(root):
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


def _multi_ffdi(root: Path) -> _Columns:
    """trainset/ and valset/ with trainset_label.txt and valset_label.txt (img_name,target; 1 = fake).

    They are in root or in its folder phase1.
    """
    top = "" if (root / "trainset_label.txt").exists() or not (root / "phase1").is_dir() else "phase1/"
    columns: _Columns = {"path": [], "label": [], "group": [], "given_split": []}
    for name, split in (("trainset", "train"), ("valset", "test")):
        table = read_label_file(root / f"{top}{name}_label.txt", ("img_name", "target"))
        columns["path"] += inside(root, f"{top}{name}/", table, "img_name")
        columns["label"] += labels_of(table, "target")
        columns["group"] += [""] * len(table.lines)
        columns["given_split"] += [split] * len(table.lines)
    return columns
