"""Shards at a URL: uploaded under names that say what they hold, read through the cache of this machine.

`shards/KEY/SHA256.h5` names a shard by what it holds (see ShardTask.key) and by its bytes. So nothing is ever overwritten,
two who upload the same shard do not meet, and what a killed run has uploaded is known from a listing.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath

from ffdi.byte_cache import byte_cache
from ffdi.errors import NoFileError, ShardError
from ffdi.features.shard_index import ShardEntry
from ffdi.files import locked, sha256_file
from ffdi.parallel import ordered_map
from ffdi.storage import Remote, RemoteFile

_SHARDS, _KEYS = "shards", "keys"
_AT_A_TIME = 16  # small requests
_NAME = re.compile(rf"{_SHARDS}/(?P<key>[0-9a-f]+-[0-9a-f]+)/(?P<sha256>[0-9a-f]{{64}})\.h5")


@dataclass(frozen=True)
class RemotePlace:
    """The shards of a backbone below a URL."""

    url: str

    @property
    def remote(self) -> Remote:
        """The files below the URL."""
        return Remote(self.url)

    def draft(self, name: str) -> Path:
        """In a folder of this process in $TMPDIR, which is deleted with it; the draft itself goes after its upload."""
        return _staging(os.getpid()) / hashlib.sha256(self.url.encode()).hexdigest()[:16] / name

    def publish(self, name: str, key: str, rows: int) -> ShardEntry:
        """The upload, of which the size is checked. It also replaces an object of this name that was damaged."""
        draft = self.draft(name)
        digest = sha256_file(draft)
        self.remote.put(draft, remote_name(key, digest))
        draft.unlink()
        return {"name": name, "rows": rows, "sha256": digest}

    def find(self, name: str, key: str, rows: int) -> ShardEntry | None:
        """What is listed under the key and has the sha256 of its name: it is downloaded, for it may be a damaged shard
        that the task is to replace."""
        for path in sorted(file.path for file in self.remote.files(f"{_SHARDS}/{key}") if _NAME.fullmatch(file.path)):
            with suppress(ShardError):
                check_remote(self.url, path)
                return {"name": name, "rows": rows, "sha256": hash_in(path)}
        return None

    def fetch(self, name: str) -> Path:
        """The file in the cache; it is downloaded unless it is there, and has the sha256 of its name in any case."""
        return fetched(self.url, name)

    def where(self, name: str) -> str:
        """The URL."""
        return f"{self.url}/{name}"

    def listed(self) -> dict[str, RemoteFile]:
        """What the store lists of the shards, by their names. It may list a new one late: see `now`."""
        return {file.path: file for file in self.remote.files(_SHARDS) if _NAME.fullmatch(file.path)}

    def listed_keys(self) -> set[str]:
        """The names of the files of keys that the store lists."""
        return {file.path for file in self.remote.files(_KEYS) if is_keys_name(file.path)}

    def now(self, names: Sequence[str]) -> dict[str, RemoteFile]:
        """Those shards of `names` that are there; one that is not listed is asked for."""
        listed = self.listed()
        late = [name for name in names if name not in listed]
        asked = [file for file in ordered_map(self.remote.file, late, _AT_A_TIME) if file]
        return {name: listed[name] for name in names if name in listed} | {file.path: file for file in asked}


def remote_name(key: str, sha256: str) -> str:
    """The path of a shard below the URL, see ShardTask.key."""
    return f"{_SHARDS}/{key}/{sha256}.h5"


def is_remote_name(name: str) -> bool:
    """Whether a path below the URL is that of a shard."""
    return bool(_NAME.fullmatch(name))


def keys_name(sha256: str) -> str:
    """The path of the keys of a set's rows below the URL."""
    return f"{_KEYS}/{sha256}.npy"


def is_keys_name(name: str) -> bool:
    """Whether a path below the URL is that of the keys of a set."""
    return bool(re.fullmatch(rf"{_KEYS}/[0-9a-f]{{64}}\.npy", name))


def key_in(name: str) -> str:
    """The key in the path of a shard."""
    return PurePosixPath(name).parent.name


def hash_in(name: str) -> str:
    """The sha256 in the path of a file that is named by it."""
    return PurePosixPath(name).stem


def fetched(url: str, name: str) -> Path:
    """The cached copy of the file `name` below a URL, which is named by its sha256."""
    return byte_cache().get(hash_in(name), partial(_download, url, name), partial(_is_whole, hash_in(name)))


def check_remote(url: str, name: str) -> None:
    """ShardError when the file `name` below a URL has not the sha256 of its name: it is downloaded, and deleted again."""
    draft = RemotePlace(url).draft(f"check-{hash_in(name)}")
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(url, name, draft)
    finally:
        draft.unlink(missing_ok=True)


def _download(url: str, name: str, to: Path) -> None:
    remote = Remote(url)
    try:
        there = remote.file(name)
        if there is None:
            raise NoFileError
        remote.get(name, to, there.size)
    except NoFileError:
        raise ShardError(f"{remote.at(name)}: missing: run extract again") from None
    if not _is_whole(hash_in(name), to):
        raise ShardError(f"{remote.at(name)}: sha256 differs from the index: run extract again")


def _is_whole(sha256: str, file: Path) -> bool:
    return sha256_file(file) == sha256


_alive = ExitStack()  # holds the locks that say which staging folders have a living process


@cache
def _staging(pid: int) -> Path:
    """A new folder of this process; those of processes that died are deleted."""
    base = Path(tempfile.gettempdir()) / f"ffdi-staging-{os.getuid()}"
    with locked(base / "lock", wait=True):
        for left in base.glob("*.lock"):
            try:
                with locked(left, wait=False):
                    shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                    left.unlink()
            except BlockingIOError:
                pass  # its process lives
        folder = Path(tempfile.mkdtemp(dir=base))
        _alive.enter_context(locked(folder.with_suffix(".lock"), wait=False))
    atexit.register(_delete, folder, pid)
    return folder


def _delete(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # and not a process that was forked off
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".lock").unlink(missing_ok=True)
