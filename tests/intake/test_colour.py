"""Colours of embedded profiles are converted to sRGB; profiles of sRGB change no byte."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import picture
from image_cases import decode, encode
from odd_bytes import ADOBE, DISPLAY_P3, SRGB, SRGB_PRIMARIES, gamma, grey_profile, profile, srgb_formula, srgb_table
from PIL import Image, ImageOps

from ffdi.intake.decoding.colour import is_srgb, to_srgb

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def as_once_read(data: bytes) -> Any:
    """What policy 1 made of a picture that Pillow reads: no profile, orientation first."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image).astype(np.int64) / 257.0 + 0.5).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("profile", [None, SRGB])
def test_plain_files_and_those_in_srgb_keep_their_bytes(profile: bytes | None) -> None:
    exif, own = Image.Exif(), picture(2, 40).crop((0, 0, 40, 24))
    exif[0x0112] = 5
    cut_out = own.copy()
    cut_out.putalpha(Image.linear_gradient("L").resize(own.size))
    files = [
        *(
            encode(own, "JPEG", subsampling=s, progressive=p, exif=exif, icc_profile=profile)
            for s in (0, 1, 2)
            for p in (0, 1)
        ),
        *(encode(own.convert(mode), "PNG", exif=exif, icc_profile=profile) for mode in ("L", "P", "1", "I;16")),
        *(encode(cut_out.convert(mode), "PNG", exif=exif, icc_profile=profile) for mode in ("RGBA", "LA")),
        encode(cut_out, "WEBP", icc_profile=profile),
        encode(cut_out.quantize(8), "PNG", transparency=0),
        *(encode(own.convert("CMYK"), kind) for kind in ("JPEG", "TIFF")),
    ]
    for number, data in enumerate(files):
        assert (decode(data) == as_once_read(data)).all(), number


def test_a_profile_that_is_srgb_is_told_from_one_that_is_nearly_so() -> None:
    rounded = [[v + 0.0002 for v in primary] for primary in SRGB_PRIMARIES]
    variants = [profile(SRGB_PRIMARIES, srgb_formula()), profile(SRGB_PRIMARIES, srgb_table(4096))]
    variants += [profile(rounded, srgb_table()), SRGB]
    assert is_srgb(None, "RGB") and all(is_srgb(variant, "RGB") for variant in variants)
    assert not is_srgb(DISPLAY_P3, "RGB") and not is_srgb(ADOBE, "RGB") and not is_srgb(grey_profile(1.8), "L")
    assert not is_srgb(profile(SRGB_PRIMARIES, gamma(2.2)), "RGB")  # off by 9 levels in the shadows alone
    assert is_srgb(DISPLAY_P3, "L") and is_srgb(grey_profile(1.8), "RGB") and is_srgb(b"junk", "RGB")  # never looked at


def test_threads_convert_to_the_same_bytes() -> None:
    images = [picture(seed, 96) for seed in range(6)]
    alone = [to_srgb(image, DISPLAY_P3).tobytes() for image in images]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda i: to_srgb(images[i % 6], DISPLAY_P3).tobytes(), range(60)))
    assert together == alone * 10
