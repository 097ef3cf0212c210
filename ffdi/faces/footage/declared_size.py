"""How long a video file says that it is: a file that says more than it has was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ffdi.faces.footage.unreadable import UnreadableVideo

_TO_THE_END = 0  # a box of that size reaches to the end of the file
_LARGE = 1  # a box of that size has its size behind its name, in 64 bits
# Outermost boxes and elements; what else stands there is not part of the video, and says nothing of its length.
_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"free", b"skip", b"wide", b"uuid", b"meta"}
_ELEMENTS = {b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xec"}  # header, segment, void
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the id of an object in the header of ASF
_ASF_HEAD = 1 << 16  # bytes in which it is
_MISCOUNTED = 8  # bytes: some writers of AVI count the name and the size of the RIFF as well


def refuse_truncated(path: Path, kind: str) -> None:
    """Raise UnreadableVideo for a file that is shorter than its outermost boxes, by the name that format_of gives it.

    Formats that are made of packets alone, as a transport stream is, do not say how long they are.
    """
    size = path.stat().st_size
    end_of = _END_OF.get(kind)
    if end_of is None:
        return
    with path.open("rb") as file:
        declared = end_of(file, size)
    if declared > size:
        raise UnreadableVideo(f"truncated: the file has {size} of the {declared} bytes that it should have")


def _boxes(file: BinaryIO, size: int) -> int:
    """The end of the last box of ISO's or QuickTime's format: a size in 32 bits and a name of four letters each."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == _LARGE:
            length = int.from_bytes(head[8:], "big")
        if length == _TO_THE_END or length < 8 or head[4:8] not in _BOXES:
            return size
        at += length
    return at


def _riffs(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF of an AVI: a large one has several. A writer that was killed leaves the size at 0."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            return size
        at += 8 + length
    return size if at <= size + _MISCOUNTED else at


def _segment(file: BinaryIO, size: int) -> int:
    """The end of the last element of Matroska at the top: an id and a size of variable length each.

    A size whose bits are all ones is unknown, as in a stream that was written while it was recorded.
    """
    at = 0
    while at + 2 <= size:
        file.seek(at)
        head = file.read(16)
        name = _width(head[0])
        if head[:name] not in _ELEMENTS or len(head) <= name:
            return size
        width = _width(head[name])
        field = int.from_bytes(head[name : name + width], "big")
        bits = (1 << 7 * width) - 1
        if width > 8 or field & bits == bits:
            return size
        at += name + width + (field & bits)
    return at


def _asf(file: BinaryIO, size: int) -> int:
    """The size that the file properties of an ASF (WMV) state, unless it was written while it was broadcast."""
    head = file.read(_ASF_HEAD)
    at = head.find(_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 104 or head[at + 88] & 1:  # a flag: the size is not known
        return size
    return int.from_bytes(head[at + 40 : at + 48], "little")


def _width(first: int) -> int:
    """How many bytes an id or a size of Matroska has, by its first byte: one more for each leading zero bit."""
    return 9 - first.bit_length()


_END_OF = {
    "MP4 video": _boxes,
    "QuickTime video": _boxes,
    "AVI video": _riffs,
    "Matroska video": _segment,
    "WMV video": _asf,
}
