"""Files at a URL: s3://, gs://, az://, https:// and whatever else fsspec reaches. The only room that knows fsspec.

Credentials are those that the store's own package finds: environment, its files, the machine's role. None is ever read,
kept or said here, and no text of a store or its package goes into a message.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ffdi.errors import LostRaceError, StorageError, printable
from ffdi.store_faults import Patience, check_size, is_absent, lost_race, patiently
from ffdi.urls import AZURE, BUCKETS, GOOGLE, S3, WEB, checked_url
from ffdi.urls import is_url as is_url

T = TypeVar("T")

# Protocol -> the package that reaches it, and the extra of ffdi that brings it.
_PACKAGES = {
    **dict.fromkeys(S3, ("s3fs", "s3")),
    **dict.fromkeys(GOOGLE, ("gcsfs", "gcs")),
    **dict.fromkeys(AZURE, ("adlfs", "azure")),
    **dict.fromkeys(WEB, ("aiohttp", "http")),
}
_POOL = 128  # connections to S3 at a time; botocore's own default is 10
_PARTS = 8  # parts of one large file that are under way at a time


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL: its path below the URL of its `Remote`, its bytes, and what the store calls this content.

    `size` is -1 where a server does not say it; `etag` changes with the content, and is "" where there is none.
    """

    path: str
    size: int
    etag: str


