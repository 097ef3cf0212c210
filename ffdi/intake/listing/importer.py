"""What ffdi knows of a layout: how a root in it is read and recognised, and which files are its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ffdi.intake.listing.layout_rows import LayoutRows
from ffdi.intake.settings import DataSettings


@dataclass(frozen=True)
class RootFiles:
    """What is below a root, as POSIX paths relative to it: the photos, and the videos where those are read, in `media`,
    in the order of their paths' parts; all else, but for hidden files, in `others`.

    `root` is the folder itself, or, of a data set at `url`, one with its tables alone.
    """

    root: Path
    media: Sequence[str]
    others: Sequence[str]
    url: str = ""

    def some(self) -> Sequence[str]:
        """Media evenly over all, some thousand, by which a layout is recognised."""
        return self.media[:: 1 + len(self.media) // 10_000]

    def tables(self, *patterns: str) -> list[str]:
        """The other files whose last parts match a pattern: `*.json` in any folder, `splits/*.json` in any `splits`."""
        return [path for path in self.others if any(map(PurePosixPath(path).match, patterns))]


@dataclass(frozen=True)
class LayoutFit:
    """That a root has a layout, and `why`, for a message. By `own_table`: a table, or folders, that no other layout has.

    `settings` are those of section `data` that go with the layout here, such as the name of the table.
    """

    why: str
    own_table: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """A layout: `read` has the duties of layout_rows.py; `recognise`, for `layout: auto`, gives the ways in which a root
    has it, none or more, and opens at most its tables; InputError for one of its own that cannot be read.

    `names` are tables that list every file, so that a root at a URL can be read where nobody lists; `patterns`, as in
    RootFiles.tables, are those of all others. `excluded` says of a folder's path whether it holds no examples.
    """

    read: Callable[[RootFiles, DataSettings], LayoutRows]
    recognise: Callable[[RootFiles, DataSettings], Sequence[LayoutFit]]
    names: Callable[[DataSettings], Sequence[str]] = lambda data: ()
    patterns: tuple[str, ...] = ()
    excluded: Callable[[str], bool] = lambda folder: False
