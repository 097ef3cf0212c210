"""Operations of augment.py on a whole batch at once: on a GPU a kernel for each sample takes longer to launch than to run.

Every sample has its own parameters. They are drawn on the CPU, in the order in which augment.py draws them there; the
pixels are the same within one grey level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Drawn = Callable[[Tensor, Tensor], Tensor]  # changes (B, ...) samples by the draws of these (B,) numbers
Operation = Callable[[int, Tensor], Drawn]  # draws for so many samples, which are as those of this batch


def crop_each(**options: Any) -> Operation:
    """torchvision's RandomResizedCrop, antialiased and bilinear."""
    from torchvision.transforms import v2

    def draw(count: int, like: Tensor) -> Drawn:
        crop = v2.RandomResizedCrop(like.shape[-2:], **options)
        image = torch.empty(like.shape[1:], device="meta")  # only its size is read
        drawn = [crop.make_params([image]) for _ in range(count)]
        boxes = torch.tensor([[d[k] for k in ("top", "height", "left", "width")] for d in drawn], dtype=torch.float32)

        def change(batch: Tensor, numbers: Tensor) -> Tensor:
            top, height, left, width = boxes[numbers].to(batch.device, non_blocking=True).unbind(1)
            sides = ((top, height, batch.shape[-2]), (left, width, batch.shape[-1]))
            rows, columns = (_resized(*side) for side in sides)
            return _separable(batch, rows, columns)

        return change

    return draw


def blur_each(**options: Any) -> Operation:
    """torchvision's GaussianBlur."""
    from torchvision.transforms import v2

    blur = v2.GaussianBlur(**options)

    def draw(count: int, like: Tensor) -> Drawn:
        sigmas = torch.tensor([blur.make_params([])["sigma"] for _ in range(count)])

        def change(batch: Tensor, numbers: Tensor) -> Tensor:
            wide, high = sigmas[numbers].to(batch.device, non_blocking=True).unbind(1)
            rows = _blurred(high, blur.kernel_size[1] // 2, batch.shape[-2])
            return _separable(batch, rows, _blurred(wide, blur.kernel_size[0] // 2, batch.shape[-1]))

        return change

    return draw


def noise_each(sigma: float) -> Operation:
    """torchvision's GaussianNoise. On a GPU it would draw from the GPU's generator; here it is drawn on the CPU."""

    def draw(count: int, like: Tensor) -> Drawn:
        noise = (torch.randn(count, *like.shape[1:]) * (sigma * 255)).to(torch.int16)

        def change(batch: Tensor, numbers: Tensor) -> Tensor:
            return (batch + noise[numbers].to(batch.device, non_blocking=True)).clamp(0, 255).to(torch.uint8)

        return change

    return draw


def on_cpu(change: Drawn) -> Drawn:
    """For a change that only a CPU can make: one copy there and one back."""
    return lambda batch, numbers: change(batch.cpu(), numbers).to(batch.device, non_blocking=True)


def _separable(batch: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, C, H, W) uint8 -> rows (B, H, H) @ image @ columns (B, W, W) transposed, rounded."""
    images = rows.unsqueeze(1) @ batch.float() @ columns.transpose(1, 2).unsqueeze(1)
    return images.round_().clamp_(0, 255).to(torch.uint8)


def _resized(start: Tensor, length: Tensor, size: int) -> Tensor:
    """(B, size, size) weights that resize `length` pixels from `start` on (both (B,)) to `size` pixels, as torch does.

    A triangle around each new pixel's centre, as wide as the larger of a new and an old pixel; weights sum to 1.
    """
    pixels = torch.arange(size, device=start.device) + 0.5
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    scale = length / size
    distance = (pixels - start) - (pixels.view(-1, 1) * scale)
    inside = (pixels > start) & (pixels < start + length)
    weights = (1 - (distance / scale.clamp(min=1)).abs()).clamp_(min=0) * inside
    return weights / weights.sum(dim=2, keepdim=True)


def _blurred(sigma: Tensor, reach: int, size: int) -> Tensor:
    """(B, size, size) weights of a Gaussian of `sigma` (B,) over `reach` pixels to either side, with the border reflected."""
    at = torch.arange(size, device=sigma.device, dtype=torch.float32)
    to, sigma = at.view(-1, 1), sigma.view(-1, 1, 1)

    def weights(distance: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= reach)

    mirrored = weights(-at - to) * (at > 0) + weights(2 * (size - 1) - at - to) * (at < size - 1)
    found = weights(at - to) + mirrored
    return found / found.sum(dim=2, keepdim=True)
