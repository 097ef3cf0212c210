"""A data set's own layout -> one table of (path, label, group, given_split, attr_*), a row per listed image.

`path` is POSIX and relative to the root; `label` 0 or 1; `group` "" where nothing is known; `given_split` train, test
or "". No image is opened here.

A split named val, valid or validation is the test set where no split is named test; beside one it belongs to train,
for ffdi draws its own validation folds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.archives import beside
from ffdi.intake.groups import add_groups, join_names, split_names
from ffdi.intake.listing.evidence import Labelled, check_labels
from ffdi.intake.listing.label_files import LabelFile, inside, read_label_file
from ffdi.intake.listing.labels import Classes, classes_line, labels_of
from ffdi.intake.listing.names import Names
from ffdi.intake.listing.walk import BESIDE, BEYOND_LIMIT, NOT_LISTED, TABLE, Tree, passed_over, walk

SPLIT_NAMES = {"": "", "train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation"), "val")

# The keys of section `data` that each layout reads, besides those that all do. What is written and not read is an error,
# see params.Data; docs/data.md has this table.
READ_BY_ALL = ("root", "layout", "max_pixels", "max_rejected", "synthesise")
READS: dict[str, tuple[str, ...]] = {
    "imagefolder": ("classes", "group", "max_ungrouped", "exclude", "limit"),
    "csv": ("table", "columns", "classes", "group", "max_ungrouped", "limit"),
    "multi_ffdi": ("classes", "group", "max_ungrouped", "limit"),
}
# Folders beside or below those of a class that hold no examples of it: what preprocessing and file managers leave there.
NO_EXAMPLES = (
    *("mask", "masks", "gt_masks", "face_masks", "segmentation*", "landmark", "landmarks", "keypoints"),
    *("heatmap*", "heat_map*", "heat-map*", "saliency*", "thumb", "thumbs", "thumbnail", "thumbnails"),
)

_Columns = dict[str, list[Any]]
_INDEX = re.compile(r"|Unnamed: \d+(\.\d+)*")  # the header of an index that pandas wrote, or wrote and read again


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out: section `data` of params, or an entry of evaluate.cross, as the library takes it.

    `name`: imagefolder, csv or multi_ffdi. `classes`: what the data set calls its classes -> label, in any case; None
    for the usual words. `group`: regular expressions with (?P<group>...) searched in the paths of rows that have no
    group of their own, of which a share of `max_ungrouped` may get none. `limit`: the first rows of each given split.
    `columns`: of layout csv, what its table calls path, label, group and split; several for group: each names one that
    the row belongs to. `exclude`: patterns, in any case, of the names of folders that hold no examples of a class; None
    for the usual ones.
    """

    name: str
    table: str = "labels.csv"
    classes: Mapping[str, int] | None = None
    group: str | Sequence[str] | None = None
    max_ungrouped: float = 0.05
    limit: int | None = None
    columns: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    exclude: Sequence[str] | None = None


@dataclass(frozen=True)
class Listing:
    """What a layout lists: `rows`, one an image, and of every other file below the root (path, why it is `skipped`).

    `names` knows which listed names were found under another. `said` are lines that tell what its reader should know
    about the rows; `called` is what the data set calls real and fake, see labels.class_lines.
    """

    rows: pd.DataFrame
    skipped: list[tuple[str, str]]
    names: Names
    said: list[str]
    called: tuple[str, str]


@dataclass(frozen=True)
class _Read:
    """What the reader of a layout found: the `columns`, what their labels stand in, the tables that were read."""

    columns: _Columns
    labelled: Labelled
    called: tuple[str, str]  # what stands before and after a class's name: label ... of labels.csv
    tables: tuple[str, ...] = ()


