"""Random changes to a batch on its device: operations on the samples, and Mixup or CutMix of samples and labels.

All is drawn from torch's (seeded) generator on the CPU, so that a GPU sees what a CPU would. torchvision draws once per
call: here every sample has parameters of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ffdi.errors import ParamsError, one_line
from ffdi.tails.augment_on_gpu import blur_each, crop_each, noise_each, on_cpu
from ffdi.tails.feature_source import one_thread

Change = Callable[[Tensor], Tensor]
_GREY = (0.2989, 0.587, 0.114)  # of red, green and blue, as torchvision weighs them
_PLACES = (0.0, 2.0, 4.0)  # of red, green and blue on the colour circle, in sixths of a turn


def augmentation(operations: Sequence[dict[str, Any]]) -> Change:
    """The operations of augment_operations.py, resolved, in their order, each on the samples that its `p` draws.

    A batch is (B, 3, H, W) uint8 images; flips also take maps (B, C, H, W) of any dtype. It is changed in place.
    """
    steps = [(_operation(**operation), operation["p"]) for operation in operations]

    def apply(batch: Tensor) -> Tensor:
        with one_thread() if batch.device.type == "cpu" else nullcontext():
            return in_turn(batch)

    def in_turn(batch: Tensor) -> Tensor:
        for change, p in steps:
            drawn = torch.nonzero(torch.rand(len(batch)) < p).flatten()
            if len(drawn) == len(batch):
                batch = change(batch)
            elif len(drawn):
                at = drawn.to(batch.device, non_blocking=True)
                changed = change(batch.index_select(0, at))
                if batch.device.type != "cpu":
                    batch.index_copy_(0, at, changed)
                    continue
                for place, sample in zip(drawn.tolist(), changed, strict=True):  # index_copy_ takes ten times as long
                    batch[place].copy_(sample)
        return batch

    return apply


def _operation(name: str, p: float, **options: Any) -> Change:
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    def flip(batch: Tensor) -> Tensor:
        if batch.ndim != 4:
            raise ParamsError(f"augment {name!r}: for images and maps (C, H, W), not for {tuple(batch.shape[1:])}")
        return batch.flip(-1 if name == "hflip" else -2)

    def images_alone(change: Change) -> Change:
        def checked(batch: Tensor) -> Tensor:
            if batch.dtype != torch.uint8:
                raise ParamsError(f"augment {name!r}: for images (cut: input), not for feature maps")
            return change(batch)

        return checked

    def each(change: Change, at_once: Change) -> Change:
        def changed(batch: Tensor) -> Tensor:
            if batch.device.type != "cpu":
                return at_once(batch)
            return torch.stack([change(image) for image in batch])

        return images_alone(changed)

    def crop(image: Tensor) -> Tensor:
        return v2.RandomResizedCrop(image.shape[-2:], **options)(image)  # type: ignore[no-any-return]

    def recompress(image: Tensor) -> Tensor:
        low, high = options["quality"]
        quality = int(torch.randint(low, high + 1, ()))
        return functional.jpeg(image, quality)  # type: ignore[no-any-return]

    try:  # torchvision checks the options
        if name == "jitter":
            v2.ColorJitter(**options)
            return images_alone(lambda batch: _jitter(batch, **options))
        if name == "crop":
            v2.RandomResizedCrop(8, **options)
            return each(crop, crop_each(**options))
        if name == "jpeg":
            v2.JPEG(**options)
            return images_alone(on_cpu(lambda batch: torch.stack([recompress(image) for image in batch])))
        if name == "blur":
            return each(v2.GaussianBlur(**options), blur_each(**options))
        if name == "noise":
            if options["sigma"] < 0:
                raise ValueError(f"sigma is negative ({options['sigma']})")
            drawn_there = v2.GaussianNoise(**options)  # on a GPU, by its own generator
            drawn_here = noise_each(**options)
            return images_alone(lambda batch: (drawn_there if batch.device.type == "cpu" else drawn_here)(batch))
    except (TypeError, ValueError) as error:
        raise ParamsError(f"augment {name!r}: {one_line(error)}") from error
    return flip


def _jitter(batch: Tensor, brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """torchvision's ColorJitter with factors of each sample's own, in an order of the batch's own."""
    size = len(batch)
    changes: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = [
        (change, torch.empty(size).uniform_(max(0.0, 1 - width), 1 + width))
        for change, width in ((_brighten, brightness), (_contrast, contrast), (_saturate, saturation))
        if width
    ]
    if hue:
        changes.append((shift_hue, torch.empty(size).uniform_(-hue, hue)))
    order = torch.randperm(len(changes)).tolist()
    # One image at a time stays in a CPU's cache; a GPU wants few and large kernels.
    parts = torch.arange(size).split(1 if batch.device.type == "cpu" else size)
    jittered = torch.empty_like(batch)
    for part in parts:
        own = slice(int(part[0]), int(part[-1]) + 1)
        images = batch[own].float()
        for change, factors in (changes[at] for at in order):
            images = change(images, factors[own].view(-1, 1, 1, 1).to(batch.device, non_blocking=True))
        jittered[own] = images.round_()
    return jittered


def _brighten(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 255)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = _grey(images).mean(dim=(-2, -1), keepdim=True)
    return torch.lerp(mean, images, factor).clamp_(0, 255)


def _saturate(images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(_grey(images), images, factor).clamp_(0, 255)


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(_GREY).to(images.device, non_blocking=True)
    return (images * weights.view(3, 1, 1)).sum(-3, keepdim=True)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of (B, 3, H, W) float images of any range by (B, 1, 1, 1) `turns` of the HSV colour circle.

    A pixel keeps its largest and smallest value (Smith, "Color gamut transform pairs", SIGGRAPH 1978). In sixths of a
    turn, red, green and blue stand at 0, 2 and 4; a channel has the largest value up to 1 from its place, the smallest
    from 2 on, and is linear between. So the hue is at 1 + (green + blue - red) from red, the values scaled to 0..1, on
    the side of the larger of green and blue: no case by case, which costs torch five times as long on a CPU.
    """
    red, green, blue = images.unbind(-3)
    top = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = top - low
    hue = (chroma - low).add_(green).add_(blue).sub_(red).div_(chroma.clamp(min=1e-6))
    hue = hue.copysign_(green - blue).unsqueeze(-3)  # -3..3
    places = torch.tensor(_PLACES).to(images.device, non_blocking=True).view(3, 1, 1)
    offset = (
        6 * turns - places + 3
    ) % 6 - 3  # so that |hue + offset| is at most 6: on the circle it is 3 - ||...| - 3|
    beyond = (hue + offset).abs_().sub_(3).abs_().clamp_(1, 2)
    return torch.addcmul((low - chroma).unsqueeze(-3), chroma.unsqueeze(-3), beyond, out=beyond)


def mixing(mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019) with these alphas, else labels as they are.

    (features, labels (B,)) -> (features, labels (B,) or soft (B, 2)); with both, each batch draws one.
    """
    if not mixup and not cutmix:
        return lambda features, labels: (features, labels)
    from torchvision.transforms import v2

    kinds = [kind(alpha=a, num_classes=2) for kind, a in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if a]
    choose = v2.RandomChoice(kinds)

    def mix(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if cutmix and features.ndim != 4:
            raise ParamsError(f"mix.cutmix: for images and maps (C, H, W), not for {tuple(features.shape[1:])}")
        return choose(features.float(), labels)  # type: ignore[no-any-return]

    return mix
