"""The chunks of a PNG: those that its pixels need, and the others.

Text, profiles and comments cannot change a pixel, but Pillow rejects the picture where they are large or their checksum
is wrong. For the chunks of the pixels, on the other hand, Pillow ignores the checksums.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from ffdi.intake.decoding.formats import UnreadableImage

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_KEPT = (*_PIXELS, b"IEND", b"iCCP", b"cICP", b"eXIf")
_LARGEST_PROFILE = 1 << 20  # inflated; Pillow's own limit


def refuse_wrong_checksums(data: bytes) -> None:
    """UnreadableImage where the checksum of a chunk that pixels depend on is wrong."""
    for kind, body, check in _chunks(data):
        if kind in _PIXELS and not _is_right(kind, body, check):
            raise UnreadableImage(f"damaged: wrong checksum of the PNG's {kind.decode()}")


def has_wide_transparent_colour(data: bytes) -> bool:
    """Whether it is 16-bit colour with one transparent colour, which Pillow compares only with the upper bytes."""
    header = data[8:].startswith(b"\0\0\0\x0dIHDR") and (data[24], data[25])  # depth, kind of colour
    return header == (16, 2) and any(kind == b"tRNS" for kind, _, _ in _chunks(data))


def coding_of(data: bytes) -> bytes:
    """The four numbers of the chunk cICP, by H.273: primaries, transfer curve, matrix, range; zeros where there is none."""
    return next((body for kind, body, check in _chunks(data) if kind == b"cICP"), bytes(4))


def without_side_data(data: bytes) -> bytes:
    """The PNG reduced to the intact chunks that pixels, colours and orientation need."""
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + check
        for kind, body, check in _chunks(data)
        if kind in _PIXELS or (kind in _KEPT and _is_right(kind, body, check) and (kind != b"iCCP" or _is_small(body)))
    )


def _is_right(kind: bytes, body: bytes, check: bytes) -> bool:
    return zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(check, "big")


def _is_small(body: bytes) -> bool:
    """Whether a profile, inflated, is within Pillow's limit."""
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(body.partition(b"\0")[2][1:], _LARGEST_PROFILE)
    except zlib.error:
        return False
    return not inflate.unconsumed_tail


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(kind, body, checksum) of each chunk, up to the end mark or the end of the bytes."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        if len(check) < 4:
            return
        yield kind, body, check
        if kind == b"IEND":
            return
        at += 12 + length
