"""The one kind of row that the importers of public data sets make, and the columns that such rows become."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ffdi.errors import InputError, one_line, said
from ffdi.intake.groups import join_names
from ffdi.intake.listing.evidence import Labelled
from ffdi.intake.listing.importer import LayoutFit, RootFiles
from ffdi.intake.listing.layout_rows import NO_EXAMPLES, Columns, LayoutRows, given_splits, refuse_no_utf8


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A photo or a video of a data set.

    `path` is relative to the root. `label` is 1 for fake, whatever the data set calls it; `value` is what gave it there:
    a folder, a cell. `groups` are the people, source videos or the like that it shows, () where they are not known;
    `given_split` is a name of SPLIT_NAMES. `attributes` become the columns attr_*, "" where a row lacks one.
    """

    path: str
    label: int
    groups: tuple[str, ...] = ()
    given_split: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    value: str = ""


@dataclass(frozen=True)
class RowSource:
    """Where the rows of an importer come from: the `layout`, the `tables` that were read, paths below the root.

    `around` is the text before and after a row's `value` in messages. `messages` are lines about the rows.
    """

    layout: str
    around: tuple[str, str] = ("folder ", "")
    tables: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()


def layout_rows(rows: Sequence[MediaRow], files: RootFiles, source: RowSource) -> LayoutRows:
    """What a reader returns, see layout_rows.py. Photos and videos below the root without a row are passed over.

    Labels that contradict words in paths or attributes stop the run, as those of any layout do.
    """
    paths, labels = [row.path for row in rows], [row.label for row in rows]
    refuse_no_utf8(files.root, paths)
    attributes = {
        name: [row.attributes.get(name, "") for row in rows]
        for name in dict.fromkeys(name for row in rows for name in row.attributes)
    }
    columns: Columns = {
        "path": paths,
        "label": labels,
        "group": [join_names(row.groups) for row in rows],
        "given_split": given_splits([row.given_split for row in rows]),
    }
    values = [row.value or ("real", "fake")[row.label] for row in rows]
    labelled = Labelled(str(files.root), paths, paths, values, labels, attributes, False, source.layout)
    return LayoutRows(
        columns | {f"attr_{name}": cells for name, cells in attributes.items()},
        labelled,
        source.around,
        source.tables,
        unlisted=f"not of layout {source.layout}",
        messages=source.messages,
    )


def no_example(folder: str) -> bool:
    """Whether a folder is named as those of masks, landmarks, thumbnails and their like are."""
    name = folder.rpartition("/")[2].casefold()
    return any(fnmatchcase(name, pattern) for pattern in NO_EXAMPLES)


def clip_in(parts: Sequence[str], pattern: re.Pattern[str]) -> re.Match[str] | None:
    """The name of a video in the parts of a path: the first folder that begins as `pattern` says, else the file."""
    return next(filter(None, map(pattern.match, parts)), None)


def fit_of(rows: Iterable[MediaRow | None], tables: Sequence[str]) -> list[LayoutFit]:
    """The layout fits where its importer makes a row of a file; `tables` are those of its own that are there."""
    if not (values := sorted({row.value for row in rows if row})):
        return []
    return [LayoutFit(", ".join([f"folders {some(values, 9)}", *tables]), own_table=bool(tables))]


def one_table(files: RootFiles, pattern: str) -> str | None:
    """The table that matches a pattern, in the fewest folders; None where there is none, InputError where two may be meant."""
    found = sorted(files.tables(pattern), key=lambda path: path.count("/"))
    if len(found) > 1 and found[0].count("/") == found[1].count("/"):
        raise InputError(
            f"{files.root}: {found[0]} and {found[1]}: name as data.root the folder of the one that is meant"
        )
    return found[0] if found else None


def not_there(table: str, listed: Collection[str], found: Iterable[str]) -> list[str]:
    """A line about the videos of a table of which no file is there, if there are such."""
    if not (absent := set(listed).difference(found)):
        return []
    return [f"{table}: {len(absent)} of {len(listed)} videos are not there, such as {some(absent)}"]


def read_json(file: Path) -> Any:
    """What a JSON file holds; InputError where it is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{file}: {said(error)}") from error
    except ValueError as error:
        raise InputError(f"{file}: no JSON: {one_line(error)}") from None


def some(names: Iterable[str], most: int = 3) -> str:
    """The first names, sorted, for a message: "a, b, c, ..."."""
    few = sorted(names)
    return ", ".join(few[:most]) + (", ..." if len(few) > most else "")
