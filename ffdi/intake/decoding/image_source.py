"""Where the images of a data set are: a folder of this machine, or a URL. Their bytes, before anything is decoded."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ffdi.byte_cache import byte_cache, cache_bound
from ffdi.errors import FfdiError, InputError, NoFileError, StorageError, printable
from ffdi.intake.decoding.formats import UnreadableImage
from ffdi.storage import Remote

if TYPE_CHECKING:
    import pandas as pd

Sets: TypeAlias = "tuple[tuple[str, ImageSource], ...]"
CHANGED = "changed since it was ingested: run ingest again"
LIST_AGAIN = "list it again: dvc repro --single-item --force root"
_TWICE = 2  # downloads of a file whose bytes are not those that were ingested: the first one may have been cut off


@dataclass(frozen=True)
class ImageSource:
    """Where images are: paths of images.csv start at `root`. Images of more than `max_pixels` are refused.

    `root` is a folder or a URL; or several sets, each with its name, with which the paths of its images begin. `sizes` are
    the bytes of files at a URL as they were listed; a body of another length counts as cut off.
    """

    root: Path | Remote | Sets
    max_pixels: int = 50_000_000
    sizes: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether reading an image, or one of several sets, waits for a network."""
        if isinstance(self.root, tuple):
            return any(source.is_remote for _, source in self.root)
        return isinstance(self.root, Remote)

    def place(self, path: str) -> str:
        """A file as messages call it."""
        root, below = self._at(path)
        return root.at(below) if isinstance(root, Remote) else str(root / below)

    def exists(self, path: str) -> bool:
        """Whether there is anything of that name, a dangling link too."""
        root, below = self._at(path)
        return root.exists(below) if isinstance(root, Remote) else os.path.lexists(root / below)

    def files_of(self, images: pd.DataFrame) -> list[tuple[str, str]]:
        """(path, image_id) of the images of images.csv, for `read`. A folder's files are not checked by their sha256 here:
        where that matters, whoever reads them gives it."""
        return list(zip(images["path"], images["image_id"] if self.is_remote else repeat(""), strict=False))

    def of(self, path: str) -> tuple[ImageSource, str]:
        """The one set that has a file, and the file's path there; InputError where no set has that name."""
        if not isinstance(self.root, tuple):
            return self, path
        name, _, below = path.partition("/")
        for known, source in self.root:
            if known == name:
                return source, below
        names = ", ".join(known for known, _ in self.root)
        raise InputError(f"{printable(path)}: begins with the name of no set of data.root ({names}): run ingest again")

    def _at(self, path: str) -> tuple[Path | Remote, str]:
        source, below = self.of(path)
        assert not isinstance(source.root, tuple)  # no set is a list of sets
        return source.root, below

    def read(self, path: str, image_id: str = "") -> bytes:
        """The bytes of a file; UnreadableImage where it is missing, or no longer has the sha256 `image_id`, if that is given.

        A file at a URL whose `image_id` is known is kept in this machine's cache. Raises StorageError where the store
        cannot be reached: that says nothing of the image.
        """
        if isinstance(self.root, tuple):
            source, below = self.of(path)
            return source.read(below, image_id)
        if not isinstance(self.root, Remote):
            data = read_bytes(self.root, path)
        elif not image_id:
            return self._fetched(self.root, path)
        else:
            return self._cached(self.root, path, image_id)
        if image_id and hashlib.sha256(data).hexdigest() != image_id:
            raise UnreadableImage(CHANGED)
        return data

    def keep(self, data: bytes, image_id: str) -> None:
        """Keep the bytes of a file at a URL in the cache for the stages that follow."""
        if self.is_remote and cache_bound():
            with _or_without():
                byte_cache().get(image_id, lambda file: _write(file, data))

    def _fetched(self, root: Remote, path: str) -> bytes:
        size = self.sizes.get(path, -1)
        try:
            return root.read(path, size)
        except NoFileError:
            raise UnreadableImage(f"cannot be read: {os.strerror(errno.ENOENT)}") from None
        except StorageError:
            now = root.file(path) if size >= 0 else None
            if now and now.size != size:
                raise InputError(
                    f"{root.at(path)}: has {now.size} bytes, and had {size} when it was listed: {LIST_AGAIN}"
                ) from None
            raise

    def _cached(self, root: Remote, path: str, image_id: str) -> bytes:
        """The file's bytes from the cache, or fetched into it; those that are not of `image_id` are not kept."""
        fetched: list[bytes] = []

        def make(file: Path) -> None:
            fetched.append(self._ingested(root, path, image_id))
            _write(file, fetched[0])

        if not cache_bound():
            return self._ingested(root, path, image_id)
        while True:
            kept = None
            with _or_without():
                kept = byte_cache().get(image_id, make)
            if fetched:
                return fetched[0]
            if kept is None:
                return self._ingested(root, path, image_id)
            with suppress(FileNotFoundError):  # another process needed the room in between
                data = kept.read_bytes()
                if hashlib.sha256(data).hexdigest() == image_id:
                    return data
                kept.unlink()  # torn when the machine stopped

    def _ingested(self, root: Remote, path: str, image_id: str) -> bytes:
        for _ in range(_TWICE):
            data = self._fetched(root, path)
            if hashlib.sha256(data).hexdigest() == image_id:
                return data
        raise UnreadableImage(CHANGED)


def read_bytes(root: Path, path: str) -> bytes:
    """The file's bytes; UnreadableImage where it is missing or not a regular file. Symlinks are followed."""
    file = root / path
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a FIFO would wait for its writer
            raise UnreadableImage("cannot be read: no regular file")
        return file.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror}") from error


@contextmanager
def _or_without() -> Iterator[None]:
    """The cache saves downloads alone: a run goes on where it cannot be written, as on a full disk."""
    try:
        yield
    except FfdiError as error:
        if not isinstance(error.__cause__, OSError):
            raise


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)
