"""Bytes -> RGB uint8: the one decode policy of every image that the project reads.

- the first frame of an animation; EXIF orientation applied;
- grey and palette -> RGB, CMYK -> RGB as Pillow converts it; 16-bit grey is rescaled (v / 257), not clipped;
- transparency is laid over white; - no colour management: embedded profiles are ignored;
- resizing is to a square, aspect ratio given up (as the reproduced systems do), Pillow's antialiased bilinear.

`DECODE_POLICY` names it in every fingerprint: whoever changes the code here changes the name.
"""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ffdi.errors import InputError

RGB = npt.NDArray[np.uint8]
DECODE_POLICY = "pillow-rgb-1"
RESIZE_POLICY = "pillow-square-bilinear-1"

# Pillow's bomb warning among others: max_pixels is the rule. Not catch_warnings, which threads undo for each other.
warnings.filterwarnings("ignore", module=r"PIL\.")

Image.preinit()  # the usual formats, which Pillow else loads at the first image, in every thread that has one

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class UnreadableImage(InputError):
    """A file that is not a whole image of an allowed size; the message is the reason, without the path."""


def open_image(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode to a fully loaded RGB image, or raise UnreadableImage with the reason."""
    if not data:
        raise UnreadableImage("empty file")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UnreadableImage("Pillow was told to load truncated images: refuse to read any")
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        width, height = image.size
        if width * height > max_pixels:
            raise UnreadableImage(f"{width}x{height} is more than data.max_pixels = {max_pixels}")
        image.load()  # verify() passes truncated files
        return _to_rgb(ImageOps.exif_transpose(image))
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("not an image format that Pillow knows") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes, struct.error among it
        raise UnreadableImage(f"damaged: {' '.join(str(error).split())}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        wide = np.asarray(image).astype(np.int64)
        if image.mode == "I" and (wide.min(initial=0) < 0 or wide.max(initial=0) > 65535):
            raise UnreadableImage("32-bit integer pixels have no range to rescale from")
        return Image.fromarray((wide / 257.0 + 0.5).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no range to rescale from")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def is_two_tone(image: Image.Image) -> bool:
    """Whether an RGB picture has nothing but two levels of grey, as masks have."""
    colours = image.getcolors(2) or []  # none where there are more
    return len(colours) == 2 and all(isinstance(c, tuple) and len(set(c)) == 1 for _, c in colours)


def resize(image: Image.Image, size: int) -> Image.Image:
    """To size x size pixels; the image itself when it has that size."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def to_array(image: Image.Image) -> RGB:
    """(H, W, 3) uint8."""
    return np.asarray(image, dtype=np.uint8)


def read_bytes(root: Path, path: str) -> bytes:
    """The file's bytes; UnreadableImage when it is missing or no file. Symlinks are followed."""
    file = root / path
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # to open a FIFO is to wait for its writer
            raise UnreadableImage("cannot be read: no regular file")
        return file.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror}") from error


def read_image(root: Path, path: str, decode: Callable[[bytes], Image.Image]) -> tuple[bytes, Image.Image]:
    """(the file's bytes, what `decode` makes of them); InputError names a file that cannot be read."""
    try:
        data = read_bytes(root, path)
        return data, decode(data)
    except UnreadableImage as error:
        raise InputError(f"{root / path}: {error}") from error


def perceptual_hash(image: Image.Image) -> str:
    """32 hex digits: the 64-bit pHash of the image, then that of its mirror image (Zauner 2010, as imagehash has it)."""
    import imagehash

    hashed: Any = imagehash.phash
    return f"{hashed(image)}{hashed(ImageOps.mirror(image))}"
