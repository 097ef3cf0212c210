"""The manifest of a root at a URL: the file that DVC takes for the data set, in place of a link to a folder.

A line with the URL, a header, then path, size and ETag of each file as the store lists them. So a changed image changes
the manifest, and nothing is downloaded to find that out.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ffdi.errors import InputError
from ffdi.files import human_bytes, replacing
from ffdi.intake.listing.remote_listing import list_files
from ffdi.intake.remote_archives import is_archive_name
from ffdi.intake.settings import DataSettings
from ffdi.storage import Remote, RemoteFile

_HEADER = ["path", "size", "etag"]


def list_root(data: DataSettings, out: Path) -> str:
    """Write the manifest of a data set at a URL, and say what is there; an archive is a root of one file."""
    remote = Remote(data.place)
    with tempfile.TemporaryDirectory(prefix="ffdi-tables-") as folder:
        files = _archive(remote) if is_archive_name(remote.url) else list_files(remote, data, Path(folder))
        count, held = write_manifest(out, remote, files)
    return f"{remote.url}: {count} file{'s' * (count != 1)}, {human_bytes(held)}"


def _archive(remote: Remote) -> Iterable[RemoteFile]:
    there = remote.file("")
    return [RemoteFile(PurePosixPath(remote.url).name, there.size, there.etag)] if there else []


def write_manifest(file: Path, remote: Remote, files: Iterable[RemoteFile]) -> tuple[int, int]:
    """Write the manifest of a root; how many files it has, and how many bytes they have. InputError where there is none."""
    count = held = 0
    with replacing(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["url", remote.url])
        rows.writerow(_HEADER)
        for one in files:
            rows.writerow([one.path, one.size, one.etag])
            count, held = count + 1, held + max(one.size, 0)
        if not count:
            raise InputError(f"{remote.url}: no file below it: correct data.root")
    return count, held


def is_manifest(file: Path) -> bool:
    """Whether a file is one that write_manifest has written."""
    if not file.is_file():
        return False
    with open(file, "rb") as opened:
        return opened.read(4) == b"url,"


def read_manifest(file: Path, remote: Remote) -> dict[str, int] | None:
    """The size of each file in a manifest; None where it is not there, or of another root."""
    if not is_manifest(file):
        return None
    with open(file, encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        if next(rows, None) != ["url", remote.url] or next(rows, None) != _HEADER:
            return None
        return {path: int(size) for path, size, _ in rows}
