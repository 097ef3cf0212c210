"""Where DVC looks for a data set: a link to its folder or archive, the manifest of its URL, or a folder of these.

DVC follows a link that is a dependency itself, and inside of a folder those to files, but none to folders. So each folder
of several sets is mirrored there, with a link to each file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ffdi.errors import FfdiError, InputError, placed
from ffdi.intake.listing.manifest import is_manifest, list_root
from ffdi.intake.settings import DataSettings
from ffdi.urls import local_path


def place_root(data: DataSettings, out: Path, resolve: Callable[[str], Path]) -> list[str]:
    """Link or list the data set at `out`, in place of what was there, and return the lines to say.

    `resolve` makes a path of params one of this machine. Raises InputError where `out` is anything else than what this
    function makes, for a root that is not there, and for one that holds `out`.
    """
    if not _is_ours(out):
        raise InputError(f"{out}: is no link and no manifest, but ffdi needs its place: move it elsewhere")
    places: list[Path | None] = [] if data.sets else [_place(data, out, resolve)]
    for one in data.sets:
        with placed(one.called):
            places.append(_place(one, out, resolve))
    try:
        if out.is_symlink() or out.is_file():
            out.unlink()
        elif out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        if not data.sets:
            return _made(data, places[0], out, _link)
        lines = []
        for one, place in zip(data.sets, places, strict=True):
            with placed(one.called):
                lines += _made(one, place, out / one.called, _mirror)
        return lines
    except OSError as error:
        raise FfdiError(f"{out}: cannot be linked: {error.strerror}") from error


def has_other_files(root: Path, out: Path) -> bool:
    """Whether a folder of several sets has other files than its mirror at `out` has links: DVC sees none that is new."""
    return out.is_dir() and not out.is_symlink() and _files_below(root) != _files_below(out)


def _files_below(folder: Path) -> set[str]:
    return {os.path.relpath(f"{here}/{name}", folder) for here, _, names in os.walk(folder) for name in names}


def _is_ours(out: Path) -> bool:
    """Whether there is nothing but links and manifests, in folders or not."""
    if out.is_symlink() or not out.is_dir():
        return not os.path.lexists(out) or out.is_symlink() or is_manifest(out)
    files = (Path(folder, name) for folder, _, names in os.walk(out) for name in names)
    return all(file.is_symlink() or is_manifest(file) for file in files)


def _place(data: DataSettings, out: Path, resolve: Callable[[str], Path]) -> Path | None:
    """The folder or archive of one set, None of one at a URL; InputError where it is not there, or holds `out`."""
    path = local_path(data.place)
    if path is None:
        return None
    root = resolve(path).absolute()
    if root == out.absolute() or out.parent.resolve().is_relative_to(root.resolve()):
        raise InputError(f"data.root: {root} is or holds what ffdi writes to: name a folder of images alone")
    if not root.exists():
        raise InputError(f"data.root: {root}: no such folder or archive")
    return root


def _made(data: DataSettings, root: Path | None, out: Path, link: Callable[[Path, Path], None]) -> list[str]:
    """One set: its manifest, or what `link` makes of a folder or an archive."""
    if root is None:
        return [list_root(data, out)]
    link(root, out)
    return []


def _link(root: Path, out: Path) -> None:
    place = out.parent.resolve()
    out.symlink_to(os.path.relpath(root, place) if root.is_relative_to(Path.cwd()) else root)


def _mirror(root: Path, out: Path) -> None:
    """The folders below root with a link to each of their files; a link to what is a file."""
    out.parent.mkdir(exist_ok=True)
    if root.is_file():
        _link(root, out)
        return
    for folder, _, names in os.walk(root):
        here = out / os.path.relpath(folder, root)
        here.mkdir()
        base = os.path.relpath(folder, here.resolve()) if root.is_relative_to(Path.cwd()) else folder
        for name in names:
            (here / name).symlink_to(f"{base}/{name}")
