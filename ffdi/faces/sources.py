"""A photo or a video -> its faces, cropped: the one way for the stage that makes a set and for a model that is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ffdi.faces.crops import crop_face
from ffdi.faces.detectors.detector import FaceDetector
from ffdi.faces.face import Face
from ffdi.faces.footage.footage import Frame, frames_of, is_video
from ffdi.faces.settings import CropSettings
from ffdi.faces.tracks import Tracker
from ffdi.intake.decoding.images import RGB, UnreadableImage, open_image, read_bytes, to_array
from ffdi.parallel import ordered_map, tasks_ahead

_STAYS = 0.5  # of the largest box's area: the face that a video follows is kept while it has as much


class NoFaceError(UnreadableImage):
    """A photo, or a video in all of the frames that were looked at, without a face."""


@dataclass(frozen=True, eq=False)
class FoundFace:
    """A face of a photo (frame 0, 0.0 seconds) or of a frame of a video, and its crop, uint8 (size, size, 3) RGB.

    `frame` is the frame's place in the video, from 0; `track` is the person, from 0 on (tracks.py).
    """

    frame: int
    seconds: float
    track: int
    face: Face
    crop: RGB


@dataclass
class Looked:
    """What faces_of_source has looked at so far: frames of a video, or one photo."""

    frames: int = 0
    without_a_face: int = 0


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The faces of a frame that are cropped, with their tracks."""

    frame: Frame
    faces: list[tuple[int, Face]]


def faces_of_source(
    path: Path,
    detector: FaceDetector,
    settings: CropSettings,
    max_pixels: int,
    *,
    workers: int = 1,
    looked: Looked | None = None,
) -> Iterator[FoundFace]:
    """The faces of a photo or video, in the order of time; of one frame, in the order of tracks.

    A video streams: a few frames for each of the `workers`, which look for faces and crop them, are in memory. What is
    found does not depend on their number. With one worker all happens in the caller's thread, for callers that look at
    several sources at once. `looked` counts the frames.

    Raises UnreadableImage (of a video its UnreadableVideo) with the reason, NoFaceError once all was looked at.
    """
    looked = Looked() if looked is None else looked
    threads = max(1, workers - 1)  # decoding leaves one to the faces
    frames = (
        frames_of(path, settings.frames, max_pixels=max_pixels, threads=threads)
        if is_video(path)
        else [Frame(0, 0.0, _photo(path, max_pixels))]
    )
    return _found(iter(frames), detector, settings, workers, looked)


def faces_of_pixels(pixels: RGB, detector: FaceDetector, settings: CropSettings) -> list[FoundFace]:
    """The faces of a picture that is in memory, uint8 (H, W, 3) RGB, upright; NoFaceError where there is none."""
    return list(_found(iter([Frame(0, 0.0, pixels)]), detector, settings, 1, Looked()))


def frame_of_source(path: Path, number: int, settings: CropSettings, max_pixels: int) -> RGB:
    """A frame that faces_of_source found faces in, uint8 (H, W, 3); of a photo, the photo. UnreadableImage: not there."""
    if not is_video(path):
        return _photo(path, max_pixels)
    for frame in frames_of(path, settings.frames, max_pixels=max_pixels):
        if frame.number == number:
            return frame.pixels
    raise UnreadableImage(f"has no frame {number}")


def _photo(path: Path, max_pixels: int) -> RGB:
    return to_array(open_image(read_bytes(path.parent, path.name), max_pixels=max_pixels))


def _found(
    frames: Iterator[Frame], detector: FaceDetector, settings: CropSettings, workers: int, looked: Looked
) -> Iterator[FoundFace]:
    def seen(frame: Frame) -> tuple[Frame, list[Face]]:
        return frame, detector.faces(frame.pixels)

    def cropped(chosen: _Chosen) -> list[FoundFace]:
        frame = chosen.frame
        return [
            FoundFace(frame.number, frame.seconds, track, face, crop_face(frame.pixels, face, settings))
            for track, face in chosen.faces
        ]

    first = next(frames, None)
    if first is None:
        raise NoFaceError("no frame")
    frames = chain([first], frames)
    none = True
    if workers == 1:
        groups: Iterable[list[FoundFace]] = map(cropped, _chosen(map(seen, frames), settings, looked))
    else:
        ahead = tasks_ahead(workers, first.pixels.nbytes)
        looked_at = ordered_map(seen, frames, workers, ahead)
        groups = ordered_map(cropped, _chosen(looked_at, settings, looked), workers, ahead)
    for group in groups:
        none = none and not group
        yield from group
    if none:
        raise NoFaceError("no face" if looked.frames == 1 else f"no face in {looked.frames} frames")


def _chosen(seen: Iterable[tuple[Frame, list[Face]]], settings: CropSettings, looked: Looked) -> Iterator[_Chosen]:
    """Tracks, and which faces are cropped. They depend on the frames before, so this is done one frame after the other."""
    tracker, subject = Tracker(), -1
    for frame, faces in seen:
        looked.frames += 1
        looked.without_a_face += not faces
        tracked = sorted(zip(tracker.follow(frame.seconds, faces), faces, strict=True), key=lambda pair: pair[0])
        if settings.faces == "largest" and tracked:
            largest = max(tracked, key=lambda pair: pair[1].box.area)
            kept = [pair for pair in tracked if pair[0] == subject and pair[1].box.area >= _STAYS * largest[1].box.area]
            tracked = kept or [largest]
            subject = tracked[0][0]
        yield _Chosen(frame, tracked)
