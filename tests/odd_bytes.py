"""Bytes of image files of many kinds, and the pixels that are expected of them: what odd_files.py lists."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

SIDE = 96
EOI = b"\xff\xd9"

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Odd:
    """A kind of file: `given` and `becomes` are its row; the reason of a rejection must begin with `reason`.

    `due` are the expected pixels, (H, W, 3), within `off` levels on average. The test is skipped without the module
    `needs`. `also` makes more files of the kind, with the same expectation.
    """

    given: str
    becomes: str
    make: Callable[[], bytes]
    due: Callable[[], Pixels] | None = None
    off: float = 0.0
    reason: str = ""
    needs: str = ""
    also: Sequence[Callable[[], bytes]] = ()


@cache
def scene() -> Image.Image:
    """A smooth colour picture, brighter above than below."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    planes = [np.sin(7 * x + 2 * y), np.cos(5 * y - 3 * x), np.sin(6 * x * y)]
    pixels = [np.clip(150 - 80 * y + 45 * plane, 0, 255) for plane in planes]
    return Image.fromarray(np.stack(pixels, axis=-1).astype(np.uint8))


def rgb(image: Image.Image | None = None) -> Pixels:
    return np.asarray((image or scene()).convert("RGB"))


def encoded(kind: str = "JPEG", image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or scene()).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(image: Image.Image | None = None, **options: Any) -> bytes:
    return encoded("JPEG", image, **{"quality": 92} | options)


def turned(kind: str = "PNG", **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: to be turned a quarter clockwise
    return encoded(kind, exif=exif.tobytes(), **options)


def gain_map() -> bytes:
    """The picture that turns the one before it into HDR: grey, a quarter of its size, behind its end mark."""
    return jpeg(scene().convert("L").resize((SIDE // 2, SIDE // 2)))


def segment(marker: int, body: bytes, data: bytes) -> bytes:
    """A JPEG with an application segment right behind its begin."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body + data[2:]


def with_coding(data: bytes, primaries: int, curve: int) -> bytes:
    """A HEIF or AVIF whose nclx box names these primaries and this transfer curve, by H.273."""
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, curve) + data[at + 4 :]


def animation(kind: str, **options: Any) -> bytes:
    return encoded(kind, save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE), "red")], **options)


def ten_bits(**options: Any) -> bytes:
    """A HEIC of 10 bits."""
    import pillow_heif

    buffer, wide = io.BytesIO(), np.asarray(scene()).astype("<u2") * 257
    pillow_heif.from_bytes(mode="RGB;16", size=(SIDE, SIDE), data=wide.tobytes()).save(buffer, quality=95, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    made = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", made)


def png_with(*chunks: bytes, whole: bytes | None = None) -> bytes:
    """Chunks behind the header, where text, profiles and transparency stand."""
    data = whole or encoded("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def png_spoilt(kind: bytes) -> bytes:
    """The checksum of the first chunk of that kind is wrong."""
    data = bytearray(encoded("PNG", scene().quantize(16), transparency=0))
    at = data.index(kind)
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    data[end] ^= 1
    return bytes(data)


def png16(pixels: Pixels, *chunks: bytes) -> bytes:
    """Of (H, W) uint16 grey or (H, W, 3) colour, which Pillow does not write."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(pixels: bytes, *, width: int, bits: int, photometric: int = 1, **tags: int) -> bytes:
    """A little-endian TIFF of one row; `sample_format` 2 is signed."""
    entries = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, 1)]
    entries += [(279, len(pixels)), *([(339, tags["sample_format"])] if tags else [])]
    begin = 8 + 2 + 12 * len(entries) + 4
    body = b"".join(struct.pack("<HHII", tag, 4, 1, begin if tag == 273 else value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + pixels


def ramp16() -> Pixels:
    return (np.arange(16, dtype=np.uint16) * 4369).reshape(4, 4)  # 17 levels apart in 8 bits


def ramp8() -> Pixels:
    return np.repeat((np.arange(16, dtype=np.uint8) * 17).reshape(4, 4, 1), 3, axis=2)


def gamma(value: float) -> bytes:
    """A tone curve of a profile."""
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


def srgb_table(points: int = 1024) -> bytes:
    steps = np.linspace(0, 1, points)
    curve = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", points) + np.round(curve * 65535).astype(">u2").tobytes()


def srgb_formula() -> bytes:
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *(round(number * 65536) for number in numbers))


def profile(primaries: Sequence[Sequence[float]], tone: bytes) -> bytes:
    """An ICC v2 display profile of three XYZ primaries (D50) and one tone curve."""
    white = (0.9642, 1.0, 0.8249)
    kinds = (b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {
        kind: b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(v * 65536)) for v in xyz)
        for kind, xyz in zip(kinds, (white, *primaries), strict=True)
    }
    return _icc(b"mntr", b"RGB ", tags | {b"rTRC": tone, b"gTRC": tone, b"bTRC": tone})


def grey_profile(value: float) -> bytes:
    white = b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(v * 65536)) for v in (0.9642, 1.0, 0.8249))
    return _icc(b"mntr", b"GRAY", {b"wtpt": white, b"kTRC": gamma(value)})