def read_layout(root: Path, layout: Layout) -> Listing:
    """The images that a data set lists, none of them opened. Raises InputError naming file, row and rule."""
    if not root.is_dir():
        raise InputError(f"{root}: data.root is no folder")
    classes = Classes(layout.classes)
    if layout.name == "imagefolder":
        tree = _walk_classes(root, classes, layout.exclude)
        read = _imagefolder(root, classes, tree.images)
    else:
        tree = walk(root)
        read = _csv(root, layout, classes) if layout.name == "csv" else _multi_ffdi(root, classes)
    columns, labelled, tables = read.columns, read.labelled, read.tables
    names = Names(root, tree)
    columns["path"] = paths = names.files(columns["path"])
    if not paths:
        over = ", ".join(passed_over(tree.skipped))
        raise InputError(f"{root}: layout {layout.name} lists no image" + (f"; passed over: {over}" if over else ""))
    meaning = dict(zip(labelled.values, labelled.labels, strict=True))
    absent = classes.not_in(meaning)
    said = [f"data.classes: not in the data: {', '.join(absent)}"] if absent else []
    said += check_labels(labelled) + names.said()
    listed = {names.place(path): path for path in paths}
    skipped = [(path, NOT_LISTED + " or ".join(tables)) for path in tree.images if names.place(path) not in listed]
    others = ((path, TABLE if path in tables else reason) for path, reason in tree.skipped)
    skipped += [(path, reason) for path, reason in others if names.place(path) not in listed]
    skipped += [(path, BESIDE) for path in beside(root)]
    columns["group"] = [join_names(split_names(cell)) for cell in columns["group"]]
    if layout.group:
        patterns = [layout.group] if isinstance(layout.group, str) else layout.group
        columns["group"], missed = add_groups(columns["group"], paths, patterns, layout.max_ungrouped)
        said += missed
    rows = pd.DataFrame(columns)
    if layout.limit is not None:
        rows = rows.groupby("given_split", sort=False).head(layout.limit).reset_index(drop=True)
        taken = {names.place(path) for path in rows["path"]}
        beyond = [path for place, path in listed.items() if place not in taken]
        skipped += [(path, BEYOND_LIMIT) for path in beyond if os.path.lexists(root / path)]
    real, fake = ([repr(value) for value, one in sorted(meaning.items()) if one == label] for label in (0, 1))
    before, after = read.called
    called = (f"{before}{_one_of(real)}{after}", f"{before}{_one_of(fake)}{after}")
    return Listing(rows, skipped, names, said, called)


def _one_of(values: Sequence[str]) -> str:
    """'a', 'b' or 'c'."""
    few = [*values[:5], f"{len(values) - 5} more"] if len(values) > 6 else values
    return " or ".join(filter(None, (", ".join(few[:-1]), *few[-1:])))


def _walk_classes(root: Path, classes: Classes, exclude: Sequence[str] | None) -> Tree:
    """The tree without the folders that `exclude` names; those of a class or split are no such folders."""
    patterns = {pattern: pattern.casefold() for pattern in (NO_EXAMPLES if exclude is None else exclude)}
    used: set[str] = set()

    def excluded(folder: str) -> bool:
        *above, name = folder.casefold().split("/")
        own = name in SPLIT_NAMES or classes.of(folder.rpartition("/")[2]) is not None
        if own and (not above or (len(above) == 1 and above[0] in SPLIT_NAMES)):
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


def _imagefolder(root: Path, classes: Classes, paths: list[str]) -> _Read:
    """root/CLASS/**/image or root/SPLIT/CLASS/**/image: the folders' names give label and split, in any case."""
    splits: list[str] = []
    names: list[str] = []  # of the folders that may be classes
    inner: list[str] = []
    for path in paths:
        if not path.isascii() and path != path.encode(errors="replace").decode():
            raise InputError(f"{root}: file name {path!r} is not UTF-8: rename it")
        folders = path.split("/")[:-1]
        first = folders[0].casefold() if folders else ""
        split = first if first in SPLIT_NAMES and classes.of(first) is None else ""
        place = bool(split)
        splits.append(split)
        names.append(folders[place] if len(folders) > place else "")
        inner.append(path.split("/", place + 1)[-1])
    meaning = {name: classes.of(name) for name in sorted(set(names))}
    labels: list[int] = []
    for path, split, name in zip(paths, splits, names, strict=True):
        if (label := meaning[name]) is None:
            folder = "/".join(path.split("/")[: bool(split) + 1])
            where = f"folder {folder!r}" if name else f"{path!r} outside any class folder"
            line = classes_line(classes.with_values(meaning))
            say_which = f"; add {line} to data" if name else ""
            raise InputError(f"{root}: {where}: not in data.classes ({classes.known}){say_which}")
        labels.append(label)
    if "" in splits and any(splits):
        within, without = (next(p for p, s in zip(paths, splits) if bool(s) is want) for want in (True, False))
        both = f"{within!r} is in the folder of a split, {without!r} is in none"
        raise InputError(f"{root}: {both}: put all images into such folders, or none")
    columns: _Columns = {"path": paths, "label": labels, "group": [""] * len(paths)}
    labelled = Labelled(str(root), paths, inner, names, labels, {}, classes.given is not None)
    return _Read(columns | {"given_split": _given_splits(splits)}, labelled, ("folder ", ""))


