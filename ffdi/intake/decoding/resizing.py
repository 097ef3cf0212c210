"""An image of any shape -> the square that a network or a reader sees."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Literal

from PIL import Image

from ffdi.bounds import FractionAbove0

Mode = Literal["squash", "shorter_side", "letterbox"]
Kernel = Literal["bilinear", "bicubic", "lanczos"]
Colour = tuple[int, int, int]
KERNELS: dict[Kernel, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# A strip of 10 x 1,000,000 pixels must not become 224 x 22,400,000 on its way to 224 x 224: where the scaled image would
# be longer than this times the square, the window alone is scaled. Pillow rounds that in another order. All other
# images are timm's and torchvision's bit by bit.
STRIP = 16


@dataclass(frozen=True)
class Resize:
    """How an image becomes a square of `size` pixels, as Pillow scales, with antialiasing.

    The default is what the reproduced systems do.
    """

    mode: Mode = "squash"
    """Which side is scaled to image_size / crop pixels: both, so that the image loses its shape (`squash`), the shorter one,
    so that the rest is cut off (`shorter_side`), or the longer one, so that the rest is filled with the colour `mean`
    (`letterbox`)."""

    kernel: Kernel = "bilinear"
    """The filter of the scaling."""

    crop: FractionAbove0 = 1.0
    """The middle image_size x image_size pixels of the scaled image are kept: 1 keeps whole sides."""

    def scaled(self, width: int, height: int, size: int) -> tuple[int, int]:
        """(width, height) of the whole image once it is scaled; rounded as timm and torchvision do."""
        side = floor(size / self.crop)
        if self.mode == "squash":
            return side, side
        if self.mode == "shorter_side":
            short = min(width, height)
            return int(side * width / short), int(side * height / short)
        ratio = max(width, height) / side
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def is_strip(self, width: int, height: int, size: int) -> bool:
        """Whether the scaled image would be so long that only the window of it can be made."""
        return max(self.scaled(width, height, size)) > STRIP * size

    def policy(self, fill: Colour) -> str:
        """Its name in fingerprints. Change the number when the pixels change."""
        if self == Resize():
            return "pillow-square-bilinear-1"
        filled = f", filled with {fill}" if self.mode == "letterbox" else ""
        return f"pillow-{self.mode}-{self.kernel}-1, crop {self.crop!r}{filled}"


def window(length: int, size: int) -> tuple[int, int]:
    """(start, end) of the middle `size` of `length` pixels; of all of them where there are fewer."""
    start = round(max(0, length - size) / 2)
    return start, start + min(length, size)


def resize(image: Image.Image, size: int, how: Resize = Resize(), fill: Colour = (0, 0, 0)) -> Image.Image:
    """To size x size pixels; the image itself when it is scaled to its own size."""
    scaled = how.scaled(*image.size, size)
    if scaled == image.size == (size, size):
        return image
    kernel = KERNELS[how.kernel]
    (left, right), (top, bottom) = (window(length, size) for length in scaled)
    if not how.is_strip(*image.size, size):
        picture = image.resize(scaled, kernel).crop((left, top, right, bottom))
    else:
        x, y = image.width / scaled[0], image.height / scaled[1]
        box = (left * x, top * y, min(right * x, image.width), min(bottom * y, image.height))
        picture = image.resize((right - left, bottom - top), kernel, box=box)
    if picture.size == (size, size):
        return picture
    square = Image.new(image.mode, (size, size), fill)
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square
