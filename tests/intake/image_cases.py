"""Pictures to encoded bytes and back."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

from ffdi.intake.decoding.images import (
    open_image,
    to_array,
)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes, max_pixels: int = 10**6) -> Any:
    return to_array(open_image(data, max_pixels=max_pixels))


def png(width: int, height: int, pixels: bytes, *, depth: int, colour: int) -> bytes:
    """A PNG made by hand: Pillow writes neither 16-bit colour nor a bomb."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
