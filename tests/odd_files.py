"""Kinds of files as people have them, and what becomes of each: data of tests, and the table of docs/data.md.

`python tests/odd_files.py` rewrites the table. A kind says how its bytes are made and what becomes of it, and, if it is
read, which picture is expected.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs" / "data.md"
BEGIN, END = "<!-- from tests/odd_files.py -->", "<!-- end -->"
SIDE = 96
EOI = b"\xff\xd9"

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Odd:
    """A kind of file: `given` and `becomes` are its row; `reason` is what a rejection must begin with.

    `due` are the pixels, (H, W, 3), within `off` levels on average; `needs` is the module without which the test skips;
    `also` makes more of the kind, of which the same is due.
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


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: to be turned a quarter clockwise
    return encoded("PNG", exif=exif)


def animation(kind: str, **options: Any) -> bytes:
    return encoded(kind, save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE), "red")], **options)


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


READ, REJECTED = "read", "rejected"
CODECS = ("PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
TEXT, XMP = b'{"nodes":[]},' * 160_000, b"<x/>" * 600_000
FILES = [
    # What people have.
    Odd(
        "JPEG: baseline, progressive, any sampling, restart markers",
        READ,
        jpeg,
        rgb,
        3,
        also=[
            partial(jpeg, progressive=progressive, subsampling=sampling, **more)
            for progressive in (False, True)
            for sampling in (0, 1, 2)
            for more in ({}, {"optimize": True}, {"restart_marker_blocks": 5})
        ],
    ),
    Odd("MPO and Ultra HDR of phones", "the first picture", lambda: animation("MPO", quality=92), rgb, 3),
    Odd("PNG", READ, lambda: encoded("PNG"), rgb),
    Odd("WebP", READ, lambda: encoded("WEBP", lossless=True), rgb, 3, also=[lambda: encoded("WEBP", quality=95)]),
    Odd("BMP", READ, lambda: encoded("BMP"), rgb),
    Odd(
        "TIFF, of any compression that libtiff has here",
        READ,
        lambda: encoded("TIFF"),
        rgb,
        3,
        also=[
            *(partial(encoded, "TIFF", compression=c) for c in ("packbits", "tiff_lzw", "tiff_adobe_deflate")),
            lambda: encoded("TIFF", compression="jpeg", quality=95),
            lambda: encoded("TIFF", big_tiff=True),
        ],
    ),
    Odd("PPM, PGM", READ, lambda: encoded("PPM"), rgb),
    Odd("JPEG 2000", READ, lambda: encoded("JPEG2000"), rgb),
    Odd("AVIF", READ, lambda: encoded("AVIF", quality=95), rgb, 4),
    Odd("HEIC, HEIF, with `ffdi[formats]`", READ, lambda: encoded("HEIF", quality=95), rgb, 4, needs="pillow_heif"),
    Odd("JPEG XL, with `ffdi[formats]`", READ, lambda: encoded("JXL", lossless=True), rgb, needs="pillow_jxl"),
    Odd(
        "animated GIF, WebP, PNG",
        "the first frame",
        lambda: animation("WEBP", lossless=True),
        rgb,
        6,
        also=[lambda: animation("GIF"), lambda: animation("PNG")],
    ),
    Odd("TIFF of many pages", "the first page", lambda: animation("TIFF"), rgb),
    # What is converted.
    Odd(
        "EXIF or XMP orientation",
        "applied",
        turned,
        lambda: np.rot90(rgb(), -1),
        also=[lambda: png_with(chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'))],
    ),
    Odd("grey", "RGB", lambda: encoded("PNG", scene().convert("L")), lambda: rgb(scene().convert("L"))),
    Odd("palette", "RGB", lambda: encoded("PNG", scene().quantize(16)), lambda: rgb(scene().quantize(16))),
    Odd(
        "CMYK of no profile",
        "RGB, as Pillow converts it",
        lambda: encoded("TIFF", scene().convert("CMYK")),
        lambda: rgb(scene().convert("CMYK")),
    ),
    Odd("16-bit grey", "8-bit: v / 257, never clipped", lambda: png16(ramp16()), ramp8),
    Odd(
        "12-bit TIFF",
        "8-bit: of 4095",
        lambda: tiff(bytes((0, 0x0F, 0xFF)), width=2, bits=12),
        lambda: np.repeat(np.array([[[0], [255]]]), 3, axis=2),
    ),
    Odd(
        "TIFF whose 0 is white, 8 or 16 bits",
        "inverted",
        lambda: tiff(ramp16().astype("<u2").tobytes(), width=16, bits=16, photometric=0),
        lambda: 255 - ramp8().reshape(1, 16, 3),
    ),
    Odd(
        "transparency",
        "laid over white",
        lambda: encoded("PNG", Image.new("RGBA", (4, 4), (0, 0, 0, 0))),
        lambda: np.full((4, 4, 3), 255),
        also=[
            lambda: encoded("PNG", Image.new("LA", (4, 4), (0, 0))),
            lambda: encoded("PNG", Image.new("RGB", (4, 4)), transparency=(0, 0, 0)),
            lambda: encoded("GIF", Image.new("P", (4, 4)), transparency=0),
            lambda: encoded("WEBP", Image.new("RGBA", (4, 4), (0, 0, 0, 0)), lossless=True),
            lambda: encoded("TIFF", Image.new("RGBA", (4, 4), (0, 0, 0, 0))),
        ],
    ),
    Odd(
        "16-bit grey of which one level is transparent",
        "laid over white",
        lambda: png16(ramp16(), chunk(b"tRNS", struct.pack(">H", 4369))),
        lambda: np.where(ramp8() == 17, 255, ramp8()),
    ),
    Odd("profile that is sRGB, of any make", "no byte changes", lambda: encoded("PNG", icc_profile=SRGB), rgb),
    Odd(
        "profile of another space: Display P3, Adobe RGB, ...",
        "converted to sRGB (relative colorimetric)",
        lambda: encoded("PNG", icc_profile=DISPLAY_P3),
        lambda: in_srgb(P3_PRIMARIES),
        3,
        also=[
            lambda: jpeg(icc_profile=DISPLAY_P3, quality=98, subsampling=0),
            lambda: encoded("WEBP", lossless=True, icc_profile=DISPLAY_P3),
            lambda: encoded("TIFF", icc_profile=DISPLAY_P3),
            lambda: encoded("PNG", opaque(), icc_profile=DISPLAY_P3),
            lambda: encoded("AVIF", quality=98, subsampling="4:4:4", icc_profile=DISPLAY_P3),
        ],
    ),
    Odd(
        "profile of grey",
        "converted to sRGB",
        lambda: encoded("PNG", scene().convert("L"), icc_profile=grey_profile(1.8)),
        greyer,
        1,
        also=[
            lambda: encoded("TIFF", scene().convert("L"), icc_profile=grey_profile(1.8)),
            lambda: encoded("PNG", opaque().convert("LA"), icc_profile=grey_profile(1.8)),
        ],
    ),
    Odd(
        "profile of CMYK",
        "converted to sRGB",
        lambda: encoded("TIFF", Image.new("CMYK", (4, 4), (0, 0, 0, 128)), icc_profile=ink_profile()),
        lambda: np.full((4, 4, 3), 119),  # half as light, L* = 50, is 119 in sRGB's curve
        1,
        also=[lambda: jpeg(image=Image.new("CMYK", (4, 4), (0, 0, 0, 128)), icc_profile=ink_profile())],
    ),
    Odd(
        "profile that is broken, or of another kind of picture",
        "ignored",
        lambda: encoded("PNG", scene().convert("L"), icc_profile=DISPLAY_P3),
        lambda: rgb(scene().convert("L")),
        also=[
            partial(encoded, "PNG", scene().convert("L").convert("RGB"), icc_profile=bad)
            for bad in (b"junk", bytes(4000), DISPLAY_P3[:300], grey_profile(1.8))
        ],
    ),
    Odd(
        "gAMA, cHRM, cICP of a PNG; profiles of JPEG 2000",
        "ignored",
        lambda: png_with(chunk(b"gAMA", struct.pack(">I", 100_000))),
        rgb,
        also=[lambda: png_with(chunk(b"cICP", bytes((12, 13, 0, 1)))), lambda: png_with(chunk(b"cHRM", bytes(32)))],
    ),
    # What lies beside the pixels.
    Odd("bytes behind a JPEG's end mark", READ, lambda: jpeg() + b"SEFT" * 200, lambda: rgb(opened(jpeg()))),
    Odd(
        "bytes before a JPEG's end mark",
        READ,
        lambda: jpeg()[:-2] + bytes(600) + EOI,
        lambda: rgb(opened(jpeg())),
    ),
    Odd(
        "PNG with more than 1 MB of text or XMP",
        READ,
        lambda: png_with(
            chunk(b"zTXt", b"workflow\0\0" + zlib.compress(TEXT)),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        ),
        rgb,
    ),
    Odd(
        "JPEG, WebP, TIFF with large or odd XMP, EXIF, comments",
        READ,
        lambda: jpeg(comment=b"x" * 9_000, exif=b"Exif\0\0" + bytes(9_000), xmp=b"x" * 9_000),
        rgb,
        3,
        also=[
            lambda: encoded("WEBP", lossless=True, xmp=TEXT, exif=b"junk"),
            lambda: encoded("TIFF", tiffinfo={700: TEXT, 33723: b"junk"}),
        ],
    ),
    Odd(
        "PNG with a profile of more than 1 MB",
        "read as sRGB",
        lambda: png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2_000_000)))),
        rgb,
    ),
    Odd(
        "PNG with a wrong checksum of a comment, a profile or EXIF",
        "read without it",
        lambda: png_with(chunk(b"tEXt", b"Comment\0hello", checksum=0)),
        rgb,
        also=[
            lambda: png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(DISPLAY_P3), checksum=0)),
            lambda: png_with(chunk(b"eXIf", b"MM\0*", checksum=0)),
            lambda: encoded("PNG")[:-12] + chunk(b"tEXt", b"Comment\0hello", checksum=0) + encoded("PNG")[-12:],
        ],
    ),
    Odd(
        "EXIF that is broken",
        "read as it lies",
        lambda: encoded("PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"),
        rgb,
        3,
        also=[lambda: jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"), lambda: jpeg(exif=b"Exif\0\0II")],
    ),
    # What is refused.
    Odd(
        "more than `data.max_pixels`",
        REJECTED,
        lambda: encoded("PNG", Image.new("1", (2000, 2000))),
        reason="2000x2000",
    ),
    Odd("empty file", REJECTED, lambda: b"", reason="empty file"),
    Odd("no image", REJECTED, lambda: b"no picture", reason="not an image format"),
    Odd(
        "cut off: any format",
        REJECTED,
        lambda: half(jpeg()),
        reason="damaged",
        also=[lambda kind=kind: half(encoded(kind)) for kind in CODECS],
    ),
    Odd(
        "JPEG cut off and closed with an end mark",
        REJECTED,
        lambda: half(jpeg()) + EOI,
        reason="damaged: Corrupt JPEG data: premature end of data segment",
        also=[
            lambda: half(jpeg(optimize=True, subsampling=0)) + EOI,
            lambda: half(jpeg()) + EOI + b"SEFT" * 200,
            # what an application wrote with a version that libjpeg does not know must not hide it
            lambda: half(jpeg().replace(b"JFIF\0\1", b"JFIF\0\x09")) + EOI,
        ],
    ),
    Odd(
        "JPEG or PNG whose tail is zeros",
        REJECTED,
        lambda: zero_tail(jpeg()),
        reason="damaged: ",
        also=[lambda: zero_tail(jpeg(optimize=True)), lambda: zero_tail(encoded("PNG"))],
    ),
    Odd(
        "JPEG inside a TIFF that ends early",
        REJECTED,
        tiff_of_half_a_jpeg,
        reason="damaged: Corrupt JPEG data: premature end of data segment",
    ),
    Odd(
        "progressive JPEG that lacks scans",
        REJECTED,
        lambda: before_the_last_scan(jpeg(progressive=True)) + EOI,
        reason="damaged: the JPEG ends before the scans of component",
    ),
    Odd("JPEG of more than 64 scans", REJECTED, lambda: many_scans(65), reason="a JPEG of 65 scans"),
    Odd(
        "PNG with a wrong checksum of pixels, palette or header",
        REJECTED,
        lambda: png_spoilt(b"IDAT"),
        reason="damaged",
        also=[lambda: png_spoilt(b"PLTE"), lambda: png_spoilt(b"IHDR"), lambda: png_spoilt(b"tRNS")],
    ),
    Odd(
        "floating point",
        REJECTED,
        lambda: encoded("TIFF", Image.fromarray(np.full((4, 4), 0.5, np.float32))),
        reason="floating-point pixels have no range",
    ),
    Odd(
        "32-bit or signed integers",
        REJECTED,
        lambda: tiff(struct.pack("<hh", 0, 32767), width=2, bits=16, sample_format=2),
        reason="32-bit or signed integer pixels have no range",
        also=[lambda: tiff(struct.pack("<II", 0, 99), width=2, bits=32)],
    ),
    Odd(
        "16-bit colour of which one is transparent",
        REJECTED,
        lambda: png16(np.zeros((4, 4, 3), np.uint16), chunk(b"tRNS", bytes(6))),
        reason="16-bit colour with a transparent colour",
    ),
    Odd("Lab", REJECTED, lambda: encoded("TIFF", Image.new("LAB", (4, 4))), reason="Lab colours are not read"),
    Odd(
        "HEIC, HEIF, JPEG XL, without `ffdi[formats]`",
        "rejected, with what to install",
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        reason="HEIF is read with pillow-heif: pip install 'ffdi[formats]'",
        needs="no pillow_heif",
    ),
    Odd(
        "EPS, PSD, ICO, TGA, FITS, SVG, PDF, video, any other format, under any name",
        "rejected by name; no plugin or program is started",
        lambda: encoded("EPS"),
        reason="EPS is not on the list of formats",
    ),
]


def table() -> str:
    rows = [f"| {odd.given} | {odd.becomes} |" for odd in FILES]
    return "\n".join(("| given | becomes |", "| --- | --- |", *rows))


def in_docs(text: str) -> str:
    """docs/data.md with the table between its marks."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    DOCS.write_text(in_docs(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{DOCS}: {len(FILES)} rows\n")
