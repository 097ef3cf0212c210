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
    """The transfer curve in the nclx box of the primary picture; 0 where it has none."""
    meta = dict(_boxes(dict(_boxes(data))[b"meta"][4:])) if b"meta" in dict(_boxes(data)) else {}
    if not {b"pitm", b"iprp"} <= meta.keys():
        return 0
    primary = int.from_bytes(meta[b"pitm"][4:], "big")
    parts = list(_boxes(meta[b"iprp"]))
    properties = [box for kind, body in parts if kind == b"ipco" for box in _boxes(body)]
    for kind, body in parts:
        for item, numbers in _associations(body) if kind == b"ipma" else ():
            for of, described in (properties[number - 1] for number in numbers if item == primary and number):
                if of == b"colr" and described[:4] == b"nclx":
                    return int(struct.unpack_from(">H", described, 6)[0])
    return 0


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
