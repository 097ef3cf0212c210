"""What is known of each source of a set of crops, by the sha256 of its bytes: a run that was killed goes on from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ffdi.errors import FfdiError, said
from ffdi.files import canonical_json, replacing
from ffdi.intake.listing.crop_sets import JOURNAL


@dataclass(frozen=True)
class CroppedFace:
    """A face that was cropped: its frame (0 of a photo), track, box (left, top, right, bottom) in pixels, and score."""

    frame: int
    seconds: float
    track: int
    box: tuple[int, int, int, int]
    score: float


@dataclass(frozen=True)
class CroppedSource:
    """A photo or video that was searched for faces.

    `frames` were decoded, `without_face` of them showed none. `digest` is the sha256 of the bytes of its crops, one after
    the other; `versions` are those of the packages that made them.
    """

    sha256: str
    frames: int
    without_face: int
    faces: tuple[CroppedFace, ...]
    digest: str
    versions: dict[str, str]

    @property
    def tracks(self) -> int:
        """How many people were followed through it."""
        return len({face.track for face in self.faces})

    def as_line(self) -> bytes:
        """One line of JSON, the same for the same source."""
        rows = [[face.frame, face.seconds, face.track, *face.box, face.score] for face in self.faces]
        return canonical_json(asdict(self) | {"faces": rows}) + b"\n"


def _source_of(line: bytes) -> CroppedSource:
    """Raises ValueError, TypeError or KeyError for a line that is none of as_line's."""
    read: dict[str, Any] = json.loads(line)
    faces = tuple(
        CroppedFace(frame, seconds, track, (left, top, right, bottom), score)
        for frame, seconds, track, left, top, right, bottom, score in read.pop("faces")
    )
    return CroppedSource(**read, faces=faces)


class Journal:
    """The records of a folder's sources, each a line. One process writes it: the parent, which alone calls `add`.

    The first line is the `key`: all that decides what is cropped, and how. A journal of another key is begun anew; a last
    line that a killed run has torn is cut off. Lines stay as they are in memory until they are asked for, for a large set
    has millions of faces.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self._file, self._key = folder / JOURNAL, canonical_json(key) + b"\n"
        self._lines: dict[str, bytes] = {}
        self._appended: IO[bytes] | None = None
        written = self._file.read_bytes() if self._file.exists() else b""
        self.was_other = bool(written) and not written.startswith(self._key)
        for line in [] if self.was_other else written.splitlines(keepends=True)[1:]:
            try:
                source = _source_of(line)
            except (ValueError, TypeError, KeyError):  # torn
                continue
            if line.endswith(b"\n"):
                self._lines[source.sha256] = line
        self.is_new = not written or self.was_other

    def __enter__(self) -> Journal:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._write(self._lines)
        self._appended = open(self._file, "ab")
        return self

    def __exit__(self, *_: object) -> None:
        if self._appended:
            self._appended.close()

    def get(self, sha256: str) -> CroppedSource | None:
        """What is known of a source."""
        return _source_of(line) if (line := self._lines.get(sha256)) else None

    def add(self, source: CroppedSource) -> None:
        """Note a source whose crops are written."""
        assert self._appended
        line = source.as_line()
        try:
            self._appended.write(line)
            self._appended.flush()
        except OSError as error:
            raise FfdiError(f"{self._file}: cannot be written: {said(error)}") from error
        self._lines[source.sha256] = line

    def drop(self, sha256: str) -> None:
        """Forget a source whose crops are not there."""
        self._lines.pop(sha256, None)

    def keep(self, sources: Iterable[str]) -> None:
        """Forget all other sources and write the rest, sorted, to the file: the same bytes whatever came first."""
        kept = {sha256: self._lines[sha256] for sha256 in sorted({*sources} & self._lines.keys())}
        self.__exit__()
        self._write(kept)
        self._lines, self._appended = kept, None

    def sources(self) -> Iterator[CroppedSource]:
        """Every source, in the order of the file."""
        return map(_source_of, self._lines.values())

    def _write(self, lines: Mapping[str, bytes]) -> None:
        with replacing(self._file) as temporary, open(temporary, "wb") as file:
            file.write(self._key)
            file.writelines(lines.values())
