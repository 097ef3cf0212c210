"""Kinds of image files whose colours are described: by a profile, by numbers, by chunks. Rows of odd_files.py's table."""

from __future__ import annotations

import struct
import zlib
from functools import partial

import numpy as np
from odd_bytes import (
    DISPLAY_P3,
    P3_PRIMARIES,
    PROPHOTO,
    PROPHOTO_PRIMARIES,
    SRGB,
    Odd,
    chunk,
    encoded,
    grey_profile,
    greyer,
    in_srgb,
    ink_profile,
    jpeg,
    opaque,
    png16,
    png_with,
    rgb,
    scene,
    with_coding,
)
from PIL import Image

COLOURS = [
    Odd("profile of sRGB, whoever made it", "no byte changes", lambda: encoded("PNG", icc_profile=SRGB), rgb),
    Odd(
        "profile of another colour space: Display P3, Adobe RGB, ...",
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
            lambda: png16(
                np.asarray(scene()).astype(np.uint16) * 257, chunk(b"iCCP", b"icc\0\0" + zlib.compress(DISPLAY_P3))
            ),
        ],
    ),
    Odd(
        "profile of a far wider one, such as ProPhoto RGB",
        "converted to sRGB; what sRGB does not have is clipped",
        lambda: encoded("PNG", icc_profile=PROPHOTO),
        lambda: in_srgb(PROPHOTO_PRIMARIES),
        3,
        also=[lambda: encoded("TIFF", icc_profile=PROPHOTO)],
    ),
    Odd(
        "profile in a HEIC",
        "converted to sRGB",
        lambda: encoded("HEIF", quality=98, chroma=444, icc_profile=DISPLAY_P3),
        lambda: in_srgb(P3_PRIMARIES),
        3,
        needs="pillow_heif",
    ),
    Odd(
        "HEIC and AVIF that name their colours by numbers alone (`nclx`): Display P3, BT.2020",
        "the numbers are ignored: read as sRGB",
        lambda: with_coding(encoded("AVIF", quality=95), 12, 13),
        rgb,
        4,
        also=[lambda: with_coding(encoded("AVIF", quality=95), 9, 1)],
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
        "profile that is broken, or for another colour mode",
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
]
