"""A data set that is one zip or tar file -> a folder of its files, unpacked once into the cache.

Archives come from strangers. An archive is refused if it would write outside its folder, hide another file, fill disk
or memory, or if it is damaged and lost files. Only files are unpacked: no links, owners, modes or times.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from ffdi.errors import FfdiError, InputError, said
from ffdi.files import cache_folders, human_bytes, in_cache, locked, replacing_folder
from ffdi.intake.listing.droppings import hidden, is_system_folder
from ffdi.intake.listing.zip_names import names_of

RATIO = 100  # an archive of images is hardly smaller than its images; a bomb is thousands of times smaller
YOURSELF = "unpack it yourself, or pack it again with another program"
ANEW = "get it anew"
NO_FILE = f"is a link or a device: only files and folders are unpacked: {YOURSELF}"
SPARE = 1_000_000  # bytes that even a tiny archive may unpack to
DEEPEST = 100  # folders in a name
_BLOCK = 1 << 20
_LONGEST_HEADER = 1 << 24  # tarfile reads the extensions of a header into memory at once
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def unpacked(archive: Path) -> Path:
    """The folder of the archive's files, or its one top folder if nothing is beside it; a folder is returned as is.

    Unpacks to archives/<key> in the cache, where the key hashes the archive's path, size and time. This happens once,
    completely or not at all; while another process unpacks, it waits. The kind of archive is known by its content.
    Raises InputError naming archive and member for an archive that is damaged or unsafe, FfdiError where the disk is
    too small.
    """
    if archive.is_dir():
        return archive
    try:
        members = kind(archive)
        status = archive.stat()
        identity = f"{archive.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        return top(kept(identity, lambda folder: unpack_once(archive, folder, members)))
    except OSError as error:
        raise FfdiError(f"{archive}: cannot be unpacked: {said(error)}") from error


def kept(identity: str, make: Callable[[Path], Path]) -> Path:
    """The folder that an archive of this identity was unpacked to, now or before."""
    place = Path("archives", hashlib.sha256(os.fsencode(identity)).hexdigest()[:32])
    there = (cache / place for cache in cache_folders() if (cache / place).is_dir())
    return next(there, None) or in_cache(lambda cache: make(cache / place))


def top(folder: Path) -> Path:
    """The one top folder of what was unpacked, if nothing is beside it."""
    visible = [e for e in folder.iterdir() if not (hidden(e.name) or is_system_folder(e.name))]
    return visible[0] if len(visible) == 1 and visible[0].is_dir() else folder


def files_outside(folder: Path) -> list[str]:
    """The files of an archive that are outside `folder`, its one top folder, as paths relative to that folder.

    All of them are hidden files or the system's. Empty for a folder that does not come from an archive.
    """
    folder = Path(os.path.realpath(folder))
    if str(folder.parent.parent) not in [os.path.realpath(cache / "archives") for cache in cache_folders()]:
        return []
    others = [entry for entry in folder.parent.iterdir() if entry != folder]
    files = [file for entry in others for file in (entry.rglob("*") if entry.is_dir() else [entry])]
    return sorted(f"../{file.relative_to(folder.parent).as_posix()}" for file in files if not file.is_dir())


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    size: int  # bytes, as the archive declares it
    open: Callable[[], IO[bytes]]


_Members = Callable[[Path, Path], Iterator[_Member]]  # (archive, a folder of the disk that must have room)


def kind(archive: Path) -> _Members:
    if not archive.exists():
        raise InputError(f"{archive}: no such folder or archive: correct data.root")
    if archive.is_file():
        if _is_tar(archive):  # check this first: a tar whose last member is a zip looks like a zip too
            return _tar_members
        if zipfile.is_zipfile(archive):
            return _zip_members
    raise InputError(f"{archive} is neither a folder nor a zip or tar archive: unpack it yourself")


def unpack_once(archive: Path, folder: Path, members: _Members) -> Path:
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        if folder.is_dir():
            return folder
        for left in folder.parent.glob(f".{folder.name}.*"):  # left by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        limit = _limit(archive)
        with replacing_folder(folder) as temporary:
            for member in members(archive, temporary):
                limit -= _write(archive, member, temporary, limit)
    return folder


def _limit(archive: Path) -> int:
    return RATIO * archive.stat().st_size + SPARE


def _write(archive: Path, member: _Member, folder: Path, limit: int) -> int:
    """Write one member below `folder` and return its bytes; InputError above `limit`."""
    where = f"{archive}: member {member.name!r}"
    target = folder.joinpath(*_parts(where, member.name, member.is_folder))
    written = 0
    try:
        if member.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            return 0
        target.parent.mkdir(parents=True, exist_ok=True)
        with _reading(where):
            source = member.open()
        with source, open(target, "xb") as file:
            while block := _read(where, source):
                written += len(block)
                if written > limit:
                    raise _bomb(where)
                file.write(block)
    except (FileExistsError, NotADirectoryError):  # on some disks also for names that differ only in case
        raise InputError(f"{where}: another member has that name: {YOURSELF}") from None
    except (OSError, UnicodeEncodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a name that this system cannot spell"
        raise FfdiError(f"{where} cannot be unpacked to {folder.parent}: {reason}") from error
    if written != member.size:
        raise InputError(f"{where}: damaged: {written} bytes, the archive says {member.size}: {ANEW}")
    return written


def _parts(where: str, name: str, is_folder: bool) -> tuple[str, ...]:
    path = PureWindowsPath(name)  # it splits at / too
    if path.anchor or ".." in path.parts or "\0" in name:
        raise InputError(f"{where} leads out: names are relative, without '..', drive or NUL: {YOURSELF}")
    if "\\" in name:
        raise InputError(f"{where} has a backslash where archives have slashes, as some made on Windows do: {YOURSELF}")
    if len(path.parts) > DEEPEST or not (path.parts or is_folder):
        raise InputError(f"{where}: a name has 1 to {DEEPEST} parts: {YOURSELF}")
    return path.parts


class _TooMuch(Exception):
    """A stream is longer than the limit."""


def _bomb(where: str) -> InputError:
    return InputError(f"{where}: unpacks to more than {RATIO} x its packed size: a bomb?")


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn any error of the body into an InputError: zipfile and tarfile raise errors of any type on damaged bytes."""
    try:
        yield
    except FfdiError:
        raise
    except _TooMuch:
        raise _bomb(where) from None
    except Exception as error:
        raise InputError(f"{where}: damaged: {' '.join(str(error).split()) or type(error).__name__}: {ANEW}") from error


