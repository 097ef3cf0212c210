"""What is scored: the pictures of a path or of an array. Every way to a verdict outside of the pipeline goes through here.

A later source of pictures, such as the faces of a photo or the frames of a video, is one more case of `pictures_of`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffdi.errors import InputError
from ffdi.features.decoders import Read
from ffdi.intake.decoding.images import RGB, read_bytes

_SAVED_AS = {"CMYK": "TIFF"}  # what PNG cannot hold; both keep profile and orientation


@dataclass(frozen=True)
class Picture:
    """A picture that is scored. `name` is shown beside its score; `read` gives its bytes or raises UnreadableImage."""

    name: str
    read: Read


def pictures_of(path: Path) -> Sequence[Picture]:
    """The pictures of a file that are scored: today the image itself, which is not opened yet."""
    return [Picture(str(path), partial(read_bytes, path.parent, path.name))]


def pictures_in(data: bytes, name: str) -> Sequence[Picture]:
    """Those of a file that is in memory, such as an upload."""
    return [Picture(name, lambda: data)]


def picture_of_pixels(pixels: RGB | Image.Image, name: str) -> Picture:
    """The picture of an array, uint8 (H, W, 3) in RGB, or of a PIL image; it is scored as a lossless file of it would be.

    Raises InputError for anything else.
    """
    if isinstance(pixels, Image.Image):
        return Picture(name, partial(_file_of_image, pixels))
    array: Any = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        found = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"image {name}: not {found}, but uint8 of shape (height, width, 3), in RGB, is scored")
    return Picture(name, partial(_file_of_array, array))


def _file_of_array(array: RGB) -> bytes:
    """As PPM: a header before the bytes."""
    height, width, _ = array.shape
    return b"P6 %d %d 255\n" % (width, height) + array.tobytes()


def _file_of_image(image: Image.Image) -> bytes:
    """As a file of its own mode, so that the decode policy treats transparency, profile and orientation as ever."""
    if image.mode == "RGB" and not image.info and not image.getexif():
        return _file_of_array(np.asarray(image))
    saved = image.convert("RGB") if image.mode in ("YCbCr", "HSV") else image
    buffer = io.BytesIO()
    try:
        saved.save(buffer, _SAVED_AS.get(saved.mode, "PNG"), compress_level=1, exif=image.getexif())
    except (OSError, ValueError) as error:
        raise InputError(f"a PIL image of mode {image.mode} is not read: convert it to RGB") from error
    return buffer.getvalue()
