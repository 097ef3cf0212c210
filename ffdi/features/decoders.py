"""Image bytes -> the square RGB image that views are made of, by the decoder that a backbone names.

`pillow` is the decode policy of the project. `nvjpeg`, off by default, decodes and resizes plain JPEGs on the GPU; its
pixels differ a little, so it is a part of the fingerprint. Whatever needs the policy's care (EXIF rotation, CMYK, grey,
other formats) stays with Pillow: which decoder an image gets depends on its bytes alone.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ffdi.features.spec import Backbone
from ffdi.intake.images import DECODE_POLICY, open_image, resize

NVJPEG_POLICY = f"nvjpeg-1, else {DECODE_POLICY}"
_EXIF_ORIENTATION = 0x0112


def decode(data: bytes, backbone: Backbone, *, max_pixels: int) -> Image.Image:
    """A (size, size) RGB image; UnreadableImage says why there is none."""
    size = backbone.image_size
    fast = decode_on(data, size, "cuda", max_pixels=max_pixels) if backbone.decoder == "nvjpeg" else None
    return fast or resize(open_image(data, max_pixels=max_pixels), size)


def decode_on(data: bytes, size: int, device: str, *, max_pixels: int) -> Image.Image | None:
    """The same through torchvision (nvJPEG on `cuda`), resized by antialiased bilinear; None for Pillow's images."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            plain = header.format == "JPEG" and header.mode == "RGB" and header.width * header.height <= max_pixels
            if not plain or header.getexif().get(_EXIF_ORIENTATION, 1) != 1:
                return None
    except Exception:  # Pillow's own path says what is wrong with it
        return None
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2.functional import resize as resize_tensor

    try:
        encoded = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        pixels = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
    except RuntimeError:
        return None
    return Image.fromarray(resize_tensor(pixels, [size, size], antialias=True).permute(1, 2, 0).cpu().numpy())
