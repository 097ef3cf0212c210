"""How outputs reach the disk: completely or not at all, hashed, and by one writer at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ffdi.errors import FfdiError, InputError, LockedError, said

T = TypeVar("T")


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success fsync it and move it to `path`, on an error remove it.

    The file gets the mode of a plainly written file (umask applies). Without `sync` the file is complete even if the
    process is killed, but not if the machine stops: see `synced`.
    """
    temporary = path.with_name(
        f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp"
    )  # machines may share the folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if sync:
            synced(temporary)
        temporary.chmod(0o666 & ~_umask())  # some libraries write files that only the owner may read
        os.replace(temporary, path)
    except OSError as error:
        raise FfdiError(f"{path}: cannot be written: {said(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def synced(file: Path) -> Path:
    """Flush the bytes of a file to the disk and return the file."""
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())
    return file


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder next to `folder`; on success it replaces `folder` and all its files."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_overlap(folder: Path, model: Path) -> None:
    """InputError when `folder` is the model's, within it or around it: to write the one would change the other."""
    here, there = folder.resolve(), model.resolve()
    if here == there or there in here.parents or here in there.parents:
        raise InputError(f"{folder}: is the model itself, within it or around it: name another folder")


def refuse_other_folder(folder: Path, record: str, is_ours: Callable[[Any], bool], what: str) -> None:
    """InputError when `folder` is there, has something in it, and is none of those that may be replaced.

    These have a JSON file `record` with a mapping that `is_ours`; `what` they are goes into the message.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    with suppress(OSError, ValueError):  # without the file, or with another of its name, it is not ours
        content = json.loads((folder / record).read_text(encoding="utf-8"))
        if isinstance(content, dict) and is_ours(content):
            return
    raise InputError(f"{folder}: exists and is no {what}: name another folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with LF line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict JSON (NaN and infinity are refused), with the keys in the given order, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The serialisation of `value` for hashing: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold `<folder>.lock` while the body runs.

    Raises LockedError naming the holder's PID when another process holds it: a DVC that was killed leaves its stage
    running, and a second `dvc repro` would start a second writer.
    """
    holder = folder.with_name(folder.name + ".lock.pid")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder.with_name(folder.name + ".lock"), wait=False))
        except BlockingIOError:
            pid = holder.read_text().strip() if holder.exists() else "unknown"
            message = f"{folder} is being written by another process (PID {pid}): wait for it or end it"
            raise LockedError(message) from None
        try:
            holder.write_text(f"{os.getpid()}\n")
            yield
        finally:
            holder.unlink(missing_ok=True)


@contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of `file`, which is created and stays; without `wait`, BlockingIOError when another process holds it.

    The system releases it when its holder dies, whatever the file contains. FfdiError when the file system has no
    locks, as on some NFS, unless FFDI_LOCKS is off.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = open(file, "ab")  # noqa: SIM115 - closed below
    except OSError as error:
        raise FfdiError(f"{file}: cannot be written: {said(error)}") from error
    with opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(error.errno, error.strerror) from None
            if os.environ.get("FFDI_LOCKS") != "off":
                cure = "keep it on a disk that has locks, or set FFDI_LOCKS=off if no other run writes there"
                raise FfdiError(f"{file}: this file system gives no locks ({error.strerror}): {cure}") from error
        try:
            yield
        finally:
            with suppress(OSError):  # a process that was forked in the meantime has the file open too
                fcntl.flock(opened, fcntl.LOCK_UN)


def cache_folders() -> list[Path]:
    """The folders of what is made once for all checkouts: $FFDI_CACHE, or by default the user's cache folder.

    When `in_cache` could not write there, its temporary folder is among them too.
    """
    folders = []
    with suppress(RuntimeError):  # a user without a home folder
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folders.append(Path(os.environ.get("FFDI_CACHE") or Path(base) / "ffdi"))
    return [*folders, *(Path(made.name) for made in _temporary)]


_UNWRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT),
    errno.EEXIST,  # a file is where the folder should be
    *(errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS),  # from a lock
}
_temporary: list[tempfile.TemporaryDirectory[str]] = []  # the cache folder of this process, if it needed one


def in_cache(make: Callable[[Path], T]) -> T:
    """The result of `make` in the cache folder; when that cannot be written, in one that ends with this process.

    The cache only saves time, so a run never stops because of it: one line says what happened.
    """
    reason = "there is no home folder"
    for folder in cache_folders()[:1]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return make(folder)
        except (OSError, FfdiError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in _UNWRITABLE:
                raise
            reason = f"{folder} cannot be written: {cause.strerror}"
    if not _temporary:
        _temporary.append(tempfile.TemporaryDirectory(prefix="ffdi-cache-"))
        cure = "set FFDI_CACHE to a folder that can be written, or this is made anew every time"
        print(f"no cache ({reason}): going on with a temporary one; {cure}", file=sys.stderr)
    return make(Path(_temporary[0].name))


def human_bytes(count: float) -> str:
    """12345678 -> '12.3 MB' (decimal units)."""
    exponent = min(int(math.log10(count) // 3), 4) if count >= 1 else 0
    return f"{count / 1000**exponent:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[exponent]}"
