"""Damage of a JPEG that libjpeg reports and Pillow hides: data that end early, and too many scans.

libjpeg fills a picture whose data end early with grey, warns, and goes on; Pillow hides the warning. Here the JPEG is
decoded again, at an eighth of its size, by a binding that raises the warning as an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ffdi.intake.decoding.formats import UnreadableImage

# libjpeg writes 10 scans, 18 for four components; mozjpeg tries 64 and keeps a dozen. Each scan is a pass over the
# whole picture, however few bytes it has.
MOST_SCANS = 64

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_SCANS_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_EOI, _SOS, _DRI = 0xD9, 0xDA, 0xDD
_PROGRESSIVE = (0xC2, 0xCA)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_APPLICATIONS = (*range(0xE0, 0xF0), 0xFE)  # and comments
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
_COMPRESSION, _JPEG, _TABLES = 259, 7, 347  # tags of TIFF; below, those of strips and of tiles
_OFFSETS, _LENGTHS = (273, 324), (279, 325)
_LEFT_OVER = re.compile(r"extraneous bytes before marker 0xd9")
_FILLED = 8


@dataclass(frozen=True)
class _Segment:
    """A marker with its parameters, and for a scan the coded data after it."""

    marker: int
    body: bytes  # starts with the marker
    coded: bytes = b""


def refuse_many_scans(data: bytes) -> None:
    """UnreadableImage for a JPEG of more than MOST_SCANS scans; call it before decoding."""
    if data.count(b"\xff\xda") <= MOST_SCANS:  # an upper bound: thumbnails have scans too
        return
    if (scans := sum(segment.marker == _SOS for segment in _segments(data))) > MOST_SCANS:
        raise UnreadableImage(f"a JPEG of {scans} scans: no encoder makes more than {MOST_SCANS}, and each costs time")


def refuse_unfinished(data: bytes) -> None:
    """UnreadableImage for a JPEG whose data are damaged or end early, as libjpeg sees it.

    Data of applications beside the picture are harmless, and so are left-over bytes after its data, as long as the
    picture is complete without them. libjpeg reports zeros in place of the rest of a picture as left over too.
    """
    if data.count(b"\xff\xda") == 1 and b"\xff\xc2" not in data and not _complaint(data):
        return  # most JPEGs: no need to parse their segments
    segments = [segment for segment in _segments(data) if segment.marker not in _APPLICATIONS]
    if missing := _never_sent(segments):
        raise UnreadableImage(f"damaged: the JPEG ends before the scans of {missing}")
    complaint = _complaint(_joined(segments))
    if _LEFT_OVER.search(complaint) and _is_whole_without(segments):
        return
    if complaint.startswith(_DAMAGE):
        raise UnreadableImage(f"damaged: {complaint}")


def jpegs_of_tiff(image: Image.Image, data: bytes) -> Iterator[bytes]:
    """The strips or tiles of a TIFF that is compressed as JPEG, each as a JPEG with the shared tables."""
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION) != _JPEG:
        return
    offsets, lengths = (tags.get(strips) or tags.get(tiles) for strips, tiles in (_OFFSETS, _LENGTHS))
    tables = tags.get(_TABLES, b"\xff\xd8\xff\xd9")[:-2]
    for at, length in zip(offsets, lengths, strict=True):
        yield tables + data[at + 2 : at + length]


def _joined(segments: list[_Segment]) -> bytes:
    return b"".join((b"\xff\xd8", *(part for s in segments for part in (s.body, s.coded)), b"\xff\xd9"))


def _complaint(data: bytes) -> str:
    """libjpeg's first warning or error, "" for none."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        return str(error)
    return ""


def _is_whole_without(segments: list[_Segment]) -> bool:
    """Whether the bytes left over before the end mark are padding: the picture needs at most 8 of them.

    All scans before the last are complete, or libjpeg would have reported those first. With restart markers it reports
    left-over bytes inside the last scan too, so that there only a picture without any report is complete.
    """
    *before, last = segments
    bare = len(last.coded.rstrip(last.coded[-1:]))
    complaint = ""
    for kept in range(_FILLED + 1):
        complaint = _complaint(_joined([*before, replace(last, coded=last.coded[: bare + kept])]))
        if not complaint:
            return True
    restarts = any(segment.marker == _DRI and any(segment.body[4:]) for segment in segments)
    return _LEFT_OVER.search(complaint) is not None and not restarts


def _never_sent(segments: list[_Segment]) -> str:
    """The components whose scans are missing; "" where each has all bits of all coefficients, or nothing is known."""
    frame = next((segment for segment in segments if segment.marker in _FRAMES), None)
    if frame is None or len(frame.body) < 10:
        return ""
    components = frame.body[10 : 10 + 3 * frame.body[9] : 3]
    low = {component: [1] * 64 for component in components}  # for each coefficient, the bits that are still missing
    for scan in (segment.body for segment in segments if segment.marker == _SOS):
        count = scan[4] if len(scan) > 4 else 0
        if len(scan) < 8 + 2 * count:
            return ""
        first, last, bits = scan[5 + 2 * count : 8 + 2 * count]
        if frame.marker not in _PROGRESSIVE:
            first, last, bits = 0, 63, 0
        for component in scan[5 : 5 + 2 * count : 2]:
            if component in low:
                low[component][first : last + 1] = [bits & 15] * len(low[component][first : last + 1])
    missing = [str(component) for component, bits in low.items() if any(bits)]
    return f"component{'s' * (len(missing) > 1)} {', '.join(missing)}" if missing else ""


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments of the first picture, up to its end mark or to the first bytes that are no segment."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None and (marker := found[1][0]) != _EOI:
        start = found.end() - 2
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        at = start + 2 + length
        body = data[start:at]
        if length < 2 or len(body) < 2 + length:
            return
        if marker != _SOS:
            yield _Segment(marker, body)
            continue
        end = _SCANS_END.search(data, at)
        yield _Segment(marker, body, data[at : end.start() if end else len(data)])
        at = end.start() if end else len(data)
