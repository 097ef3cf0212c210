"""JSON files that list the frames of videos, as DeepfakeBench and DF40 write them.

{DATASET: {LABEL: {"train", "val" or "test": {VIDEO: {"label": LABEL, "frames": [path, ...]}}}}}, for FaceForensics++ with a
compression above the videos. Paths are those of the machine that wrote them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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

    Of a root at a URL, those in folders alone.
    Raises InputError for a file that is no JSON, and for an unknown name of a split beside known ones.
    """
    beside = [path for path in files.tables("*.json") if "/" not in path and (files.root / path).is_file()]
    lists = {table: _list_in(files.root / table) for table in [*files.tables(FOLDERS), *beside]}
    return {table: videos for table, videos in lists.items() if videos}


def _list_in(file: Path) -> list[ListedVideo]:
    videos = list(_videos(read_json(file), ()))
    unknown = {video.split for video in videos}.difference(SPLIT_NAMES)
    known = [replace(video, split=SPLIT_NAMES[video.split]) for video in videos if video.split not in unknown]
    if known and unknown:
        raise InputError(f"{file}: split {min(unknown)!r} is not one of train, test, val")
    return known


def _videos(node: Any, keys: tuple[str, ...]) -> Iterator[ListedVideo]:
    if not isinstance(node, dict):
        return
    if len(keys) > 2 and isinstance(node.get("frames"), list):
        label = str(node.get("label", keys[1]))
        yield ListedVideo(label, keys[2], keys[3] if len(keys) == 5 else "", node["frames"])
    else:
        for key, inner in node.items():
            yield from _videos(inner, (*keys, key))


def fits_of_lists(files: RootFiles) -> list[LayoutFit]:
    """Whether there are such lists, for `layout: auto`."""
    tables = frame_lists(files)
    return [LayoutFit(f"frames listed in {some(tables)}", own_table=True)] * bool(tables)


class FramePlaces:
    """Finds the files below the root that the paths of one list mean: without `above`, the folders of another machine.

    These are the same before every path: methods share the names of videos, so a shorter end of a path may be another's.
    """

    def __init__(self, files: RootFiles, table: str, videos: Sequence[ListedVideo]) -> None:
        self.files, self.table = files, table
        self.there = set(files.media)
        found = (self._found(_slashed(frame)) for video in videos for frame in video.frames)
        self.above = next((above for above in found if above is not None), "")

    def of(self, frame: object) -> str:
        """The file, or, where none is there, its place beside the others.

        Raises InputError for a path that leads out of the root, and for one that has other folders before it.
        """
        path = _slashed(frame)
        file = path.removeprefix(self.above)
        if file in self.there:
            return file
        if (above := self._found(path)) is not None:
            both = f"{path[len(above) :]} is below {above or 'the root'!r}, others are below {self.above!r}"
            raise InputError(
                f"{self.files.root / self.table}: {both}: data.root is the folder that all paths start from"
            )
        top = os.path.realpath(self.files.root)
        if ".." in file.split("/") or not os.path.realpath(f"{top}/{file}").startswith(f"{top}/"):
            raise InputError(f"{self.files.root / self.table}: path {frame!r} leads out of the root")
        return file

    def _found(self, path: str) -> str | None:
        """What stands before the file in a path, with as many folders as a file has; None where no file is meant."""
        parts = path.split("/")
        cuts = (cut for cut in range(len(parts) - 1) if "/".join(parts[cut:]) in self.there)
        return next(("/".join([*parts[:cut], ""]) for cut in cuts), None)


def _slashed(frame: object) -> str:
    parts = [part for part in str(frame).replace("\\", "/").split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        parts.pop(0)
    return "/".join(parts)
