"""A video -> its frames as pictures, evenly spaced in time or all of them, one after the other.

Frames are upright, of square pixels, deinterlaced, 8-bit RGB in sRGB: pictures.py has the rules. What cannot be read whole
is refused with a reason, as an image is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ffdi.faces.footage.decoding import NotExactError, every_frame, wanted_frames
from ffdi.faces.footage.opening import OpenVideo, opened
from ffdi.faces.footage.pictures import Developer
from ffdi.faces.footage.timeline import Timeline, counted_timeline, timeline_of
from ffdi.faces.footage.unreadable import UnreadableVideo as UnreadableVideo
from ffdi.intake.decoding.formats import VIDEO_SUFFIXES
from ffdi.intake.decoding.images import RGB

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video: its place from 0 in the order of display, its time from the first frame on, (H, W, 3) uint8."""

    number: int
    seconds: float
    pixels: RGB


def is_video(path: Path) -> bool:
    """Whether a file's name is that of a video; its bytes decide when it is opened."""
    return path.name.lower().endswith(VIDEO_SUFFIXES)


def frames_of(path: Path, frames: int | Literal["all"], *, max_pixels: int, threads: int = 1) -> Iterator[Frame]:
    """The frames on screen at the middle of each of `frames` equal parts of a video, or all of them.

    They come as they are decoded, in the order of display; the bytes do not depend on the `threads` that decode and convert.
    Raises UnreadableVideo with the reason, most often before the first frame, but damage may show after some of them: the
    whole video is unreadable then. Raises InputError without the package av.
    """
    with opened(path, max_pixels=max_pixels, threads=threads) as video:
        timeline = timeline_of(video)
    if timeline is None:
        with opened(path, max_pixels=max_pixels, threads=threads) as video:
            timeline = counted_timeline(video, [frame.pts for frame in every_frame(video)])
    wanted = range(len(timeline.times)) if frames == "all" else timeline.evenly(frames)
    last = -1
    for skip in (True, False):
        left = wanted if last < 0 else [number for number in wanted if number > last]
        try:
            with opened(path, max_pixels=max_pixels, threads=threads) as video:
                developer = Developer(video.pixel_aspect, video.max_pixels, threads)
                for number, frame in _chosen(video, timeline, left, skip) if left else ():
                    if number > last:
                        yield Frame(number, timeline.seconds(number), developer.picture(frame))
                        last = number
            return
        except NotExactError:
            continue


def _chosen(
    video: OpenVideo, timeline: Timeline, wanted: Sequence[int], skip: bool
) -> Iterator[tuple[int, VideoFrame]]:
    if timeline.keys:
        return wanted_frames(video, timeline, wanted, skip=skip)
    numbers = set(wanted)
    return ((number, frame) for number, frame in enumerate(every_frame(video)) if number in numbers)
