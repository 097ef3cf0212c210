"""The files below a root: images, videos where they are asked for, and everything that is passed over, with the reason."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ffdi.errors import InputError, said
from ffdi.intake.decoding.formats import SUFFIXES, VIDEO_SUFFIXES
from ffdi.intake.listing.crop_sets import OF_THE_SET
from ffdi.intake.listing.droppings import HIDDEN, PLURALS, SYSTEM, beside, hidden, is_system_folder

_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".lz4")

EMPTY, SPECIAL, NO_SUFFIX = "empty folder", "no regular file", "no suffix"
ARCHIVE, VIDEO = "archive: unpack it", "video: stage faces takes its frames (section faces of params.yaml)"
OUT, LOOP, DANGLING = "link that leads out of the root", "link that loops", "link to nothing"
TWIN = "link to a folder that is read where it stands"
THROUGH_LINK = "folder that is read through another link"
TABLE, BEYOND_LIMIT, BESIDE = "table of labels", "beyond data.limit", "beside the archive's top folder"
NOT_LISTED = "not listed in "  # + the table's name
EXCLUDED = "in a folder called "  # + its name
_SUFFIX = "suffix "
_PLURAL = {
    **PLURALS,
    EMPTY: "empty folders",
    SPECIAL: "no regular files",
    VIDEO: "videos",
    OUT: "links that lead out of the root",
    LOOP: "links that loop",
    DANGLING: "links to nothing",
    TWIN: "links to folders that are read where they stand",
    THROUGH_LINK: "folders that are read through another link",
}
_COMMONEST = 3  # suffixes or archives that a message names


@dataclass(frozen=True)
class Tree:
    """Every file and link below a root, in exactly one of two lists of POSIX paths relative to it.

    `images` have an image's suffix, or a video's where videos are read, in the order of their paths' parts; `skipped`
    is (path, reason) of all others. A folder that is empty or cannot be entered is among these too, with a slash at its end. `through_links` has the
    path without links of what was found through one.
    """

    images: list[str]
    skipped: list[tuple[str, str]]
    through_links: dict[str, str]


Search = Callable[
    [Callable[[str], bool]], Tree
]  # finds the files outside the folders for whose path a function is true


def walk(root: Path, exclude: Callable[[str], bool] = lambda folder: False, *, videos: bool = False) -> Tree:
    """Find all files below root, itself a folder or a link to one.

    Hidden folders, those of the system, and folders for whose path `exclude` is true are not searched for images. A
    link to a folder is followed if the folder is inside root and is not read otherwise; links that lead out, loop or
    dangle are skipped. With `videos`, these are listed among the images. Raises InputError for a folder that cannot be
    read.
    """
    return _Walk(root, exclude, videos).tree()


class _Walk:
    def __init__(self, root: Path, exclude: Callable[[str], bool], videos: bool) -> None:
        self.root, self.exclude, self.videos = root, exclude, videos
        self.top = os.path.realpath(root)
        self.images: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self.walked: set[str] = set()  # folders by their resolved paths, relative to top
        self.links: list[str] = []  # to folders
        self.followed: dict[str, str] = {}  # link -> its folder's path without links
        self.closed: list[tuple[str, str, str]] = []  # folders not entered: (path, path without links, reason)

    def tree(self) -> Tree:
        self._enter("", "")
        while self.links:  # a folder that a link leads to may hold further ones
            link = self.links.pop(0)
            real = self._real(link)
            if real is None:
                self.skipped.append((link, OUT))
            elif real in self.walked:
                here = self._real(link.rpartition("/")[0]) or ""
                loops = real in ("", here) or here.startswith(f"{real}/")
                self.skipped.append((link, LOOP if loops else TWIN))
            else:
                self.followed[link] = real
                self._enter(link, real)
        for path, real, reason in self.closed:
            self._list_closed(path, real, reason)
        if self.followed:
            self.images.sort(key=lambda path: path.split("/"))
        return Tree(self.images, self.skipped, dict(self._through_links()))

    def _through_links(self) -> Iterator[tuple[str, str]]:
        for path in [*self.images, *(path for path, _ in self.skipped)] if self.followed else ():
            link = path
            while link := link.rpartition("/")[0]:
                if link in self.followed:
                    yield path, self.followed[link] + path[len(link) :]
                    break

    def _enter(self, path: str, real: str) -> None:
        """Walk the folder `path`, whose path without links is `real`, folder by folder, names sorted."""
        waiting: list[tuple[str, str, bool]] = [(path, real, True)]  # (path, real, whether a folder), the next one last
        while waiting:
            path, real, is_folder = waiting.pop()
            if not is_folder:
                self.images.append(path)
                continue
            if real in self.walked:
                self.skipped.append((f"{path}/", THROUGH_LINK))
                continue
            self.walked.add(real)
            try:
                entries = _entries(self.root / path)
            except OSError as error:
                raise InputError(f"{self.root / path}: {said(error)}") from error
            if not entries and path:
                self.skipped.append((f"{path}/", EMPTY))
            inner: list[tuple[str, str, bool]] = []
            for entry in entries:
                below = f"{path}/{entry.name}" if path else entry.name
                below_real = below if real == path else f"{real}/{entry.name}" if real else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if reason := _closed(entry.name, below, self.exclude):
                        self.closed.append((below, below_real, reason))
                    else:
                        inner.append((below, below_real, True))
                elif reason := hidden(entry.name):
                    self.skipped.append((below, reason))
                elif entry.is_symlink():
                    inner += [(below, below_real, False)] * self._link(below)
                elif reason := _not_read(entry.name, self.videos) if entry.is_file(follow_symlinks=False) else SPECIAL:
                    self.skipped.append((below, reason))
                else:
                    inner.append((below, below_real, False))
            waiting += reversed(inner)

    def _link(self, link: str) -> bool:
        """Whether a link leads to an image. A link to a folder is queued; all others are skipped with a reason."""
        try:
            mode = (self.root / link).stat().st_mode
        except OSError as error:
            self.skipped.append((link, LOOP if error.errno == errno.ELOOP else DANGLING))
            return False
        if stat.S_ISDIR(mode):
            if reason := _closed(link.rpartition("/")[2], link, self.exclude):
                self.skipped.append((link, reason))
            else:
                self.links.append(link)
            return False
        if (
            reason := OUT
            if self._real(link) is None
            else _not_read(link, self.videos)
            if stat.S_ISREG(mode)
            else SPECIAL
        ):
            self.skipped.append((link, reason))
        return not reason

    def _real(self, path: str) -> str | None:
        """The path with its links resolved, relative to top; None where it leads out of top."""
        target = os.path.realpath(f"{self.top}/{path}")
        if target == self.top:
            return ""
        inside = target.startswith(self.top.rstrip("/") + "/")
        return target[len(self.top.rstrip("/")) + 1 :] if inside else None

    def _list_closed(self, path: str, real: str, reason: str) -> None:
        """Skip the files of a folder that is not entered, except those that a link led to."""
        waiting = [(path, real)]
        while waiting:
            path, real = waiting.pop()
            if real in self.walked:
                continue
            self.walked.add(real)
            try:
                entries = _entries(self.root / path)
            except OSError:  # it need not be readable: list the folder itself
                self.skipped.append((f"{path}/", reason))
                continue
            if not entries:
                self.skipped.append((f"{path}/", reason))
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{path}/{entry.name}", f"{real}/{entry.name}"))
                else:
                    self.skipped.append((f"{path}/{entry.name}", reason))


def reason_to_skip(path: str, exclude: Callable[[str], bool], closed: dict[str, str], *, videos: bool = False) -> str:
    """Why walk would skip a plain file; "" for an image. `closed` keeps why a folder is not entered; at first {"": ""}."""
    folder, _, name = path.rpartition("/")
    return _why_closed(folder, exclude, closed) or hidden(name) or _not_read(name, videos)


def _why_closed(folder: str, exclude: Callable[[str], bool], closed: dict[str, str]) -> str:
    if folder not in closed:
        above, _, name = folder.rpartition("/")
        closed[folder] = _why_closed(above, exclude, closed) or _closed(name, folder, exclude)
    return closed[folder]


def _closed(name: str, path: str, exclude: Callable[[str], bool]) -> str:
    """Why a folder is not entered; "" where it is entered."""
    if is_system_folder(name):
        return SYSTEM
    if name.startswith("."):
        return HIDDEN
    return f"{EXCLUDED}{name}" if exclude(path) else ""


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _not_read(name: str, videos: bool) -> str:
    """Why a file name is not that of an image, nor of a video where `videos` are read; "" where it is."""
    lower = name.lower()
    if lower.endswith(SUFFIXES) or (videos and lower.endswith(VIDEO_SUFFIXES)):
        return ""
    if lower.endswith(_ARCHIVES):
        return ARCHIVE
    if lower.endswith(VIDEO_SUFFIXES):
        return VIDEO
    if reason := beside(name):
        return reason
    suffix = PurePosixPath(lower).suffix
    return f"{_SUFFIX}{suffix}" if suffix else NO_SUFFIX


def passed_over(skipped: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Counts of skipped files by reason: "12 images in folders called masks", "3 hidden", ... .

    Names archives, links that cannot be followed and the most common suffixes. Leaves out files that a table does not list.
    """
    by_reason: dict[str, list[str]] = {}
    for path, reason in skipped:
        by_reason.setdefault(reason, []).append(path)
    suffixes = Counter({"none": len(by_reason.pop(NO_SUFFIX, ()))})
    for reason in [r for r in by_reason if r.startswith(_SUFFIX)]:
        suffixes[reason.removeprefix(_SUFFIX)] = len(by_reason.pop(reason))
    for reason, paths in sorted(by_reason.items()):
        count = len(paths)
        if reason.startswith(EXCLUDED):
            what = "image" if all(path.lower().endswith(SUFFIXES) for path in paths) else "file"
            plural = "" if count == 1 else "s"
            yield f"{count} {what}{plural} in folder{plural} called {reason.removeprefix(EXCLUDED)}"
        elif reason == ARCHIVE:
            yield f"{count} {'archive' if count == 1 else 'archives'} to be unpacked ({_some(sorted(paths))})"
        elif reason in (OUT, DANGLING):
            yield f"{count} {reason if count == 1 else _PLURAL[reason]} ({_some(sorted(paths))})"
        elif not reason.startswith((NOT_LISTED, TABLE, OF_THE_SET)):
            yield f"{count} {reason.partition(':')[0] if count == 1 else _PLURAL.get(reason, reason)}"
    if total := suffixes.total():
        common = [f"{n} {suffix}" for suffix, n in sorted(suffixes.items(), key=lambda item: (-item[1], item[0])) if n]
        yield f"{total} without an image's suffix ({_some(common)})"


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:_COMMONEST]) + (", ..." if len(items) > _COMMONEST else "")
