"""What is scored: the pictures of a path or of an array. Every way to a verdict outside of the pipeline goes through here.

With a model that was trained on crops of faces they are raw: a Cropper (cropper.py) makes the pictures of their faces.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ffdi.errors import InputError
from ffdi.faces.crops import encode_crop
from ffdi.faces.footage.footage import is_video
from ffdi.faces.sources import FoundFace
from ffdi.features.decoders import Read
from ffdi.intake.decoding.formats import FORMATS, format_of
from ffdi.intake.decoding.images import RGB, UnreadableImage, read_bytes

_HEAD = 4096  # bytes that tell an image from a video
_SAVED_AS = {"CMYK": "TIFF"}  # what PNG cannot hold; both keep profile and orientation


@dataclass(frozen=True)
class Picture:
    """A picture that is scored. `name` is shown beside its score; `read` gives its bytes or raises UnreadableImage.

    Where it stands for a `video`, `read` only says why it is no image.
    """

    name: str
    read: Read
    video: Path | None = None


def pictures_of(path: Path) -> Sequence[Picture]:
    """The pictures of a file that are scored: the image itself, which is not opened yet, or what stands for a video."""
    if is_video(path):
        return [Picture(str(path), partial(_image_named_as_video, path), path)]
    return [Picture(str(path), partial(read_bytes, path.parent, path.name))]


def _image_named_as_video(path: Path) -> bytes:
    """The bytes of an image that has the suffix of a video; UnreadableImage for a video, of which little is read."""
    with suppress(OSError):  # read_bytes says it
        if path.is_file():
            with path.open("rb") as file:
                is_image = format_of(file.read(_HEAD)) in FORMATS
            if not is_image:
                raise UnreadableImage("a video: only a model of face crops judges videos, and not with faces none")
    return read_bytes(path.parent, path.name)


def picture_of_face(found: FoundFace, name: str, form: Literal["png", "jpeg-95"]) -> Picture:
    """The picture of a crop: the pixels that its file in a set of crops would have."""
    if form == "png":
        return Picture(name, partial(_file_of_array, found.crop))
    return Picture(name, partial(encode_crop, found.crop, form))


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
