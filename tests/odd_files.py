"""Kinds of image files that people have, and how each is treated: data of tests, and the table of docs/data.md.

`python tests/odd_files.py` rewrites the table. A kind says how its bytes are made, how it is treated, and, if it is read,
which picture is expected.
"""

from __future__ import annotations

import struct
import sys
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from odd_bytes import (
    DISPLAY_P3,
    EOI,
    Odd,
    animation,
    chunk,
    encoded,
    gain_map,
    jpeg,
    opened,
    png16,
    png_with,
    ramp8,
    ramp16,
    rgb,
    scene,
    segment,
    ten_bits,
    tiff,
    turned,
)
from odd_colours import COLOURS
from odd_rejections import REJECTIONS
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs" / "data.md"
BEGIN, END = "<!-- from tests/odd_files.py -->", "<!-- end -->"


READ = "read"
CODECS = ("PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
GAIN_MAP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/></rdf:RDF></x:xmpmeta>'
)
TEXT, XMP = b'{"nodes":[]},' * 160_000, b"<x/>" * 600_000
FILES = [
    # Usual files.
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
    Odd(
        "MPO; JPEG with a gain map (Ultra HDR, ISO 21496) or a film (motion photo)",
        "the first picture",
        lambda: animation("MPO", quality=92),
        rgb,
        3,
        also=[
            lambda: jpeg(xmp=GAIN_MAP) + gain_map(),
            lambda: segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4), jpeg()) + gain_map(),
            lambda: jpeg() + b"\0\0\0\x18ftypmp42" + bytes(9_000),
        ],
    ),
    Odd("PNG", READ, lambda: encoded("PNG"), rgb),
    Odd("WebP", READ, lambda: encoded("WEBP", lossless=True), rgb, 3, also=[lambda: encoded("WEBP", quality=95)]),
    Odd("BMP", READ, lambda: encoded("BMP"), rgb),
    Odd(
        "TIFF, with any compression that libtiff supports here",
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
    Odd(
        "HEIC of several pictures; of 10 bits",
        "the primary picture, in 8 bits",
        lambda: animation("HEIF", quality=95),
        rgb,
        4,
        needs="pillow_heif",
        also=[lambda: animation("HEIF", quality=95, thumbnails=[32]), ten_bits],
    ),
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
    # Files that are converted.
    Odd(
        "EXIF or XMP orientation",
        "applied",
        turned,
        lambda: np.rot90(rgb(), -1),
        also=[lambda: png_with(chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'))],
    ),
    Odd(
        "HEIC and AVIF that say twice how they lie, in a box of their own (`irot`) and in EXIF",
        "turned once, by the box",
        lambda: turned("AVIF", quality=95),
        lambda: np.rot90(rgb(), -1),
        4,
        needs="pillow_heif",
        also=[lambda: turned("HEIF", quality=95)],
    ),
    Odd(
        "JPEG XL: orientation in EXIF",
        "ignored, as its own rules say: the header has it",
        lambda: turned("JXL", lossless=True),
        rgb,
        needs="pillow_jxl",
    ),
    Odd("grey", "RGB", lambda: encoded("PNG", scene().convert("L")), lambda: rgb(scene().convert("L"))),
    Odd("palette", "RGB", lambda: encoded("PNG", scene().quantize(16)), lambda: rgb(scene().quantize(16))),
    Odd(
        "CMYK without a profile",
        "RGB, as Pillow converts it",
        lambda: encoded("TIFF", scene().convert("CMYK")),
        lambda: rgb(scene().convert("CMYK")),
    ),
    Odd("16-bit grey", "8-bit: v / 257, never clipped", lambda: png16(ramp16()), ramp8),
    Odd(
        "12-bit TIFF",
        "8-bit: v / 4095 * 255",
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
        "blended over white",
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
        "16-bit grey with one transparent level",
        "blended over white",
        lambda: png16(ramp16(), chunk(b"tRNS", struct.pack(">H", 4369))),
        lambda: np.where(ramp8() == 17, 255, ramp8()),
    ),
    *COLOURS,
    # Data beside the pixels.
    Odd("bytes after a JPEG's end mark", READ, lambda: jpeg() + b"SEFT" * 200, lambda: rgb(opened(jpeg()))),
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
        "read without being turned",
        lambda: encoded("PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"),
        rgb,
        3,
        also=[lambda: jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"), lambda: jpeg(exif=b"Exif\0\0II")],
    ),
    *REJECTIONS,
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
