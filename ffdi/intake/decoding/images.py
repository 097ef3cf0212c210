"""Bytes -> RGB uint8: the one decode policy of every image that the project reads.

- the format is one of formats.py and is known by the file's bytes;
- of an animation, a file of many pages or an MPO, the first picture; EXIF orientation is applied;
- grey and palette -> RGB; CMYK -> RGB as Pillow converts it; 16-bit grey is rescaled (v / 257), 12-bit TIFF too;
- a profile that is not sRGB is converted (colour.py); PNG's gAMA, cHRM and cICP are ignored, and so are the colours that
  HEIC and AVIF name without one (nclx); of these, the curves of HDR are refused (hdr.py);
- transparent pixels are blended over white.

`DECODE_POLICY` names these rules in every fingerprint. Change the name with the rules.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ffdi.errors import InputError
from ffdi.intake.decoding.colour import to_srgb
from ffdi.intake.decoding.formats import FORMATS, NOT_PILLOWS, RAW, TooManyPixels, format_of, jxl_size
from ffdi.intake.decoding.formats import UnreadableImage as UnreadableImage
from ffdi.intake.decoding.hdr import refuse_hdr
from ffdi.intake.decoding.image_source import ImageSource as ImageSource
from ffdi.intake.decoding.image_source import read_bytes as read_bytes
from ffdi.intake.decoding.jpegs import jpegs_of_tiff, refuse_many_scans, refuse_unfinished
from ffdi.intake.decoding.pngs import has_wide_transparent_colour, refuse_wrong_checksums, without_side_data
from ffdi.intake.decoding.read_ahead import ReadAhead

RGB = npt.NDArray[np.uint8]
# Version 1 ignored profiles and 16-bit transparency, and read 12-bit and min-is-white TIFF as 16-bit grey.
DECODE_POLICY = "pillow-rgb-2"


# max_pixels replaces Pillow's warning of decompression bombs. catch_warnings is no help: it is not safe with threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# All plugins that open_header may name: for one that is not loaded yet, Pillow loads every plugin there is.
_LOADED = (
    *(AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Jpeg2KImagePlugin, JpegImagePlugin, MpoImagePlugin),
    *(PngImagePlugin, PpmImagePlugin, TiffImagePlugin, WebPImagePlugin),
)
Image.preinit()  # or Pillow does it at the first image, in every thread

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_NOT_READ = {"F": "floating-point pixels have no range to rescale from", "LAB": "Lab colours are not read"}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0  # tags of TIFF, and a value of the second
_ORIENTATION = 0x0112
_DNG_VERSION, _SUBFILE, _REDUCED = 50706, 254, 1
# Masks, in levels of 255: how far the channels of a grey pixel may differ, how far a JPEG may ring, how far the two
# greys must differ; then the largest share of ringing pixels, and the least average width of the smaller part.
_GREY, _RINGING, _APART, _EDGES, _THICK = 8, 16, 64, 0.1, 4
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(data: bytes, *, max_pixels: int, accepted: bool = False) -> Image.Image:
    """Decode to a fully loaded RGB image, or raise UnreadableImage with the reason.

    `accepted`: ingest has accepted these bytes already (their sha256 is known), so a JPEG is not checked for damage again.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UnreadableImage("Pillow was told to load truncated images: refuse to read any")
    try:
        return _decoded(data, max_pixels, accepted)
    except UnreadableImage:
        if format_of(data) != "PNG" or (bare := without_side_data(data)) == data:
            raise
        try:  # Pillow may have failed on chunks that the pixels do not need
            return _decoded(bare, max_pixels, accepted)
        except UnreadableImage as error:
            raise error from None


def open_header(data: bytes) -> ImageFile.ImageFile:
    """Open the file with the one plugin of the format that its bytes show. Only a JPEG XL is decoded by this.

    Raises UnreadableImage for a format that is not in formats.FORMATS, and for a damaged header.
    """
    try:
        return _opened(data)
    except UnreadableImage:
        if format_of(data) != "PNG":
            raise
        return _opened(without_side_data(data))


def _opened(data: bytes) -> ImageFile.ImageFile:
    if not data:
        raise UnreadableImage("empty file")
    name = format_of(data)
    if not name:
        raise UnreadableImage("not an image format that Pillow knows")
    if name not in FORMATS:
        cure = ": stage faces takes its frames" if name.endswith(" video") else ""
        raise UnreadableImage(f"{name} is not on the list of formats{cure}")
    if name in NOT_PILLOWS and not _has_plugin(name):
        raise UnreadableImage(f"{name} is read with {NOT_PILLOWS[name]}: pip install 'ffdi[formats]'")
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except UnidentifiedImageError:
        raise UnreadableImage(f"damaged, or of a kind that is not read: {name}") from None
    except Image.DecompressionBombError:  # Pillow's own limit, whatever max_pixels is
        raise TooManyPixels(f"more than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels that Pillow opens") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes, struct.error among it
        raise _damaged(error) from error
    if _is_raw(image):
        raise UnreadableImage(f"{RAW} is not on the list of formats")
    return image


def _is_raw(image: Image.Image) -> bool:
    """Whether a TIFF is a camera's raw file, such as DNG: its first picture is a small preview, or says which DNG it is."""
    tags: Any = getattr(image, "tag_v2", {})
    return _DNG_VERSION in tags or bool(int(tags.get(_SUBFILE, 0)) & _REDUCED)


def _has_plugin(name: str) -> bool:
    """Load the plugin of a format that Pillow does not read itself; False where it is not installed."""
    try:
        if name == "HEIF":
            import pillow_heif.HeifImagePlugin  # noqa: F401
        else:
            import pillow_jxl  # noqa: F401
    except ImportError:
        return False
    return name in Image.OPEN


