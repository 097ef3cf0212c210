"""One photo or video of a set -> its crops on the disk, or the reason why there are none. Runs in the threads of a stage."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event

from ffdi.errors import said
from ffdi.faces.crop_files import CropFiles
from ffdi.faces.crops import encode_crop
from ffdi.faces.detectors.detector import FaceDetector
from ffdi.faces.face import Box, Face
from ffdi.faces.journal import CroppedFace, CroppedSource
from ffdi.faces.settings import FacesSettings
from ffdi.faces.sources import FoundFace, Looked, NoFaceError, faces_of_source
from ffdi.files import sha256_file
from ffdi.intake.decoding.images import RGB, UnreadableImage
from ffdi.parallel import ordered_map


@dataclass(frozen=True)
class Unfit:
    """A source without crops: a path below the root, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class SourceTask:
    """What the search of every source of a set needs; `ended` is set where it is to stop."""

    root: Path
    settings: FacesSettings
    detector: FaceDetector
    files: CropFiles
    ended: Event
    workers: int
    """Threads within one source."""

    def faces(self, pixels: RGB) -> list[Face]:
        """Those that the detector finds; UnreadableImage where the run has ended: a long video need not go on."""
        if self.ended.is_set():
            raise UnreadableImage("the run was stopped")
        return self.detector.faces(pixels)

    def crop(self, source: tuple[str, str]) -> CroppedSource | Unfit:
        """Find, crop and write the faces of a source (sha256, path); one without a face is a CroppedSource of none."""
        sha256, path = source
        looked, digest, faces = Looked(), hashlib.sha256(), []
        try:
            found_faces = faces_of_source(
                self.root / path,
                self,
                self.settings.crops,
                self.settings.max_pixels,
                workers=self.workers,
                looked=looked,
            )
            # Within one source, threads encode too: what is left for this one is to decode and to write.
            encoded = map if self.workers == 1 else partial(ordered_map, workers=self.workers)
            for found, data in encoded(self._encoded, found_faces):
                face = _as_recorded(found)
                self.files.write(self.files.name(sha256, face), data)
                digest.update(data)
                faces.append(face)
        except NoFaceError:
            pass
        except UnreadableImage as error:
            return Unfit(path, str(error))
        return CroppedSource(
            sha256, looked.frames, looked.without_a_face, tuple(faces), digest.hexdigest(), dict(packages())
        )

    def _encoded(self, found: FoundFace) -> tuple[FoundFace, bytes]:
        return found, encode_crop(found.crop, self.settings.format)


def sha256_of_source(root: Path, path: str) -> str | Unfit:
    """The sha256 of a source's bytes."""
    file = root / path
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a FIFO would wait for its writer
            return Unfit(path, "cannot be read: no regular file")
        return sha256_file(file)
    except OSError as error:
        return Unfit(path, f"cannot be read: {error.strerror or said(error)}")


@cache
def packages() -> tuple[tuple[str, str], ...]:
    """(name, version) of the packages that decide a crop's bytes, of those that are here."""
    found = []
    for name in ("av", "onnxruntime", "pillow"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def _as_recorded(found: FoundFace) -> CroppedFace:
    """Rounded, so that a run which goes on says the same as one that was never stopped."""
    return CroppedFace(
        found.frame, round(found.seconds, 3), found.track, _pixels(found.face.box), round(found.face.score, 4)
    )


def _pixels(box: Box) -> tuple[int, int, int, int]:
    return round(box.left), round(box.top), round(box.right), round(box.bottom)