@dataclass(frozen=True)
class Remote:
    """The files below a URL. Threads may share one, and so may processes: each opens connections of its own.

    Failures that pass (500, 503, a dropped connection, a body that ends early) are tried again. All methods raise
    StorageError with the place, the reason and what mends it; NoFileError where there is no such file.
    """

    url: str
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", checked_url(self.url))

    def __str__(self) -> str:
        return self.url

    @property
    def protocol(self) -> str:
        """Such as s3."""
        return self.url.partition("://")[0]

    @property
    def can_list(self) -> bool:
        """Whether the store can say which files it has: a web server cannot."""
        return self.protocol not in WEB

    def at(self, path: str) -> str:
        """The URL of a file, for messages."""
        return printable(f"{self.url}/{path}" if path else self.url)

    def read(self, path: str, size: int | None = None) -> bytes:
        """All bytes of a file. With `size` a shorter or longer body counts as one that was cut off."""

        def once() -> bytes:
            data: bytes = self._files.cat_file(self._place(path))
            check_size(len(data), size)
            return data

        return self._patiently(path, once)

    def get(self, path: str, to: Path, size: int | None = None) -> None:
        """Download to the file `to`, which is whole only when this returns: give a temporary name."""

        def once() -> None:
            self._files.get_file(self._place(path), str(to), **self._large())
            check_size(to.stat().st_size, size)

        self._patiently(path, once)

    def file(self, path: str) -> RemoteFile | None:
        """What the store says of a file now, without its listing; None where there is none."""

        def once() -> RemoteFile | None:
            try:
                info = self._head(path)
            except FileNotFoundError as error:
                if not is_absent(error):
                    raise
                return None
            size = -1 if info["size"] is None else int(info["size"])
            return None if info["type"] == "directory" else RemoteFile(path, size, _etag(info))

        return self._patiently(path, once)

    def _head(self, path: str) -> dict[str, Any]:
        place = self._place(path)
        if self.protocol not in S3:
            return dict(self._files.info(place))
        bucket, _, key = place.partition("://")[2].partition("/")  # info would list where there is no such file
        found = self._files.call_s3("head_object", Bucket=bucket, Key=key)
        return {"type": "file", "size": found["ContentLength"], **found}

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return self.file(path) is not None

    def files(self, prefix: str = "") -> Iterator[RemoteFile]:
        """The files in the folder `prefix` and below, by path where the store sorts them; streamed from S3.

        A store may list a new file late: whoever knows a name asks for the file instead. Raises StorageError for a web
        server, which lists nothing.
        """
        if not self.can_list:
            raise StorageError(
                f"{self.at(prefix)}: a web server lists no files: name them in a table (data.layout: csv)"
            )
        if self.protocol in S3:
            yield from self._s3_files(prefix)
            return
        found = self._patiently(prefix, lambda: self._files.find(self._place(prefix), detail=True))
        base = self._files._strip_protocol(self.url).rstrip("/") + "/"
        for name in sorted(found):
            yield RemoteFile(name.removeprefix(base), int(found[name]["size"] or 0), _etag(found[name]))

    def _s3_files(self, prefix: str) -> Iterator[RemoteFile]:
        bucket, _, folder = self.url.partition("://")[2].partition("/")
        base = f"{folder}/" if folder else ""
        asked = {"Bucket": bucket, "Prefix": f"{base}{prefix.rstrip('/')}/" if prefix else base}
        while True:
            page = self._patiently(prefix, partial(self._files.call_s3, "list_objects_v2", **asked))
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):  # the mark of an empty folder
                    yield RemoteFile(entry["Key"].removeprefix(base), int(entry["Size"]), _etag(entry))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def put(self, file: Path, path: str) -> RemoteFile:
        """Upload a file and return what the store then has, of which the size is checked."""

        def once() -> RemoteFile:
            self._write(path, lambda place: self._files.put_file(str(file), place, **self._large()))
            return self._arrived(path, file.stat().st_size)

        return self._patiently(path, once)

    def put_bytes(self, data: bytes, path: str, *, if_absent: bool = False, if_etag: str | None = None) -> RemoteFile:
        """Write a small file whole. Raises LostRaceError where one is there (`if_absent`), or another than `if_etag`.

        Who writes the bytes that are there does not lose. S3 holds these conditions itself, and Google's store
        `if_absent`; elsewhere they are checked just before.
        """

        def once() -> RemoteFile:
            lost = (if_absent or if_etag is not None) and self._etag_of(path) != if_etag
            if not lost:
                try:
                    condition = self._condition(if_absent, if_etag)
                    self._write(path, lambda place: self._files.pipe_file(place, data, **condition))
                except Exception as error:
                    if not lost_race(error):
                        raise
                    lost = True
            if lost and not self._holds(path, data):  # else an earlier try had arrived, and its answer had not
                raise LostRaceError(f"{self.at(path)}: another process has written it in the meantime: run this again")
            return self._arrived(path, len(data))

        return self._patiently(path, once)

    def _write(self, path: str, write: Callable[[str], None]) -> None:
        """Write a file that is there once it is whole, as all are in a bucket: elsewhere it is renamed when it is."""
        place = self._place(path)
        if self.protocol in BUCKETS:
            write(place)
            return
        part = f"{place}.{uuid.uuid4().hex}.part"
        try:
            write(part)
            self._files.mv(part, place)
        except BaseException:
            with suppress(Exception):
                self._files.rm_file(part)
            raise

    def delete(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""

        def once() -> None:
            try:
                self._files.rm_file(self._place(path))
            except FileNotFoundError as error:
                if not is_absent(error):
                    raise

        self._patiently(path, once)

    def _etag_of(self, path: str) -> str | None:
        there = self.file(path)
        return there.etag if there else None

    def _holds(self, path: str, data: bytes) -> bool:
        there = self.file(path)
        return there is not None and there.size == len(data) and self.read(path) == data

    def _condition(self, if_absent: bool, if_etag: str | None) -> dict[str, str]:
        if if_absent and self.protocol in (*S3, *GOOGLE):
            return {"mode": "create"}
        return {"IfMatch": f'"{if_etag}"'} if if_etag is not None and self.protocol in S3 else {}

    def _arrived(self, path: str, size: int) -> RemoteFile:
        there = self.file(path)
        check_size(there.size if there else 0, size)
        assert there is not None
        return there

    def _place(self, path: str) -> str:
        """What fsspec calls a file."""
        if not path:
            return self.url
        return f"{self.url}/{quote(path) if self.protocol in WEB else path}"

    def _large(self) -> dict[str, int]:
        return {"max_concurrency": _PARTS} if self.protocol in S3 else {}

    @property
    def _files(self) -> Any:
        return _filesystem(self.protocol, os.getpid())

    def _patiently(self, path: str, call: Callable[[], T]) -> T:
        return patiently(call, self.patience, self.url, self.at(path))


def _etag(info: dict[str, Any]) -> str:
    """What the store calls this content; where it gives no ETag, its time of change."""
    for name in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "Last-Modified", "mtime"):
        if value := info.get(name):
            return str(value).removeprefix("W/").strip('"')
    return ""


@cache
def _filesystem(protocol: str, pid: int) -> Any:
    """The connections of this process: those of another one, which it may be a fork of, are of no use."""
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if protocol in S3:  # its retries are ours; a read takes one request and not two
        once = {"retries": {"total_max_attempts": 1, "mode": "standard"}, "max_pool_connections": _POOL}
        options |= {"config_kwargs": once, "max_concurrency": 1}
    if protocol == "file":
        options["auto_mkdir"] = True
    try:
        if protocol in WEB:  # aiohttp's own default ends any download after five minutes
            import aiohttp

            options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}
        files = fsspec.filesystem(protocol, **options)
    except ImportError:
        package, extra = _PACKAGES.get(protocol, ("", ""))
        cure = (
            f"pip install 'ffdi[{extra}]', which brings {package}" if extra else "install the package that fsspec names"
        )
        raise StorageError(f"{protocol}://: needs a package that is not installed: {cure}") from None
    except (ValueError, TypeError):  # TypeError: of a kind that needs more than a URL says, such as ftp
        raise StorageError(f"{protocol}://: is no kind of place that can be read: take s3, gs, az or https") from None
    if protocol in S3:
        files.retries = 1
    return files
