"""JSON files that list the frames of videos, as DeepfakeBench and DF40 write them.

{DATASET: {LABEL: {"train", "val" or "test": {VIDEO: {"label": LABEL, "frames": [path, ...]}}}}}, for FaceForensics++ with a
compression above the videos. Paths are those of the machine that wrote them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ffdi.errors import InputError
from ffdi.intake.listing.importer import LayoutFit, RootFiles
from ffdi.intake.listing.layout_rows import SPLIT_NAMES
from ffdi.intake.listing.media_rows import read_json, some

FOLDERS = "dataset_json*/*.json"


@dataclass(frozen=True)
class ListedVideo:
    """A video of a list: what it says of it, and its frames as they stand there."""

    label: str
    split: str
    compression: str
    frames: list[Any]


def frame_lists(files: RootFiles) -> dict[str, list[ListedVideo]]:
    """The lists of frames among the JSON files in folders dataset_json and in the root; others are passed over.

    Raises InputError for a file that is no JSON.
    """
    candidates = files.tables(FOLDERS) + [path for path in files.tables("*.json") if "/" not in path]
    lists = {table: list(_videos(read_json(files.root / table), ())) for table in candidates}
    return {table: videos for table, videos in lists.items() if videos}


def _videos(node: Any, keys: tuple[str, ...]) -> Iterator[ListedVideo]:
    if not isinstance(node, dict) or (len(keys) == 3 and keys[2] not in SPLIT_NAMES):
        return
    if len(keys) > 2 and isinstance(node.get("frames"), list):
        label = str(node.get("label", keys[1]))
        yield ListedVideo(label, SPLIT_NAMES[keys[2]], keys[3] if len(keys) == 5 else "", node["frames"])
    else:
        for key, inner in node.items():
            yield from _videos(inner, (*keys, key))


def fits_of_lists(files: RootFiles) -> list[LayoutFit]:
    """Whether there are such lists, for `layout: auto`."""
    try:
        tables = frame_lists(files)
    except InputError:
        return []
    return [LayoutFit(f"frames listed in {some(tables)}", own_table=True)] * bool(tables)


@dataclass
class FramePlaces:
    """Finds the file below the root that a path means: without as many of its first folders as it takes."""

    files: RootFiles
    cuts: list[int] = field(default_factory=list)  # how many folders were left out so far, the last one first

    def __post_init__(self) -> None:
        self.there = set(self.files.media)

    def of(self, path: str) -> str:
        """The file, or, where none is there, its place beside the others; InputError where that leads out of the root."""
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        while parts and parts[0] == "..":
            parts.pop(0)
        for cut in (*self.cuts, *range(len(parts) - 1)):
            if (file := "/".join(parts[cut:])) in self.there:
                self.cuts = [cut, *(other for other in self.cuts if other != cut)]
                return file
        file = "/".join(parts[self.cuts[0] if self.cuts else 0 :])
        top = os.path.realpath(self.files.root)
        if ".." in parts or not os.path.realpath(f"{top}/{file}").startswith(f"{top}/"):
            raise InputError(f"{self.files.url or top}: path {path!r} leads out of the root")
        return file
