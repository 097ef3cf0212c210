"""Whose colours a box of HEIF and AVIF describes: those of the primary picture count, those of a gain map do not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress

import pytest
from odd_bytes import SRGB, chunk, encoded, png_with, ten_bits

from ffdi.intake.decoding.formats import UnreadableImage
from ffdi.intake.decoding.hdr import refuse_hdr
from ffdi.intake.decoding.images import open_image

SDR, PQ, HLG = 13, 16, 18


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def nclx(curve: int) -> bytes:
    return box(b"colr", b"nclx" + struct.pack(">HHHB", 9, curve, 9, 128))


def media(primary: int, *curves: int, wide: bool = False, tiles: Sequence[int] = ()) -> bytes:
    """A file of pictures 1, 2, ... with these curves (0: none), each behind a box of its size; `wide`: with numbers of 32
    and 15 bits. The primary one is made of `tiles`."""
    own = [box(b"ispe", bytes(12)) + (nclx(curve) if curve else box(b"pixi", bytes(4))) for curve in curves]
    item, number = (">IB2H", 0x8000) if wide else (">HB2B", 0x80)
    links = b"".join(struct.pack(item, at, 2, 2 * at - 1, number | 2 * at) for at in range(1, len(curves) + 1))
    flags = struct.pack(">B3xI", 1, len(curves)) if wide else struct.pack(">4xI", len(curves))
    flags = flags[:3] + bytes([wide]) + flags[4:]
    primary_box = box(b"pitm", struct.pack(">B3xI" if wide else ">4xH", *((1, primary) if wide else (primary,))))
    properties = box(b"iprp", box(b"ipco", b"".join(own)) + box(b"ipma", flags + links))
    size = "I" if wide else "H"
    made_of = box(b"dimg", struct.pack(f">{size}H{len(tiles)}{size}", primary, len(tiles), *tiles))
    other = box(b"thmb", struct.pack(f">{size}H{size}", 9, 1, 1))
    links = box(b"iref", bytes([wide, 0, 0, 0]) + other + made_of) if tiles else b""
    return box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + primary_box + links + properties)


@pytest.mark.parametrize("wide", [False, True])
def test_the_primary_picture_counts(wide: bool) -> None:
    refuse_hdr(media(1, SDR, PQ, wide=wide), "AVIF")  # as a photo with a gain map has it
    for primary, name in ((2, "PQ"), (3, "HLG")):
        with pytest.raises(UnreadableImage, match=rf"an HDR picture \({name}\), for which there is no rule: export it"):
            refuse_hdr(media(primary, SDR, PQ, HLG, wide=wide), "HEIF")


@pytest.mark.parametrize("wide", [False, True])
def test_the_tiles_of_a_picture_count_where_it_says_nothing_itself(wide: bool) -> None:
    """As those of a HIF of a camera do."""
    with pytest.raises(UnreadableImage, match="HLG"):
        refuse_hdr(media(1, 0, HLG, HLG, PQ, wide=wide, tiles=(2, 3)), "HEIF")
    refuse_hdr(media(1, SDR, HLG, HLG, wide=wide, tiles=(2, 3)), "HEIF")
    refuse_hdr(media(2, PQ, 0, SDR, wide=wide, tiles=(3,)), "HEIF")


def test_a_damaged_box_is_no_business_of_the_colours() -> None:
    whole = media(2, SDR, PQ)
    for end in range(len(whole)):
        with suppress(UnreadableImage):  # and of no other kind
            refuse_hdr(whole[:end], "AVIF")
    refuse_hdr(b"", "HEIF")
    refuse_hdr(whole.replace(b"\x00\x02\x02", b"\x00\x02\xff"), "AVIF")
    assert open_image(png_with(chunk(b"cICP", b"")), max_pixels=10**6)
    assert open_image(png_with(chunk(b"cICP", bytes((9, 16, 0, 1)), checksum=0)), max_pixels=10**6)


def test_a_profile_decides_where_there_is_one() -> None:
    data = encoded("PNG", icc_profile=SRGB)
    assert open_image(png_with(chunk(b"cICP", bytes((9, 16, 0, 1))), whole=data), max_pixels=10**6)


@pytest.mark.parametrize(("curve", "name"), [(PQ, "PQ"), (HLG, "HLG")])
def test_a_heic_of_ten_bits_may_be_hdr(curve: int, name: str) -> None:
    pytest.importorskip("pillow_heif")
    numbers = {"color_primaries": 9, "matrix_coefficients": 9, "full_range_flag": 1}
    data = ten_bits(save_nclx_profile=True, transfer_characteristics=curve, **numbers)
    with pytest.raises(UnreadableImage, match=rf"an HDR picture \({name}\)"):
        open_image(data, max_pixels=10**6)
