"""Kinds of image files that are rejected: the last rows of odd_files.py's table."""

from __future__ import annotations

import struct

import numpy as np
from odd_bytes import (
    EOI,
    Odd,
    before_the_last_scan,
    chunk,
    encoded,
    half,
    jpeg,
    many_scans,
    png16,
    png_spoilt,
    png_with,
    tiff,
    tiff_of_half_a_jpeg,
    with_coding,
    zero_tail,
)
from PIL import Image

REJECTED = "rejected"
CODECS = ("PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
REJECTIONS = [
    Odd(
        "more than `data.max_pixels`",
        REJECTED,
        lambda: encoded("PNG", Image.new("1", (2000, 2000))),
        reason="2000x2000",
    ),
    Odd("empty file", REJECTED, lambda: b"", reason="empty file"),
    Odd("not an image", REJECTED, lambda: b"no picture", reason="not an image format"),
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
            # an application segment of a version that libjpeg does not know must not hide the damage
            lambda: half(jpeg().replace(b"JFIF\0\1", b"JFIF\0\x09")) + EOI,
        ],
    ),
    Odd(
        "JPEG or PNG that ends in zeros",
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
        "16-bit colour with one transparent colour",
        REJECTED,
        lambda: png16(np.zeros((4, 4, 3), np.uint16), chunk(b"tRNS", bytes(6))),
        reason="16-bit colour with a transparent colour",
    ),
    Odd(
        "HDR (PQ, HLG) by numbers alone: HEIC, AVIF (`nclx`), PNG (cICP)",
        "rejected: there is no rule to make it sRGB",
        lambda: with_coding(encoded("AVIF"), 9, 16),
        reason="an HDR picture (PQ), for which there is no rule: export it as sRGB",
        also=[lambda: png_with(chunk(b"cICP", bytes((9, 16, 0, 1))))],
    ),
    Odd(
        "camera raw: DNG (ProRAW, too), CR2, CR3, NEF, ARW, RAF, ORF, RW2, under any name",
        "rejected by name; its preview is not taken for the picture",
        lambda: encoded("TIFF", tiffinfo={50706: b"\1\4\0\0"}),
        reason="camera raw is not on the list of formats",
        also=[
            lambda: encoded("TIFF", tiffinfo={254: 1}),
            lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(60),
            lambda: b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(60),
            lambda: b"FUJIFILMCCD-RAW 0201" + bytes(60),
            lambda: b"IIRO\x08\0\0\0" + bytes(60),
            lambda: b"IIU\0\x18\0\0\0" + bytes(60),
        ],
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