def _csv(root: Path, layout: Layout, classes: Classes) -> _Read:
    """A table inside root with columns path, label and, if there, group and split; all others become attr_*."""
    called = {role: [names] if isinstance(names, str) else list(names) for role, names in layout.columns.items()}
    wanted = [called.get("path", ["path"])[0], called.get("label", ["label"])[0]]
    asked_for = [name for role in ("group", "split") for name in called.get(role, ())]
    hint = "data.columns says what the table calls path, label, group and split: `columns: {path: NAME, label: NAME}`"
    table = read_label_file(root / layout.table, (*wanted, *asked_for), hint=hint)
    own, (path, label) = table.columns, wanted
    roles = {role: [name for name in called.get(role, [role]) if name in own] for role in ("group", "split")}
    columns: _Columns = {
        "path": inside(root, "", table, path),
        "label": labels_of(table, label, classes),
        "group": _groups(table, roles["group"]),
        "given_split": _given_splits(_split_column(table, roles["split"])),
    }
    taken = {path, label, *roles["group"], *roles["split"]}
    others = {name: column for name, column in own.items() if name not in taken and not _INDEX.fullmatch(name)}
    paths, labels = columns["path"], columns["label"]
    evidence = {label: own[label]} | others
    labelled = Labelled(str(table.file), paths, paths, own[label], labels, evidence, classes.given is not None)
    return _Read(
        columns | {f"attr_{k}": v for k, v in others.items()},
        labelled,
        (f"{label} ", f" of {layout.table}"),
        (PurePosixPath(layout.table).as_posix(),),
    )


def _groups(table: LabelFile, names: Sequence[str]) -> list[str]:
    """What each row belongs to: the names in these columns."""
    if len(names) == 1:
        return table.columns[names[0]]
    if not names:
        return [""] * len(table.lines)
    cells = zip(*(table.columns[name] for name in names), strict=True)
    return [join_names(name for cell in row for name in split_names(cell)) for row in cells]


def _split_column(table: LabelFile, names: Sequence[str]) -> list[str]:
    """The lower-case names of splits, "" where there is no such column; InputError for the row of an unknown one."""
    own = table.columns[names[0]] if names else [""] * len(table.lines)
    splits = [split.lower() for split in own]
    if unknown := set(splits).difference(SPLIT_NAMES):
        row = next(i for i, split in enumerate(splits) if split in unknown)
        raise table.error(row, f"split {own[row]!r} is not one of train, test, val")
    return splits


def _multi_ffdi(root: Path, classes: Classes) -> _Read:
    """trainset/ and valset/ with trainset_label.txt and valset_label.txt (img_name,target; 1 = fake).

    They are in root or in its folder phase1.
    """
    top = "" if (root / "trainset_label.txt").exists() or not (root / "phase1").is_dir() else "phase1/"
    columns: _Columns = {"path": [], "label": [], "group": [], "given_split": []}
    tables: list[LabelFile] = []
    files = [f"{top}{name}_label.txt" for name in ("trainset", "valset")]
    for file, name, split in zip(files, ("trainset", "valset"), ("train", "test"), strict=True):
        table = read_label_file(root / file, ("img_name", "target"))
        columns["path"] += inside(root, f"{top}{name}/", table, "img_name")
        columns["label"] += labels_of(table, "target", classes)
        columns["group"] += [""] * len(table.lines)
        columns["given_split"] += [split] * len(table.lines)
        tables.append(table)
    of_both = [name for name in tables[0].columns if name != "img_name" and name in tables[1].columns]
    own = {name: [*tables[0].columns[name], *tables[1].columns[name]] for name in of_both}
    paths, labels = columns["path"], columns["label"]
    labelled = Labelled(str(root), paths, paths, own["target"], labels, own, classes.given is not None)
    return _Read(columns, labelled, ("target ", ""), tuple(files))
