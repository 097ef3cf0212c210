"""When each frame of a video is shown, and which of them lie evenly in time.

The times come from the packets: reading a video without decoding it is fast, and gives the exact time and the number of
every frame, and whether the file is whole. Containers' own durations and frame counts are often wrong.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from ffdi.faces.footage.opening import OpenVideo
from ffdi.faces.footage.unreadable import UnreadableVideo

_VP8_SHOWN = 0x10  # a bit of the first byte of a picture of VP8: some are there only for others to build on
_MOST = Fraction(
    9, 10
)  # of what Matroska says of the length: where it is damaged, libav passes over what it cannot read
_USUAL_RATE = Fraction(25)  # frames a second, of a video that tells neither times nor a rate


@dataclass(frozen=True, eq=False)
class Timeline:
    """The times of all frames in the order of display, in ticks; `end` is when the last one is taken away.

    `keys` are the times of the pictures from which decoding can begin and `places` theirs among the packets, both in the
    order of the file; `cut` are those that are not shown themselves, by an edit list. There are none where frames must be
    counted, since the packets do not tell their times.
    """

    times: Sequence[int]
    end: int
    tick: Fraction
    keys: Sequence[int] = ()
    places: Sequence[int] = ()
    cut: frozenset[int] = frozenset()

    def seconds(self, number: int) -> float:
        """When a frame is shown, from the first frame on."""
        return float((self.times[number] - self.times[0]) * self.tick)

    def evenly(self, count: int) -> list[int]:
        """The numbers of the frames on screen at the middle of each of `count` equal parts of the video.

        A frame that is on screen in the middle of several parts is there once; of fewer frames than `count`, all are.
        """
        if count >= len(self.times):
            return list(range(len(self.times)))
        start, span = self.times[0], self.end - self.times[0]
        middles = (start + (2 * part + 1) * span // (2 * count) for part in range(count))
        return sorted({self.number(middle) for middle in middles})

    def number(self, time: int) -> int:
        """The number of the frame on screen at a time."""
        return max(bisect_right(self.times, time) - 1, 0)

    def way_in(self, time: int) -> tuple[int, int]:
        """(place among the packets, time) of the picture from which on decoding gives the frame of a time."""
        key = max(bisect_right(self.keys, time) - 1, 0)
        return self.places[key], self.keys[key]


def timeline_of(video: OpenVideo) -> Timeline | None:
    """The timeline by the video's packets; None where they do not tell the times of its frames.

    Pictures before the first key picture cannot be decoded, and are left out: a transport stream is cut anywhere. Raises
    UnreadableVideo for a video that was cut off, and for one without a frame.
    """
    times, keys, places = array("q"), array("q"), array("q")
    last, end, broken, told = 0, 0, False, True
    cut = set()
    is_vp8 = video.stream.codec_context.name == "vp8"
    for place, packet in enumerate(video.packets()):
        broken, time = packet.is_corrupt, packet.pts
        if time is None:
            told = False
            continue
        if packet.is_keyframe:
            told = told and (not times or time > last)  # or a time has jumped back: all before it are shown before it
            keys.append(time)
            places.append(place)
            cut |= {time} if packet.is_discard else set()
        hidden = packet.is_discard or (is_vp8 and not memoryview(packet)[0] & _VP8_SHOWN)  # is_discard: by an edit list
        if hidden or not keys or time < keys[0]:
            continue
        times.append(time)
        if time >= last or len(times) == 1:
            last, end = time, time + (packet.duration or 0)
    if broken and video.container.format.name != "mpegts":  # there it may be any gap
        raise UnreadableVideo("truncated: its last picture is not whole")
    if told and not times:
        raise UnreadableVideo("no frame in it")
    stated = _stated_end(video)
    if end * video.tick < _MOST * stated:
        raise UnreadableVideo(f"damaged: its pictures end at {float(end * video.tick):.2f} s of {float(stated):.2f} s")
    ordered = array("q", sorted(times))
    if not told or not all(a < b for a, b in pairwise(ordered)):
        return None
    stays = min(
        end - ordered[-1], max(_longest(ordered), round(1 / video.tick))
    )  # some files say that it stays for years
    end = ordered[-1] + (stays if stays > 0 else _step(ordered))
    return Timeline(ordered, end, video.tick, keys, places, frozenset(cut))


def counted_timeline(video: OpenVideo, shown: Sequence[int | None]) -> Timeline:
    """The timeline of frames that were decoded and counted: at their times if these grow, or else at the video's rate."""
    if not shown:
        raise UnreadableVideo("no frame in it")
    times = [time for time in shown if time is not None]
    if len(times) == len(shown) and all(a < b for a, b in pairwise(times)):
        return Timeline(times, times[-1] + _step(times), video.tick)
    rate = Fraction(str(video.stream.guessed_rate or _USUAL_RATE))
    return Timeline(range(len(shown)), len(shown), 1 / (rate if rate > 0 else _USUAL_RATE))


def _step(times: Sequence[int]) -> int:
    """The mean time from one frame to the next: how long the last one stays where the file does not say."""
    return max(round((times[-1] - times[0]) / max(len(times) - 1, 1)), 1)


def _longest(times: Sequence[int]) -> int:
    return max((later - time for time, later in pairwise(times)), default=0)


def _stated_end(video: OpenVideo) -> Fraction:
    """When a video ends in seconds, by the tag DURATION that writers of Matroska set last; 0 where there is none."""
    if not video.container.format.name.startswith("matroska"):
        return Fraction(0)
    hours, _, rest = video.stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return (Fraction(hours) * 60 + Fraction(minutes)) * 60 + Fraction(seconds.rstrip("\0"))
    except ValueError:
        return Fraction(0)
