"""What a network sees of an image: its size, how the image is made a square, and its normalisation. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor

from PIL import Image

from ffdi.intake.decoding.resizing import Colour, Resize, resize

Channels = tuple[float, float, float]  # red, green, blue
SIZE = 224
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """The network is given squares of `size` pixels, as (v / 255 - mean) / std of each channel."""

    size: int = SIZE
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    resize: Resize = Resize()

    @property
    def fill(self) -> Colour:
        """The colour of what a letterbox leaves empty: the mean, which the network sees as 0."""
        red, green, blue = (min(255, max(0, round(255 * value))) for value in self.mean)
        return red, green, blue

    @property
    def resize_policy(self) -> str:
        """What fingerprints say of the resizing."""
        return self.resize.policy(self.fill)

    @property
    def words(self) -> str:
        """All of it, for a reader."""
        how = self.resize
        cut = "" if how.crop == 1 else f", the middle {self.size} of {floor(self.size / how.crop)}"
        return (
            f"{self.size} x {self.size} pixels ({how.mode}, {how.kernel}{cut}), "
            f"mean {in_words(self.mean)}, std {in_words(self.std)}"
        )

    def square(self, image: Image.Image) -> Image.Image:
        """A decoded RGB image as the network sees it: size x size pixels. Made once: views are made of it."""
        return resize(image, self.size, self.resize, self.fill)


def in_words(channels: Iterable[float]) -> str:
    """The value of the channels where they are equal, else all of them."""
    values = [f"{value:.4g}" for value in channels]
    return values[0] if len(set(values)) == 1 else f"[{', '.join(values)}]"
