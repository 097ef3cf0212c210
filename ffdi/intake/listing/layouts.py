"""A data set's own layout -> one table of (path, label, group, given_split, attr_*), a row per listed image.

`path` is POSIX and relative to the root; `label` 0 or 1; `group` "" where nothing is known; `given_split` train, test
or "". No image is opened here.

A split named val, valid or validation is the test set where no split is named test. Where one is, it belongs to train,
because ffdi draws its own validation folds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.archives import files_outside
from ffdi.intake.groups import add_groups, join_names, split_names
from ffdi.intake.listing.auto import recognised
from ffdi.intake.listing.crop_sets import of_crop_sets
from ffdi.intake.listing.droppings import CLOUD, HIDDEN, SYSTEM, UNFINISHED
from ffdi.intake.listing.evidence import check_labels
from ffdi.intake.listing.imagefolder import walk_classes
from ffdi.intake.listing.importer import RootFiles
from ffdi.intake.listing.known_layouts import LAYOUTS
from ffdi.intake.listing.labels import Classes, class_lines
from ffdi.intake.listing.layout_rows import LayoutRows
from ffdi.intake.listing.media_rows import some
from ffdi.intake.listing.names import Names
from ffdi.intake.listing.path_attributes import path_attributes
from ffdi.intake.listing.remote_listing import RemoteListing
from ffdi.intake.listing.walk import (
    BESIDE,
    BEYOND_LIMIT,
    EXCLUDED,
    NOT_LISTED,
    TABLE,
    VIDEO,
    Search,
    Tree,
    passed_over,
    walk,
)
from ffdi.intake.settings import DataSettings
from ffdi.memory import uncollected


@dataclass(frozen=True)
class Listing:
    """What a layout lists: `rows`, one an image, and (path, reason) of every other file below the root, in `skipped`.

    `closest` gives the name on disk that is most like a listed one that is not there, if any is. `messages` are lines about
    the rows that the user should read. `class_names` is what the data set calls real and fake, see labels.class_lines.
    """

    rows: pd.DataFrame
    skipped: list[tuple[str, str]]
    closest: Callable[[str], str | None]
    messages: list[str]
    class_names: tuple[str, str]

    @property
    def unlisted(self) -> int:
        """How many images are on disk and not in the table."""
        return sum(reason.startswith(NOT_LISTED) for _, reason in self.skipped)

    @property
    def over(self) -> str:
        """A phrase about all else that is passed over; "" where nothing is."""
        phrases = ", ".join(passed_over(self.skipped))
        return phrases and f"passed over: {phrases}"


@uncollected()
def read_layout(root: Path, data: DataSettings, remote: RemoteListing | None = None) -> Listing:
    """The images that a data set lists, and the videos where `data` is of a section that reads them; none is opened.

    With `layout: auto` the first message says which layout was found, the next two which label is fake, with examples.
    Raises InputError naming file, row and rule. Of a data set at a URL, `root` is the folder of its tables, and `remote`
    knows its files.
    """
    if not root.is_dir():
        raise InputError(f"{root}: data.root is no folder: name that of the images")
    search: Search = remote.tree if remote else partial(walk, root, videos=data.videos)
    url = remote.remote.url if remote else ""
    auto = data.layout == "auto"
    messages: list[str] = []
    if auto:
        data, found = recognised(_files(root, search(_no_folder), url), data)
        messages.append(found)
    classes = Classes(data.classes)
    tree = _tree(search, root, data, classes)
    read = LAYOUTS[data.layout].read(_files(root, tree, url), data)
    names = Names(root, tree)
    columns = dict(read.columns)
    columns["path"] = paths = names.files(columns["path"])
    if not paths:
        raise _nothing_listed(root, data, tree)
    if auto:
        files = pd.DataFrame({"path": paths, "label": columns["label"]}).drop_duplicates()
        messages += class_lines(files, _class_names(read), "file")
    absent = classes.not_in(read.meaning)
    messages += [f"data.classes: not in the data: {', '.join(absent)}"] if absent else []
    messages += [*read.messages, *check_labels(read.labelled), *names.messages()]
    columns["group"] = [join_names(split_names(cell)) for cell in columns["group"]]
    if data.group:
        patterns = [data.group] if isinstance(data.group, str) else data.group
        columns["group"], about_groups = add_groups(columns["group"], paths, patterns, data.max_ungrouped)
        messages += about_groups
    columns |= path_attributes(columns, paths, data.attributes or {})
    rows = pd.DataFrame(columns)
    skipped = _skipped(root, tree, names, paths, read)
    if no_row := [path for path, reason in skipped if reason == read.unlisted]:
        are = "file is" if len(no_row) == 1 else "files are"
        messages.append(f"{len(no_row)} {are} {read.unlisted} and passed over: {some(no_row)}")
    if data.limit is not None:
        rows = rows.groupby("given_split", sort=False).head(data.limit).reset_index(drop=True)
        skipped += _beyond_limit(root, names, paths, list(rows["path"]))
    return Listing(rows, skipped, names.closest, messages, _class_names(read))


def recognised_layout(root: Path, data: DataSettings) -> str:
    """A line about the layout that `auto` takes for a folder. Raises InputError where it takes none."""
    return recognised(_files(root, walk(root, videos=data.videos), ""), data)[1]


def _tree(search: Search, root: Path, data: DataSettings, classes: Classes) -> Tree:
    if data.layout == "imagefolder":
        return walk_classes(search, root, classes, data.exclude)
    return search(LAYOUTS[data.layout].excluded)


def _files(root: Path, tree: Tree, url: str) -> RootFiles:
    hidden = (HIDDEN, SYSTEM, CLOUD, UNFINISHED, EXCLUDED)
    others = [path for path, reason in tree.skipped if not reason.startswith(hidden) and not path.endswith("/")]
    return RootFiles(root, tree.images, others, url)


def _nothing_listed(root: Path, data: DataSettings, tree: Tree) -> InputError:
    over = ", ".join(passed_over(tree.skipped))
    told = f"lists no image: correct data.root, or take another layout{f'; passed over: {over}' if over else ''}"
    if any(reason == VIDEO for _, reason in tree.skipped):
        told += "; section faces of params.yaml takes crops from videos"
    return InputError(f"{root}: layout {data.layout} {told}")


def _no_folder(folder: str) -> bool:
    return False


def _skipped(root: Path, tree: Tree, names: Names, paths: Sequence[str], read: LayoutRows) -> list[tuple[str, str]]:
    """(path, reason) of every file that no row lists, those outside an archive's top folder too."""
    listed = {names.place(path) for path in paths}
    unlisted = read.unlisted or NOT_LISTED + " or ".join(read.tables)
    skipped = [(path, unlisted) for path in tree.images if names.place(path) not in listed]
    tables = set(read.tables)
    others = ((path, TABLE if path in tables else reason) for path, reason in tree.skipped)
    skipped += [(path, reason) for path, reason in others if names.place(path) not in listed]
    return of_crop_sets(skipped) + [(path, BESIDE) for path in files_outside(root)]


def _beyond_limit(root: Path, names: Names, paths: Sequence[str], taken: Sequence[str]) -> list[tuple[str, str]]:
    """The listed files that data.limit leaves out."""
    taken_places = {names.place(path) for path in taken}
    listed = {names.place(path): path for path in paths}
    beyond = [path for place, path in listed.items() if place not in taken_places]
    return [(path, BEYOND_LIMIT) for path in beyond if path in names.there or os.path.lexists(root / path)]


def _class_names(read: LayoutRows) -> tuple[str, str]:
    before, after = read.around
    real, fake = (
        _one_of([repr(value) for value, label in sorted(read.meaning.items()) if label == wanted]) for wanted in (0, 1)
    )
    return f"{before}{real}{after}", f"{before}{fake}{after}"


def _one_of(values: Sequence[str]) -> str:
    """'a', 'b' or 'c'."""
    few = [*values[:5], f"{len(values) - 5} more"] if len(values) > 6 else values
    return " or ".join(filter(None, (", ".join(few[:-1]), *few[-1:])))
