"""How outputs reach the disk: whole or not at all, hashed, and by one writer at a time."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ffdi.errors import FfdiError, LockedError


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and move it over `path`, else remove it.

    The temporary file has the final file's mode (umask applies), so bytes and rights equal a plain write. Without
    `sync` the file is whole whenever the process is killed, but not when the machine is: see `synced`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if sync:
            synced(temporary)
        temporary.chmod(0o666 & ~_umask())  # some libraries write files for the owner alone
        os.replace(temporary, path)
    except OSError as error:
        raise FfdiError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def synced(file: Path) -> Path:
    """The file, once its bytes are on the disk."""
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())
    return file


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling folder; on success it takes the place of `folder`, files of a former run included."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with LF line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict JSON (NaN and infinity are refused), keys in the order given, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The one serialisation of `value` that hashes are taken of: sorted keys, no spaces, UTF-8."""
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

    Raises LockedError naming the holder's PID when another process holds it: DVC that was killed leaves its stage
    alive, and a second `dvc repro` would start a second writer.
    """
    from filelock import FileLock, Timeout

    path = folder.with_name(folder.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = folder.with_name(folder.name + ".lock.pid")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = holder.read_text().strip() if holder.exists() else "unknown"
        raise LockedError(f"{folder} is being written by another process (PID {pid}): wait for it or end it") from None
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def cache_folder() -> Path:
    """Where what is made once for all checkouts is kept: $FFDI_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FFDI_CACHE") or Path(base) / "ffdi")


def human_bytes(count: float) -> str:
    """12345678 -> '12.3 MB' (decimal units)."""
    exponent = min(int(math.log10(count) // 3), 4) if count >= 1 else 0
    return f"{count / 1000**exponent:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[exponent]}"
