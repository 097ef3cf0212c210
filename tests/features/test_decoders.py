"""Which decoder an image gets, and that the GPU's path (run here by torchvision on the CPU) gives nearly its pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from ffdi.features import decoders
from ffdi.features.decoders import decode, decode_on
from ffdi.features.spec import Backbone
from ffdi.intake.images import UnreadableImage, open_image, resize


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(1), exif=exif)


def test_a_plain_jpeg_is_nearly_what_pillow_makes_of_it() -> None:
    data = encoded(picture(0, 96), quality=90)
    fast = decode_on(data, 64, "cpu", max_pixels=10**6)
    assert fast is not None and fast.size == (64, 64) and fast.mode == "RGB"
    slow = np.asarray(resize(open_image(data, max_pixels=10**6), 64), np.int64)
    assert np.abs(np.asarray(fast, np.int64) - slow).max() <= 3


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(picture(0), "PNG"), id="PNG"),
        pytest.param(encoded(picture(0).convert("CMYK")), id="CMYK"),
        pytest.param(encoded(picture(0).convert("L")), id="grey"),
        pytest.param(turned(), id="EXIF rotation"),
        pytest.param(encoded(picture(0, 128)), id="more than max_pixels"),
        pytest.param(b"no image", id="no image"),
        pytest.param(encoded(picture(0))[:200], id="truncated"),
    ],
)
def test_what_needs_the_decode_policy_stays_with_pillow(data: bytes) -> None:
    assert decode_on(data, 32, "cpu", max_pixels=64 * 64) is None


def test_the_backbone_names_the_decoder(backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def on_gpu(data: bytes, size: int, device: str, *, max_pixels: int) -> Image.Image | None:
        asked.append(device)
        return Image.new("RGB", (size, size), "red") if data == plain else None

    monkeypatch.setattr(decoders, "decode_on", on_gpu)
    plain, other = encoded(picture(0)), encoded(picture(0), "PNG")
    assert decode(plain, backbone(), max_pixels=10**6).getpixel((0, 0)) != (255, 0, 0) and not asked
    assert decode(plain, backbone(decoder="nvjpeg"), max_pixels=10**6).getpixel((0, 0)) == (255, 0, 0)
    assert decode(other, backbone(decoder="nvjpeg"), max_pixels=10**6) == resize(picture(0), 64)
    with pytest.raises(UnreadableImage):
        decode(b"", backbone(decoder="nvjpeg"), max_pixels=10**6)
    assert asked == ["cuda"] * 3
