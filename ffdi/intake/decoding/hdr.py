"""Pictures whose numbers are those of HDR: PQ or HLG, as the file says without a profile. They have no rule here.

HEIF and AVIF say it in a box of the primary picture; a gain map, which makes HDR of a standard picture, has boxes of its
own. PNG says it in the chunk cICP.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ffdi.intake.decoding.formats import UnreadableImage
from ffdi.intake.decoding.pngs import coding_of

_HDR = {16: "PQ", 18: "HLG"}  # by H.273's numbers of transfer curves


def refuse_hdr(data: bytes, name: str) -> None:
    """UnreadableImage for a picture of that format (HEIF, AVIF, PNG) with an HDR curve; `data` are those of the file."""
    try:
        curve = coding_of(data)[1] if name == "PNG" else _curve_of_boxes(data)
    except (struct.error, IndexError):  # damaged, and none of the pixels' business
        return
    if curve in _HDR:
        raise UnreadableImage(f"an HDR picture ({_HDR[curve]}), for which there is no rule: export it as sRGB")


def _curve_of_boxes(data: bytes) -> int:
    """The transfer curve in the nclx box of the primary picture, or of the tiles that it is made of; 0 where there is none."""
    top = dict(_boxes(data))
    meta = dict(_boxes(top[b"meta"][4:])) if b"meta" in top else {}
    if not {b"pitm", b"iprp"} <= meta.keys():
        return 0
    primary = int.from_bytes(meta[b"pitm"][4:], "big")
    parts = list(_boxes(meta[b"iprp"]))
    properties = [box for kind, body in parts if kind == b"ipco" for box in _boxes(body)]
    curves: dict[int, int] = {}  # item -> its curve
    for item, numbers in (link for kind, body in parts if kind == b"ipma" for link in _associations(body)):
        for kind, body in (properties[number - 1] for number in numbers if number):
            if kind == b"colr" and body[:4] == b"nclx":
                curves[item] = int(struct.unpack_from(">H", body, 6)[0])
    made_of = _made_of(meta.get(b"iref", b""), primary)  # cameras put the colours to the tiles alone
    return next((curves[item] for item in (primary, *made_of) if item in curves), 0)


def _made_of(body: bytes, primary: int) -> list[int]:
    """The items that the primary picture is derived from, by the box iref."""
    of = ">I" if body[:1] == b"\1" else ">H"
    size = struct.calcsize(of)
    for kind, link in _boxes(body[4:]):
        if kind == b"dimg" and struct.unpack_from(of, link)[0] == primary:
            (count,) = struct.unpack_from(">H", link, size)
            return [struct.unpack_from(of, link, 2 + size * (1 + at))[0] for at in range(min(count, len(link)))]
    return []


def _associations(body: bytes) -> Iterator[tuple[int, list[int]]]:
    """(item, the numbers of its properties, from 1) of a box ipma."""
    wide, long_items = body[3] & 1, body[0] > 0
    (count,) = struct.unpack_from(">I", body, 4)
    at = 8
    for _ in range(min(count, len(body))):
        (item,) = struct.unpack_from(">I" if long_items else ">H", body, at)
        at += 4 if long_items else 2
        held = body[at]
        numbers = struct.unpack_from(f">{held}{'H' if wide else 'B'}", body, at + 1)
        at += 1 + held * (2 if wide else 1)
        yield item, [number & (0x7FFF if wide else 0x7F) for number in numbers]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, body) of the boxes that stand one after the other."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        size = size or len(data) - at
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size
