"""A photo or a video -> its faces, cropped: the one way for the stage that makes a set and for a model that is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from ffdi.faces.crops import crop_face
from ffdi.faces.face import Face
from ffdi.faces.footage.footage import Frame, frames_of, is_video
from ffdi.faces.settings import CropSettings
from ffdi.faces.tracks import Tracker
from ffdi.intake.decoding.images import RGB, UnreadableImage, open_image, read_bytes, to_array
from ffdi.parallel import ordered_map, tasks_ahead

_STAYS = 0.5  # of the largest box's area: the face that a video follows is kept while its box has as much


class NoFaceError(UnreadableImage):
    """A photo, or a video in all of the frames that were looked at, without a face."""


class FindsFaces(Protocol):
    """What a FaceDetector does; threads may call it at once."""

    def faces(self, pixels: RGB) -> list[Face]: ...


@dataclass(frozen=True, eq=False)
class FoundFace:
    """A face of a photo (frame 0, 0.0 seconds) or of a frame of a video, and its crop, uint8 (size, size, 3) RGB.

    `frame` is the frame's place in the video, from 0; `track` is the person, from 0 on (tracks.py). A frame has a track
    once at most. `others` faces of the frame are not cropped.
    """

    frame: int
    seconds: float
    track: int
    face: Face
    crop: RGB
    others: int = 0


@dataclass
class Looked:
    """What faces_of_source has looked at so far: frames of a video, or one photo."""

    frames: int = 0
    without_a_face: int = 0


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The faces of a frame that are cropped, with their tracks, and how many others it has."""

    frame: Frame
    faces: list[tuple[int, Face]]
    others: int


def faces_of_source(
    path: Path,
    detector: FindsFaces,
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
    return _found(_frames(path, settings, max_pixels, workers), detector, settings, workers, looked or Looked())


def faces_of_pixels(pixels: RGB, detector: FindsFaces, settings: CropSettings) -> list[FoundFace]:
    """The faces of a picture that is in memory, uint8 (H, W, 3) RGB, upright; NoFaceError where there is none."""
    return list(_found(iter([_still(pixels)]), detector, settings, 1, Looked()))


def frame_of_source(path: Path, number: int, settings: CropSettings, max_pixels: int) -> RGB:
    """A frame that faces_of_source found faces in, uint8 (H, W, 3); of a photo, the photo. UnreadableImage: not there."""
    for frame in _frames(path, settings, max_pixels, 1):
        if frame.number == number:
            return frame.pixels
    raise UnreadableImage(f"has no frame {number}")


def _frames(path: Path, settings: CropSettings, max_pixels: int, threads: int) -> Iterator[Frame]:
    if is_video(path):
        yield from frames_of(path, settings.frames, max_pixels=max_pixels, threads=threads)
    else:
        yield _still(to_array(open_image(read_bytes(path.parent, path.name), max_pixels=max_pixels)))


def _still(pixels: RGB) -> Frame:
    return Frame(0, 0.0, pixels)


def _found(
    frames: Iterator[Frame], detector: FindsFaces, settings: CropSettings, workers: int, looked: Looked
) -> Iterator[FoundFace]:
    def seen(frame: Frame) -> tuple[Frame, list[Face]]:
        return frame, detector.faces(frame.pixels)

    def cropped(chosen: _Chosen) -> list[FoundFace]:
        frame = chosen.frame
        return [
            FoundFace(frame.number, frame.seconds, track, face, crop_face(frame.pixels, face, settings), chosen.others)
            for track, face in chosen.faces
        ]

    first = next(frames, None)
    if first is None:
        raise NoFaceError("no face: it has no frame")
    frames = chain([first], frames)
    groups: Iterable[list[FoundFace]]
    if workers == 1:
        groups = map(cropped, _chosen(map(seen, frames), settings, looked))
    else:
        ahead = tasks_ahead(workers, 2 * first.pixels.nbytes)  # twice: they wait to be looked at, and to be cropped
        all_seen = ordered_map(seen, frames, workers, ahead)
        groups = ordered_map(cropped, _chosen(all_seen, settings, looked), workers, ahead)
    none = True
    for group in groups:
        none = none and not group
        yield from group
    if none:
        raise NoFaceError("no face" if looked.frames == 1 else f"no face in {looked.frames} frames")


def _chosen(seen: Iterable[tuple[Frame, list[Face]]], settings: CropSettings, looked: Looked) -> Iterator[_Chosen]:
    """Tracks, and which faces are cropped. Both depend on the frames before, so this is done one frame after the other.

    `largest`: the frame's largest face, or the one that was taken last while its box has half the area of the largest, so
    that two people of like size do not take turns.
    """
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
        yield _Chosen(frame, tracked, len(faces) - len(tracked))