def _icc(kind: bytes, space: bytes, tags: dict[bytes, bytes], through: bytes = b"XYZ ") -> bytes:
    at = 128 + 4 + 12 * len(tags)
    index, bodies = struct.pack(">I", len(tags)), b""
    for tag, body in tags.items():
        index += tag + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(">I", at + len(bodies)) + bytes(4) + b"\x02\x10\0\0" + kind + space + through + bytes(12)
    header += b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + index + bodies


SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
P3_PRIMARIES = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_PRIMARIES = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
SRGB, DISPLAY_P3 = profile(SRGB_PRIMARIES, srgb_table()), profile(P3_PRIMARIES, srgb_table())
ADOBE = profile(ADOBE_PRIMARIES, gamma(2.2))
PROPHOTO_PRIMARIES = ((0.7977, 0.2880, 0.0000), (0.1352, 0.7119, 0.0000), (0.0313, 0.0001, 0.8249))
PROPHOTO = profile(PROPHOTO_PRIMARIES, srgb_table())  # with the curve that in_srgb takes


def in_srgb(primaries: Sequence[Sequence[float]]) -> Pixels:
    """The scene in Display P3 as sRGB has it, by the two matrices."""
    stored = rgb() / 255
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    wide = np.linalg.solve(np.transpose(SRGB_PRIMARIES), np.transpose(primaries)) @ linear.reshape(-1, 3).T
    wide = np.clip(wide.T.reshape(stored.shape), 0, 1)
    return 255 * np.where(wide <= 0.0031308, wide * 12.92, 1.055 * wide ** (1 / 2.4) - 0.055)


def greyer() -> Pixels:
    """Grey of gamma 1.8 in sRGB's curve."""
    linear = (np.asarray(scene().convert("L")) / 255) ** 1.8
    level = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.repeat(level[..., None], 3, axis=2)


def ink_profile() -> bytes:
    """Of CMYK: black takes lightness away in proportion, the other inks do nothing."""
    curves = bytes(range(256))
    lightness = [255 * (1 - (corner & 1)) for corner in range(16)]  # K changes fastest
    table = b"".join(bytes((level, 128, 128)) for level in lightness)
    unit = struct.pack(">9i", *(65536, 0, 0), *(0, 65536, 0), *(0, 0, 65536))
    body = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + unit + curves * 4 + table + curves * 3
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    return _icc(b"prtr", b"CMYK", {b"wtpt": white, b"A2B0": body}, b"Lab ")


def opaque() -> Image.Image:
    image = scene().copy()
    image.putalpha(255)
    return image


def tiff_of_half_a_jpeg() -> bytes:
    whole = encoded("TIFF", compression="jpeg", quality=92)
    tags: Any = opened(whole)
    (at,), (length,) = tags.tag_v2[273], tags.tag_v2[279]
    return whole[: at + length // 2] + EOI + whole[at + length // 2 + 2 :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    whole = jpeg(progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (count - whole.count(b"\xff\xda")) + EOI


def before_the_last_scan(data: bytes) -> bytes:
    return data[: data.rindex(b"\xff\xc4")]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zero_tail(data: bytes) -> bytes:
    return half(data) + bytes(len(data) - len(half(data)) - 2) + EOI