def _read(where: str, source: IO[bytes]) -> bytes:
    with _reading(where):
        return source.read(_BLOCK)


def check_room(archive: Path, size: int, folder: Path) -> None:
    if size > (free := shutil.disk_usage(folder).free):
        room = f"{human_bytes(size)} more are to be unpacked, {folder.parent} has {human_bytes(free)} free"
        raise FfdiError(f"{archive}: {room}: set FFDI_CACHE to a folder on a larger disk")


def _zip_members(archive: Path, folder: Path) -> Iterator[_Member]:
    with _reading(str(archive)):
        opened = zipfile.ZipFile(archive)
    with opened:
        for info in opened.infolist():
            where = f"{archive}: member {info.filename!r}"
            if info.flag_bits & 1:
                raise InputError(f"{where} is encrypted: unpack it yourself")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{where} {NO_FILE}")
            if info.file_size > max(RATIO * info.compress_size, SPARE):
                raise _bomb(where)
        check_room(archive, sum(info.file_size for info in opened.infolist()), folder)
        for info, name in zip(opened.infolist(), names_of(opened.infolist()), strict=True):
            yield _Member(name, name.endswith("/"), info.file_size, partial(opened.open, info))


def _tar_members(archive: Path, folder: Path) -> Iterator[_Member]:
    after = str(archive)
    with _TarBytes(archive) as stream:
        with _reading(after):
            opened = _open_tar(stream)
        empty = not opened.members  # type: ignore[attr-defined] # Python 3.10 seeks before the start of an empty one
        while not empty:
            with _reading(after):
                info = opened.next()
            if info is None:
                break
            opened.members.clear()  # type: ignore[attr-defined] # or a million of them would stay in memory
            after = f"{archive}: after member {info.name!r}"
            if not (info.isreg() or info.isdir()):
                raise InputError(f"{archive}: member {info.name!r} {NO_FILE}")
            check_room(archive, info.size, folder)
            yield _Member(info.name, info.isdir(), info.size, partial(_extract, opened, info))
        # tarfile takes the end of the file, or an invalid header, for the end of the archive
        if stream.last != bytes(tarfile.BLOCKSIZE):
            raise InputError(f"{after}: damaged: neither another member nor the end mark: truncated? {ANEW}")
        with _reading(after):  # read to the end: gzip, bzip2 and xz keep their checksums there
            while tail := stream.read(_BLOCK):
                if tail.strip(b"\0"):
                    raise ValueError("more follows the end mark, such as a second tar")


def _extract(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    source = opened.extractfile(info)
    assert source is not None  # it is None only for links and folders
    return source


def _open_tar(stream: _TarBytes) -> tarfile.TarFile:
    return tarfile.TarFile(fileobj=stream, encoding="utf-8")


def _is_tar(archive: Path) -> bool:
    """As tarfile.is_tarfile, which might never return from the first header of a bomb."""
    with _TarBytes(archive) as stream, _reading(str(archive)):
        try:
            _open_tar(stream)
        except tarfile.TarError:
            return False
    return True


class _TarBytes(io.RawIOBase):
    """The decompressed bytes of a tar, up to the limit for bombs; refuses headers that would fill the memory."""

    def __init__(self, archive: Path) -> None:
        with open(archive, "rb") as file:
            start = file.read(6)
        opener = next((o for magic, o in _COMPRESSED.items() if start.startswith(magic)), None)
        self.file: Any = opener(archive) if opener else open(archive, "rb")  # noqa: SIM115 - close() closes it
        self.limit = _limit(archive)
        self.last = b""  # the block that was read last

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise ValueError(f"a header of {size} bytes")
        self.last = self.file.read(size)
        if self.file.tell() > self.limit:
            raise _TooMuch
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset > self.limit:
            raise _TooMuch
        return int(self.file.seek(offset, whence))

    def tell(self) -> int:
        return int(self.file.tell())

    def close(self) -> None:
        self.file.close()
        super().close()
