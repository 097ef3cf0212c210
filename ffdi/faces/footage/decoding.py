"""The wanted frames of a video, decoded: only from the last key picture before each of them, where that is exact.

Nothing seeks: whether a seek lands where it should depends on the container and its index. The packets on the way are
read and passed over instead, which is exact everywhere and costs little beside decoding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ffdi.faces.footage.opening import OpenVideo
from ffdi.faces.footage.timeline import Timeline
from ffdi.faces.footage.unreadable import UnreadableVideo

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_REPEATS = ("mpeg4",)  # codecs that have pictures which say only that nothing has changed


class NotExactError(Exception):
    """A picture that the container calls a key picture is none: decoding must begin at the first one."""


def every_frame(video: OpenVideo) -> Iterator[VideoFrame]:
    """All frames of a video that was opened anew, in the order of display. UnreadableVideo at the first damage."""
    for _, packet in _packets(video):
        for frame in video.decode(packet):
            yield _sound(video, frame)


def wanted_frames(
    video: OpenVideo, timeline: Timeline, numbers: Sequence[int], *, skip: bool
) -> Iterator[tuple[int, VideoFrame]]:
    """(number, frame) of the wanted numbers, which must grow, of a video that was opened anew.

    With `skip`, what lies between is not decoded; raises NotExactError where that cannot be done, and what came before
    it is right. For a picture that gives no frame of its own, as a repeated one or a second field, the frame before it
    comes, with its own number: it may come again. Raises UnreadableVideo at the first damage.
    """
    goals = deque(numbers)
    start, key = timeline.way_in(timeline.times[goals[0]] if skip else timeline.keys[0])
    shown: VideoFrame | None = None  # the last one since `start`
    for place, packet in _packets(video):
        if place < start:
            continue
        try:
            frames = video.decode(packet)
        except UnreadableVideo:
            if skip and shown is None:
                raise NotExactError from None
            raise
        for frame in frames:
            if frame.pts is None or (shown is None and frame.pts < key):  # built on pictures before the key picture
                continue
            if skip and shown is None and key not in timeline.cut and not (frame.pts == key and frame.key_frame):
                raise NotExactError
            _sound(video, frame)
            for due in _due(video, timeline, goals, frame, shown):
                yield timeline.number(due.pts or 0), due
            shown = frame
        if not goals:
            return
        ahead, next_key = timeline.way_in(timeline.times[goals[0]])
        if skip and ahead > place + 1:
            start, key, shown = ahead, next_key, None
            video.stream.codec_context.flush_buffers()
    if shown is None:
        raise UnreadableVideo("damaged: none of its pictures can be decoded")
    if goals:
        yield timeline.number(_repeated(video, shown).pts or 0), shown


def _due(
    video: OpenVideo, timeline: Timeline, goals: deque[int], frame: VideoFrame, shown: VideoFrame | None
) -> Iterator[VideoFrame]:
    """What is on screen at the goals up to a new frame, of which `shown` is the one before; they are taken off."""
    time: Any = frame.pts
    while goals and timeline.times[goals[0]] < time:  # its picture gave no frame
        goals.popleft()
        yield _repeated(video, shown) if shown else frame
    if goals and timeline.times[goals[0]] == time:
        goals.popleft()
        yield frame


def _packets(video: OpenVideo) -> Iterator[tuple[int, Packet[VideoStream] | None]]:
    """The packets with their places, then None: the decoder gives what it has held back."""
    place = -1
    for place, packet in enumerate(video.packets()):
        yield place, packet
    yield place + 1, None


def _sound(video: OpenVideo, frame: VideoFrame) -> VideoFrame:
    """The frame; UnreadableVideo for one that the decoder made up in part."""
    if frame.is_corrupt:
        raise UnreadableVideo(f"damaged: a picture is not whole{video.about(frame.pts)}")
    return frame


def _repeated(video: OpenVideo, shown: VideoFrame) -> VideoFrame:
    """The frame that stays on screen for a picture without one; UnreadableVideo where the codec knows no such picture.

    Of interlaced video either field may be a picture of its own, and the second one gives no frame.
    """
    if video.stream.codec_context.name not in _REPEATS and not shown.interlaced_frame:
        raise UnreadableVideo(f"damaged: a picture is missing{video.about(shown.pts)}")
    return shown
