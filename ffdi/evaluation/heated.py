"""A picture with its heat map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

HeatMap = npt.NDArray[np.float64]  # (H, W) in [0, 1]


def heated(picture: Image.Image, heat: HeatMap) -> Image.Image:
    """The picture in grey, coloured where the heat map is high."""
    from matplotlib import colormaps

    intensity = enlarged(heat, picture.size).clip(0, 1)
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float64)
    colour = 255 * colormaps["inferno"](intensity)[..., :3]
    share = 0.75 * intensity[..., None]
    return Image.fromarray((grey * (1 - share) + colour * share).astype(np.uint8))


def enlarged(values: HeatMap, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A map (H, W) at the size (width, height) of a picture."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
