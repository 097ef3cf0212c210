"""What is below a root at a URL: its files as a tree, and the tables of labels, for the readers of the layouts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ffdi.errors import FfdiError, InputError
from ffdi.intake.decoding.formats import MEDIA_SUFFIXES
from ffdi.intake.decoding.image_source import LIST_AGAIN
from ffdi.intake.listing.csv_table import TABLES
from ffdi.intake.listing.importer import RootFiles
from ffdi.intake.listing.known_layouts import LAYOUTS
from ffdi.intake.listing.walk import Tree, reason_to_skip
from ffdi.intake.settings import DataSettings
from ffdi.parallel import ordered_map
from ffdi.storage import Remote, RemoteFile

_AT_ONCE = 64  # files that are asked for at a time, where the store cannot list


@dataclass(frozen=True)
class RemoteListing:
    """The files below a URL: their `sizes` by path, in the order of the paths' parts.

    `folder` is one of this machine, with the tables of labels alone. `videos`: they are read as images are.
    """

    remote: Remote
    sizes: dict[str, int]
    folder: Path
    videos: bool = False

    def tree(self, exclude: Callable[[str], bool] = lambda folder: False) -> Tree:
        """As walk of a folder with these files: a store has neither links nor empty folders."""
        images: list[str] = []
        skipped: list[tuple[str, str]] = []
        closed: dict[str, str] = {"": ""}  # folder -> why it is not entered
        for path in self.sizes:
            if reason := reason_to_skip(path, exclude, closed, videos=self.videos):
                skipped.append((path, reason))
            else:
                images.append(path)
        return Tree(images, skipped, {})


@contextmanager
def remote_listing(remote: Remote, data: DataSettings, sizes: dict[str, int] | None = None) -> Iterator[RemoteListing]:
    """The files below a root, those of `sizes`, as a manifest has them, or as the store lists them now.

    An error of the body that names the tables' folder names the URL instead.
    """
    with tempfile.TemporaryDirectory(prefix="ffdi-tables-") as temporary:
        folder = Path(temporary)
        if sizes is None:
            sizes = {file.path: file.size for file in list_files(remote, data, folder)}
        _fetch_tables(remote, data, folder, sizes)
        in_order = sorted(sizes, key=lambda path: path.split("/"))
        try:
            yield RemoteListing(remote, {path: sizes[path] for path in in_order}, folder, data.videos)
        except FfdiError as error:
            if str(folder) not in str(error):
                raise
            raise _renamed(error, folder, remote) from None


def list_files(remote: Remote, data: DataSettings, folder: Path) -> Iterator[RemoteFile]:
    """The files below a root, streamed: those that the store lists, or, as data.list_by says and where it cannot list,
    the tables, which are fetched to `folder`, and the files that they name."""
    if data.list_by != "table" and remote.can_list:
        yield from remote.files()
        return
    tables = _fetch_tables(remote, data, folder, {})
    try:
        paths = _listed(folder, data, remote)
    except FfdiError as error:
        raise _renamed(error, folder, remote) from None
    yield from tables
    yield from filter(None, ordered_map(remote.file, sorted(set(paths)), _AT_ONCE))


def _fetch_tables(remote: Remote, data: DataSettings, folder: Path, sizes: Mapping[str, int]) -> list[RemoteFile]:
    """Download the tables that a layout reads to `folder`; InputError for one that is not of the size in `sizes`."""
    found = []
    for name in _tables(data, sizes):
        if ".." in PurePosixPath(name).parts:
            raise InputError(f"data.table: {name!r} leads out of {remote.url}")
        there = None if PurePosixPath(name).is_absolute() else remote.file(name)  # else it is one of this machine
        if there is None:
            continue
        if there.size != sizes.get(name, there.size):
            raise InputError(f"{remote.at(name)}: has changed since it was listed: {LIST_AGAIN}")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        remote.get(name, target, there.size)
        found.append(there)
    return found


def _tables(data: DataSettings, sizes: Mapping[str, int]) -> list[str]:
    """The names of tables of a layout; with `auto`, of those that any layout has."""
    kinds = list(LAYOUTS.values()) if data.layout == "auto" else [LAYOUTS[data.layout]]
    named = [name for kind in kinds for name in kind.names(data) if data.layout != "auto" or name in sizes]
    patterns = {pattern for kind in kinds for pattern in kind.patterns}
    known = RootFiles(Path(), (), [path for path in sizes if not path.lower().endswith(MEDIA_SUFFIXES)])
    beside = [path for path in known.tables(*TABLES) if "/" not in path] if data.layout == "auto" else []
    return list(dict.fromkeys([*named, *known.tables(*patterns), *beside]))


def tables_by_name(remote: Remote, data: DataSettings) -> Sequence[str]:
    """The tables that list every file of a layout, under their names; InputError where it has none such."""
    if data.layout == "auto" or not (names := LAYOUTS[data.layout].names(data)):
        cure = "name the layout" if data.layout == "auto" else "take layout csv, whose table names the files"
        raise InputError(f"{remote.url}: a web server lists no files, as layout {data.layout} needs: {cure}")
    return names


def _listed(folder: Path, data: DataSettings, remote: Remote) -> list[str]:
    """The paths that the tables in `folder` name."""
    names = tables_by_name(remote, data)
    files = RootFiles(folder, (), [name for name in names if (folder / name).is_file()], remote.url)
    return LAYOUTS[data.layout].read(files, data).columns["path"]


def _renamed(error: FfdiError, folder: Path, remote: Remote) -> FfdiError:
    return type(error)(str(error).replace(str(folder), remote.url))
