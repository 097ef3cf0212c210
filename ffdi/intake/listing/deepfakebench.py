"""Layout deepfakebench: lists of frames as DeepfakeBench and DF40 write them, see frame_lists.py, with the frames below the root.

A label is real or fake by its last word: CelebDFv2_real, DFDCP_FakeA; FF-real, but FF-DF, FF-F2F, FF-FS, FF-NT, FF-FH.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from ffdi.errors import InputError
from ffdi.intake.listing.df40 import DF40_METHODS
from ffdi.intake.listing.frame_lists import FOLDERS, FramePlaces, ListedVideo, fits_of_lists, frame_lists
from ffdi.intake.listing.importer import Importer, RootFiles
from ffdi.intake.listing.layout_rows import LayoutRows
from ffdi.intake.listing.media_rows import MediaRow, RowSource, layout_rows, some

_FF = {"FF-DF": "Deepfakes", "FF-F2F": "Face2Face", "FF-FS": "FaceSwap", "FF-NT": "NeuralTextures"}
_FF |= {"FF-FH": "FaceShifter", "FF-SH": "FaceShifter"}
_NAMED = re.compile(r"(?:.*[_-])?(real|fake)[ab]?", re.IGNORECASE)
# How videos are named after people: FaceForensics++ with DeeperForensics, DeepFakeDetection, Celeb-DF, UADFV, DFDC's preview
_CLIP = re.compile(
    r"(\d{3})(?:_(\d{3}|[MW]\d{3}))?|(\d\d)_(?:(\d\d)_)?_.*|(id\d+)_(?:(id\d+)_)?\d+|(\d{4})(?:_fake)?|(\d+)_(?:(\d+)_)?[A-Z]_\d+"
)
_ACTOR = re.compile(r"[MW]\d{3}")  # of DeeperForensics, a folder
_Listed = Mapping[str, tuple[MediaRow, set[str]]]  # path -> the row, the splits that list it


def _read(files: RootFiles, given: Mapping[str, int]) -> LayoutRows:
    listed: dict[str, tuple[MediaRow, set[str]]] = {}
    for table, videos in (tables := frame_lists(files)).items():
        places = FramePlaces(files, table, videos)
        for video in videos:
            if (label := _label(video.label, given)) is None:
                cure = f"add `classes: {{{video.label}: 0 or 1}}` to data"
                raise InputError(f"{files.root / table}: label {video.label!r} is neither real nor fake: {cure}")
            for path in map(places.of, video.frames):
                row, splits = listed.setdefault(path, (_row(path, video, label), set()))
                if row.label != label:
                    both = f"{video.label!r} here, and {row.value!r} elsewhere"
                    raise InputError(f"{files.root / table}: {path} is {both}: mend one")
                splits.add(video.split)
    if listed.keys().isdisjoint(files.media):
        such = f"none of {len(listed)} frames is there, such as {min(listed)}" if listed else f"no list, {FOLDERS}"
        raise InputError(f"{files.url or files.root}: {such}: data.root is the folder of the frames and of their list")
    parted = {row.value for row, splits in listed.values() if "train" in splits and "test" not in splits}
    rows = [replace(row, given_split=_split(splits, row.value in parted)) for row, splits in listed.values()]
    source = RowSource("deepfakebench", ("label ", ""), tuple(tables), tuple(_told(rows, listed)))
    return layout_rows(rows, files, source)


def _label(value: str, given: Mapping[str, int]) -> int | None:
    if value in given or value in _FF or value.casefold() in DF40_METHODS:
        return given.get(value, 1)
    named = _NAMED.fullmatch(value)
    return int(named[1].lower() == "fake") if named else None


def _row(path: str, video: ListedVideo, label: int) -> MediaRow:
    folder, name = path.rpartition("/")[0], video.label
    folder = "" if folder.rpartition("/")[2].lower() in ("real", "fake") else folder  # pictures that are of no video
    clip = _CLIP.fullmatch(folder.rpartition("/")[2])
    people = clip.groups() if clip else [part for part in path.split("/") if _ACTOR.fullmatch(part)] or [folder]
    method = _FF.get(name, name.removesuffix("_fake").removesuffix("_Fake")) if label else ""
    attributes = {"method": method, "compression": video.compression, "video": folder}
    return MediaRow(path, label, tuple(filter(None, people)), "", attributes, name)


def _split(splits: Collection[str], is_parted: bool) -> str:
    """Test before train: a list of all videos is called train where tests are drawn from it. "" where both are one list."""
    if {"train", "test"} <= set(splits):
        return "test" if is_parted else ""
    return next(name for name in ("test", "train", "val", "") if name in splits)


def _told(rows: list[MediaRow], listed: _Listed) -> Iterator[str]:
    if twice := [row for row in rows if {"train", "test"} <= listed[row.path][1]]:
        test = sum(row.given_split == "test" for row in twice)
        yield f"{len(twice)} frames are listed for train and test: {test} are taken for test, the others have no given split"
    train, tested = (
        {one for row in rows if row.given_split == split for one in row.groups} for split in ("train", "test")
    )
    if both := train & tested:
        cure = "with split.use_given: false a test set of other people is drawn"
        yield f"{len(both)} people are in train and in test, such as {some(both)}: {cure}"


DEEPFAKEBENCH = Importer(
    lambda files, data: _read(files, data.classes or {}), lambda files, data: fits_of_lists(files), patterns=(FOLDERS,)
)
