"""Layout imagefolder: folders named after classes, in folders named after splits where there are any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ffdi.errors import InputError
from ffdi.intake.listing.evidence import Labelled
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.labels import Classes, classes_line
from ffdi.intake.listing.layout_rows import (
    NO_EXAMPLES,
    SPLIT_NAMES,
    Columns,
    LayoutRows,
    given_splits,
    refuse_no_utf8,
)
from ffdi.intake.listing.walk import Search, Tree, reason_to_skip
from ffdi.intake.settings import DataSettings


def walk_classes(search: Search, root: Path, classes: Classes, exclude: Sequence[str] | None) -> Tree:
    """The files that `search` finds below root outside the folders that `exclude` names. A class or split folder is never excluded.

    Raises InputError for a pattern of `exclude` that names no folder.
    """
    used: set[str] = set()
    tree = search(_excluded(classes, exclude, used))
    if exclude is not None and (idle := [pattern for pattern in exclude if pattern not in used]):
        raise InputError(f"data.exclude: {idle[0]!r} is the name of no folder below {root}: leave it out")
    return tree


def _excluded(classes: Classes, exclude: Sequence[str] | None, used: set[str]) -> Callable[[str], bool]:
    """Whether the folder at a path is excluded; `used` gets the patterns that name one."""
    patterns = {pattern: pattern.casefold() for pattern in (NO_EXAMPLES if exclude is None else exclude)}

    def excluded(folder: str) -> bool:
        *above, name = folder.casefold().split("/")
        is_class_or_split = name in SPLIT_NAMES or classes.of(folder.rpartition("/")[2]) is not None
        if is_class_or_split and (not above or (len(above) == 1 and above[0] in SPLIT_NAMES)):
            return False
        matching = [pattern for pattern, folded in patterns.items() if fnmatchcase(name, folded)]
        used.update(matching)
        return bool(matching)

    return excluded


def _recognise(files: RootFiles, data: DataSettings) -> list[LayoutFit]:
    classes, closed = Classes(data.classes), {"": ""}
    excluded = _excluded(classes, data.exclude, set())
    read = [path for path in files.media if not reason_to_skip(path, excluded, closed, videos=True)]
    names = {_place_in_folders(classes, path).name for path in read}
    if not names or any(classes.of(name) is None for name in names):
        return []
    return [LayoutFit(f"folders {', '.join(sorted(names))}")]


def read_imagefolder(root: Path, classes: Classes, paths: Sequence[str]) -> LayoutRows:
    """root/CLASS/**/image or root/SPLIT/CLASS/**/image: the folders' names give label and split, in any case."""
    refuse_no_utf8(root, paths)
    placed = [_place_in_folders(classes, path) for path in paths]
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
    columns: Columns = {"path": list(paths), "label": labels, "group": [""] * len(paths)}
    inner = [place.inner for place in placed]
    labelled = Labelled(str(root), columns["path"], inner, names, labels, {}, classes.given is not None)
    return LayoutRows(columns | {"given_split": given_splits(splits)}, labelled, ("folder ", ""))


@dataclass(frozen=True)
class _Place:
    """From the folders of an image: its split or "", the `name` of its class or "", its `inner` path below those."""

    split: str
    name: str
    inner: str


def _place_in_folders(classes: Classes, path: str) -> _Place:
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


IMAGEFOLDER = Importer(
    lambda files, data: read_imagefolder(files.root, Classes(data.classes), files.media), recognise=_recognise
)
