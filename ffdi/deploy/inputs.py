"""What the arguments of a command name: files, folders, globs, a list on stdin, tables with a column `path`."""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ffdi.errors import InputError
from ffdi.intake.decoding.formats import format_of
from ffdi.intake.listing.walk import passed_over, walk
from ffdi.intake.table_files.names import is_parquet
from ffdi.urls import is_url, shown

LIST_ON_STDIN, TABLES = "-", (".csv", ".tsv", ".parquet")
_BOM = b"\xef\xbb\xbf"


@dataclass
class Inputs:
    """The files that are scored, in order; lines about what folders hold beside images; and about where no image is.

    With `videos`, those of folders are scored too.
    """

    videos: bool = False
    files: list[Path] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """A file, or the images of a folder and of those in it."""
        if not path.is_dir():
            self.files.append(path)
            return
        tree = walk(path, videos=self.videos)
        self.files += [path / image for image in tree.images]
        over = ", ".join(passed_over(tree.skipped))
        if not tree.images:
            self.empty.append(
                f"{path}: no image {'or video ' if self.videos else ''}in it"
                + (f"; passed over: {over}" if over else "")
            )
        elif over:
            self.passed_over.append(f"{path}: passed over: {over}")


def find_inputs(arguments: Iterable[str], stdin: BinaryIO, *, videos: bool = False) -> Inputs:
    """What the arguments name, in their order; nothing is opened but tables.

    An argument is a file, a folder, a table (csv or Parquet) with a column `path`, relative to its folder, or `-` for a list
    on stdin: a file or folder a line, or separated by NUL where there is one. One that does not exist may be a glob, in which
    `**` stands for folders at any depth. A file that does not exist is among the files: its row says so. Raises InputError
    for a folder or a table that cannot be read, and for a URL. With `videos`, those of folders are among the files.
    """
    found = Inputs(videos=videos)
    for argument in arguments:
        if argument == LIST_ON_STDIN:
            for path in _listed(stdin.read()):
                found.add(path)
            continue
        if is_url(argument):
            raise InputError(f"{shown(argument)}: files at a URL are not read here: download or mount them")
        matches = _matches(argument)
        if not matches:
            found.empty.append(f"{argument}: matches no file")
        for path in matches:
            if path.suffix.lower() in TABLES and path.is_file():
                found.files += _rows(path, found.passed_over)
            else:
                found.add(path)
    return found


def _matches(argument: str) -> list[Path]:
    if os.path.lexists(argument) or not set("*?[") & set(argument):
        return [Path(argument)]
    return [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207 - as a shell does


def _listed(data: bytes) -> Iterator[Path]:
    """The paths of a list, without those that are empty."""
    if format_of(data) in ("JPEG", "PNG"):
        raise InputError("stdin is an image; - takes a list of paths: name the image itself")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes to a file
        data = data.decode("utf-16", errors="surrogatepass").encode(errors="surrogatepass")
    names = data.removeprefix(_BOM).split(b"\0") if b"\0" in data else data.removeprefix(_BOM).splitlines()
    return (Path(os.fsdecode(name)) for name in names if name)


def _rows(table: Path, told: list[str]) -> list[Path]:
    """The files of a table; InputError where not one of them exists. What is unlike a plain csv is added to `told`."""
    if is_parquet(table):
        from ffdi.intake.tables import read_table  # pandas takes long to load

        paths = list(read_table(table, ("path",), others=False)["path"])
    else:
        from ffdi.intake.listing.label_files import read_label_file  # so does Arrow

        read = read_label_file(table, ("path",), root=table.parent)
        paths = read.columns["path"]
        told += filter(None, [read.told])
    files = [table.parent / path for path in paths]
    if not any(map(os.path.lexists, files)):
        raise InputError(
            f"{table}: none of its {len(files)} paths exists, such as {files[0]}: they start from the folder of the table"
        )
    return files
