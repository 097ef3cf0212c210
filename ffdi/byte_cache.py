"""A cache on this machine of files that lie elsewhere: bounded in bytes, shared by all processes, least used first to go."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from ffdi.errors import FfdiError
from ffdi.files import in_cache, locked, replacing

BOUND = "FFDI_CACHE_GB"  # the environment variable with the bound, in 10^9 bytes
_DEFAULT_GB = 20.0
_SPARE = 1 << 30  # bytes of the disk that are left free, whatever the bound
_FORGOTTEN = 3600  # seconds after which an unfinished file is one that a killed process left
_SLACK = 16  # the files are counted anew after a sixteenth of the bound has come in


def byte_cache() -> ByteCache:
    """The cache of this user: in $FFDI_CACHE or the user's cache folder, of $FFDI_CACHE_GB (20) in 10^9 bytes."""
    return _cache_in(in_cache(_made), cache_bound())


def cache_bound() -> int:
    """The bytes that $FFDI_CACHE_GB gives the cache; FfdiError when it is no number."""
    asked = os.environ.get(BOUND)
    with suppress(ValueError):
        bound = float(asked) if asked else _DEFAULT_GB
        if 0 <= bound < float("inf"):
            return int(bound * 1e9)
    raise FfdiError(f"{BOUND}={asked}: is no number of gigabytes: such as {BOUND}=100")


class ByteCache:
    """Files in `folder` by a key, which says what bytes they have. At most `bound` bytes, and what is being fetched.

    The file used last is kept in any case. A file may be deleted as soon as `get` returns it, but what has been opened
    stays readable: open it at once, and get it again if it is gone.
    """

    def __init__(self, folder: Path, bound: int) -> None:
        self.folder, self.bound = folder, bound
        self._counting = threading.Lock()
        self._uncounted = bound + 1  # bytes that came in since the files were counted: at first, nobody knows
        self._whole = dict[str, tuple[int, int, int]]()  # files that this process has found whole, as they were then

    def get(self, key: str, make: Callable[[Path], None], is_whole: Callable[[Path], bool] | None = None) -> Path:
        """The file of `key`, a hex string. One that is not there is made by `make`, by one process at a time.

        `is_whole` is asked once in each process of a file that is there: one that is damaged is made again.
        """
        file = self.folder / key[:2] / key
        if self._is_there(file, is_whole):
            return file
        with locked(self.folder / "locks" / key[:3], wait=True):
            if not self._is_there(file, is_whole):
                with replacing(file, sync=False) as temporary:
                    make(temporary)
                    size = temporary.stat().st_size
                self._count(size, file)
        return file

    def held(self) -> int:
        """The bytes of the files in it."""
        return sum(size for _, size, _ in self._files())

    def _is_there(self, file: Path, is_whole: Callable[[Path], bool] | None) -> bool:
        try:
            found = file.stat()
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            if is_whole and self._whole.get(file.name) != mark:
                if not is_whole(file):
                    file.unlink(missing_ok=True)
                    return False
                self._whole[file.name] = mark
            os.utime(file, ns=(time.time_ns(), found.st_mtime_ns))  # its last use
        except FileNotFoundError:
            return False
        return True

    def _count(self, size: int, newest: Path) -> None:
        """Note that a file came in; once enough did, delete those whose last use is longest ago."""
        with self._counting:
            self._uncounted += size
            if self._uncounted * _SLACK <= self.bound:
                return
            with locked(self.folder / "locks" / "tidy", wait=True):
                files = self._files()
                free = shutil.disk_usage(self.folder).free - _SPARE
                held = sum(size for _, size, _ in files)
                room = min(self.bound - self.bound // _SLACK, held + free)
                for _, size, file in files:
                    if held <= room:
                        break
                    if file != newest:
                        with suppress(OSError):
                            file.unlink()
                        self._whole.pop(file.name, None)
                        held -= size
            self._uncounted = 0

    def _files(self) -> list[tuple[int, int, Path]]:
        """(time of the last use, bytes, path) of all files, the one longest ago first; without forgotten unfinished ones."""
        found = []
        for folder in self.folder.glob("??"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):  # another process deletes, too
                    seen = entry.stat()
                    if not entry.name.startswith("."):
                        found.append((seen.st_atime_ns, seen.st_size, Path(entry.path)))
                    elif time.time() - seen.st_mtime > _FORGOTTEN:
                        Path(entry.path).unlink()
        return sorted(found)


def _made(folder: Path) -> Path:
    objects = folder / "objects"
    (objects / "locks").mkdir(parents=True, exist_ok=True)
    probe = objects / "locks" / f"probe-{os.getpid()}-{threading.get_ident()}"
    probe.touch()  # a folder that is there may still be one that cannot be written
    probe.unlink()
    return objects


@cache
def _cache_in(folder: Path, bound: int) -> ByteCache:
    return ByteCache(folder, bound)
