"""JPEGs, and torchvision's CPU decoder in the place of nvJPEG, for the tests of several files."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.io
from conftest import picture
from PIL import Image

from ffdi.features.decoders import Decoded, Decoder


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(1), exif=exif)


JPEGS = [encoded(picture(seed, 96 + 8 * seed), quality=90) for seed in range(6)]
PNG = encoded(picture(0), "PNG")
MAX_PIXELS = 136 * 136


def decoded(decoder: Decoder, *images: bytes) -> list[Decoded]:
    return list(decoder((f"{number}.jpg", lambda data=data: data) for number, data in enumerate(images)))


def pixels(image: Decoded) -> Any:
    assert isinstance(image, Image.Image)
    return np.asarray(image, np.int64)


class NvJpeg:
    """torchvision's decode_jpeg where nvJPEG is: it decodes lists, and raises what `fails` says of one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lists: list[int] = []
        self.fails: Callable[[list[bytes]], Exception | None] = lambda images: None
        self._real = torchvision.io.decode_jpeg
        monkeypatch.setattr(torchvision.io, "decode_jpeg", self)

    def __call__(self, images: list[torch.Tensor], *, mode: Any, device: str) -> Any:
        self.lists.append(len(images))
        if error := self.fails([image.numpy().tobytes() for image in images]):
            raise error
        return self._real(images, mode=mode)


def refuses(bad: bytes, status: str = "Failed to parse jpeg stream: 3") -> Callable[[list[bytes]], Exception | None]:
    message = f"Error while decoding JPEG images: {status}\nException raised from decode_images"
    return lambda images: RuntimeError(message) if bad in images else None
