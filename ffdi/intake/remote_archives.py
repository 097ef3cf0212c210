"""A data set that is one zip or tar file at a URL: fetched once, and unpacked as one of this machine is."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from ffdi.errors import FfdiError, InputError
from ffdi.intake.archives import check_room, kept, kind, top, unpack_once
from ffdi.storage import Remote


def unpacked_from_url(remote: Remote) -> Path:
    """As unpacked, of an archive at a URL; the key hashes its URL, size and ETag. It is fetched once, and not kept itself.

    Raises StorageError where it cannot be fetched.
    """
    there = remote.file("")
    if there is None:
        raise InputError(f"{remote.url}: no such archive: correct data.root")

    def make(folder: Path) -> Path:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            archive = Path(temporary) / PurePosixPath(remote.url).name
            check_room(archive, there.size, folder.parent)
            remote.get("", archive, there.size)
            try:
                return unpack_once(archive, folder, kind(archive))
            except FfdiError as error:
                raise type(error)(str(error).replace(str(archive), remote.url)) from error

    return top(kept(f"{remote.url}\0{there.size}\0{there.etag}", make))


def is_archive_name(name: str) -> bool:
    """Whether a file is called as a zip or tar archive is."""
    return name.lower().endswith((".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz"))
