"""The files of a set's crops: named by their source's bytes, written whole, told from what is left of former runs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ffdi.faces.journal import CroppedFace, CroppedSource
from ffdi.files import replacing

CROPS = "crops"
_SUFFIX = {"png": "png", "jpeg-95": "jpg"}
_DIGITS = 32  # of the source's sha256: no two sources share them


@dataclass(frozen=True)
class CropFiles:
    """The crops below `folder`, in a format of CropSettings."""

    folder: Path
    format: str

    def name(self, sha256: str, face: CroppedFace) -> str:
        """The path of a crop, relative to the folder: its source's sha256, its frame and its track."""
        suffix = _SUFFIX[self.format]
        return f"{CROPS}/{sha256[:2]}/{sha256[:_DIGITS]}-{face.frame:06d}-{face.track}.{suffix}"

    def write(self, name: str, data: bytes) -> None:
        """Write a crop; a machine that stops may lose its bytes, which `has` then finds."""
        with replacing(self.folder / name, sync=False) as temporary:
            temporary.write_bytes(data)

    def has(self, source: CroppedSource) -> bool:
        """Whether every crop of a source is there, with the bytes that were written."""
        digest = hashlib.sha256()
        try:
            for face in source.faces:
                digest.update((self.folder / self.name(source.sha256, face)).read_bytes())
        except OSError:
            return False
        return digest.hexdigest() == source.digest

    def keep(self, sources: Iterable[CroppedSource]) -> None:
        """Delete all crops but those of these sources, which are sorted by their sha256."""
        top = self.folder / CROPS
        kept_folders = set()
        for start, inner in groupby(sources, lambda source: source.sha256[:2]):
            names = {Path(self.name(source.sha256, face)).name for source in inner for face in source.faces}
            kept_folders.add(start)
            for file in _files_in(top / start):
                if file.name not in names:
                    file.unlink()
        for entry in _files_in(top):
            if not entry.is_dir():
                entry.unlink()
            elif entry.name not in kept_folders:
                shutil.rmtree(entry)


def _files_in(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from list(folder.iterdir())
