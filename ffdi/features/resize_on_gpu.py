"""Images that are decoded on a device become squares there, by the geometry of ffdi.intake.decoding.resizing."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from ffdi.features.preprocessing import Preprocessing
from ffdi.intake.decoding.resizing import Kernel, window

KERNELS: dict[Kernel, InterpolationMode] = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


def square(image: Tensor, pixels: Preprocessing) -> Tensor:
    """(3, H, W) uint8 -> (3, S, S) uint8 by torchvision's antialiased resize, within rounding of Preprocessing.square."""
    size = pixels.size
    width, height = pixels.resize.scaled(image.shape[2], image.shape[1], size)
    (left, right), (top, bottom) = window(width, size), window(height, size)
    kernel = KERNELS[pixels.resize.kernel]
    scaled: Tensor = resize(image, [height, width], interpolation=kernel, antialias=True)
    picture = scaled[:, top:bottom, left:right]
    if picture.shape[1:] == (size, size):
        return picture
    filled = torch.tensor(pixels.fill, dtype=torch.uint8, device=image.device).view(3, 1, 1).repeat(1, size, size)
    top, left = (size - picture.shape[1]) // 2, (size - picture.shape[2]) // 2
    filled[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return filled