def _decoded(data: bytes, max_pixels: int, accepted: bool) -> Image.Image:
    if format_of(data) == "JXL":  # opening decodes it, so check the size first
        _refuse_large(jxl_size(data), max_pixels)
    image = _opened(data)
    _refuse_large(image.size, max_pixels)
    try:
        if image.format in ("JPEG", "MPO"):
            refuse_many_scans(data)
        if image.format == "PNG":
            refuse_wrong_checksums(data)
        if image.format in ("AVIF", "HEIF", "PNG") and not image.info.get("icc_profile"):
            refuse_hdr(data, image.format)
        image.load()  # verify() accepts truncated files
        if image.format in ("JPEG", "MPO") and not accepted:
            refuse_unfinished(data)
        if image.format == "TIFF" and not accepted:
            for strip in jpegs_of_tiff(image, data):
                refuse_unfinished(strip)
        if image.format == "PNG" and has_wide_transparent_colour(data):
            raise UnreadableImage("16-bit colour with a transparent colour")
        return _to_rgb(image)
    except UnreadableImage:
        raise
    except Exception as error:
        raise _damaged(error) from error


def _refuse_large(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooManyPixels(f"{width}x{height} is more than data.max_pixels = {max_pixels}")


def _damaged(error: Exception) -> UnreadableImage:
    told = " ".join(str(error).split()).partition(". Please ")[0]  # without advice to whoever builds the decoder
    return UnreadableImage(f"damaged: {told}")


def orientation(image: Image.Image) -> int:
    """The orientation in EXIF, 1 to 8; 1 (upright) where EXIF has none or is broken."""
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # the decoder has turned it already; one that wraps a JPEG is treated as that JPEG
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises errors of any type
        return 1
    return value if value in _TURNS else 1


def _to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """The picture of a loaded file: upright, in sRGB, over white."""
    picture = _eight_bit(image) if image.mode in _SIXTEEN_BIT else image
    if picture.mode in _NOT_READ:
        raise UnreadableImage(_NOT_READ[picture.mode])
    profile, is_grey = image.info.get("icc_profile"), picture.getbands()[0] == "L"
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        colours = to_srgb(rgba.getchannel("R") if is_grey else rgba.convert("RGB"), profile).convert("RGB")
        colours.putalpha(rgba.getchannel("A"))
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), colours).convert("RGB")
    else:
        rgb = to_srgb(picture if is_grey or picture.mode == "CMYK" else picture.convert("RGB"), profile).convert("RGB")
    turn = _TURNS.get(orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _eight_bit(image: ImageFile.ImageFile) -> Image.Image:
    """A picture of 16-bit grey as L, or as LA where one of its levels is transparent."""
    wide, top = np.asarray(image).astype(np.int64), 65535
    if isinstance(tags := getattr(image, "tag_v2", None), Mapping):  # a TIFF
        if image.mode == "I":
            raise UnreadableImage("32-bit or signed integer pixels have no range to rescale from")
        top = 4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else top
        wide = top - wide if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE else wide
    if wide.min(initial=0) < 0 or wide.max(initial=0) > top:
        raise UnreadableImage("32-bit integer pixels have no range to rescale from")
    grey = Image.fromarray((wide / (top / 255) + 0.5).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
    return grey


def to_array(image: Image.Image) -> RGB:
    """(H, W, 3) uint8."""
    return np.asarray(image, dtype=np.uint8)


def is_two_tone(image: Image.Image) -> bool:
    """Whether an RGB image is a mask: two greys (in a JPEG they may ring) that form no noise, hatching or thin lines.

    An image of a single colour is not a mask.
    """
    pixels = to_array(image)
    if not _is_grey(pixels[::8, ::8]) or not _is_grey(pixels):  # a sample of the pixels rules out nearly every photo
        return False
    grey = pixels[..., 1].astype(np.int16)
    lowest, highest = grey.min(), grey.max()
    upper = 2 * grey > lowest + highest
    if not ((grey == lowest) | (grey == highest)).all():
        low, high = np.median(grey[~upper]), np.median(grey[upper])
        ringing = np.abs(grey - np.where(upper, high, low)) > _RINGING
        if high - low < _APART or ringing.mean() > _EDGES:
            return False
    edges = np.count_nonzero(upper[1:] != upper[:-1]) + np.count_nonzero(upper[:, 1:] != upper[:, :-1])
    area = min(np.count_nonzero(upper), np.count_nonzero(~upper))
    return bool(0 < _THICK * edges <= 2 * area)


def _is_grey(pixels: RGB) -> bool:
    red, green, blue = np.moveaxis(pixels, -1, 0).astype(np.int16)
    return bool(max(np.abs(red - green).max(), np.abs(blue - green).max()) <= _GREY)


def read_image(
    source: ImageSource, path: str, image_id: str = "", ahead: ReadAhead | None = None
) -> tuple[bytes, Image.Image]:
    """(bytes, decoded RGB) of a file that ingest has accepted; InputError names one that can no longer be read.

    With `image_id` one that has changed since is refused. `ahead` may have fetched it already.
    """
    try:
        data = (ahead or source).read(path, image_id)
        return data, open_image(data, max_pixels=source.max_pixels, accepted=True)
    except UnreadableImage as error:
        raise InputError(f"{source.place(path)}: {error}") from error


def perceptual_hash(image: Image.Image) -> str:
    """32 hex digits: the 64-bit pHash (Zauner 2010, by imagehash) of the image, then that of its mirror image."""
    import imagehash

    hashed: Any = imagehash.phash
    return f"{hashed(image)}{hashed(ImageOps.mirror(image))}"
