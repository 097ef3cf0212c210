"""Random changes to a batch on its device: operations on the samples, and Mixup or CutMix of samples and labels.

Everything is drawn from torch's (seeded) generator on the CPU, so that a GPU sees what a CPU would. torchvision draws
once per call; here every sample has its own parameters. An operation draws for the whole batch, also where this process
has a share of it alone: so several ranks change a sample as one would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ffdi.errors import ParamsError, one_line
from ffdi.features.degradations import DEGRADATIONS
from ffdi.tails.augment_on_gpu import Drawn, Operation, blur_each, crop_each, noise_each, on_cpu
from ffdi.tails.augment_operations import ONE_BY_ONE
from ffdi.tails.feature_source import one_thread
from ffdi.tails.share import Share

Change = Callable[[Tensor], Tensor]
_GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue, as torchvision has them
_PLACES = (0.0, 2.0, 4.0)  # red, green and blue on the colour circle, in sixths of a turn


class Augment(Protocol):
    """Changes a batch in place, or the `share` of a batch that it is."""

    def __call__(self, batch: Tensor, share: Share | None = None) -> Tensor: ...


def augmentation(operations: Sequence[dict[str, Any]]) -> Augment:
    """The resolved operations (see augment_operations.py) in their order, each on the samples that its `p` draws.

    A batch is (B, 3, H, W) uint8 images; flips also take maps (B, C, H, W) of any dtype.
    """
    steps = [(_operation(**operation), operation["p"]) for operation in operations]

    def apply(batch: Tensor, share: Share | None = None) -> Tensor:
        with one_thread() if batch.device.type == "cpu" else nullcontext():
            for operation, p in steps:
                batch = _on_drawn(operation, p, batch, share or Share.all_of(len(batch)))
            return batch

    return apply


def _on_drawn(operation: Operation, p: float, batch: Tensor, share: Share) -> Tensor:
    """The operation on each sample with probability `p`."""
    drawn = torch.nonzero(torch.rand(share.whole) < p).flatten()
    if not len(drawn):
        return batch
    change, (places, numbers) = operation(len(drawn), batch), share.of(drawn)
    if len(places) == len(batch):
        return change(batch, numbers)
    if len(places):
        at = places.to(batch.device, non_blocking=True)
        changed = change(batch.index_select(0, at), numbers)
        if batch.device.type != "cpu":
            batch.index_copy_(0, at, changed)
        else:
            for place, sample in zip(places.tolist(), changed, strict=True):  # index_copy_ takes ten times as long
                batch[place].copy_(sample)
    return batch


def _operation(name: str, p: float, **options: Any) -> Operation:
    """An operation by its name. torchvision checks the options: ParamsError."""
    if name in ("hflip", "vflip"):
        return lambda count, like: partial(_flip, name)
    if name in ONE_BY_ONE:
        return partial(_images_alone, name, _one_by_one_on_cpu(name, options))
    try:
        return partial(_images_alone, name, _MAKERS[name](options))
    except (TypeError, ValueError) as error:
        raise ParamsError(f"augment {name!r}: {one_line(error)}") from error


def _flip(name: str, batch: Tensor, numbers: Tensor) -> Tensor:
    if batch.ndim != 4:
        raise ParamsError(
            f"augment {name!r}: for images and maps (C, H, W), not for {tuple(batch.shape[1:])}: leave it out"
        )
    return batch.flip(-1 if name == "hflip" else -2)


def _one_by_one_on_cpu(name: str, options: Mapping[str, Any]) -> Operation:
    """A degradation of the views. Each image's generator is seeded by torch's, so that it has its own draws."""
    degrade = DEGRADATIONS[name]

    def draw(count: int, like: Tensor) -> Drawn:
        seeds = torch.randint(0, 2**63 - 1, (count,))

        def change(batch: Tensor, numbers: Tensor) -> Tensor:
            images = batch.permute(0, 2, 3, 1).contiguous().numpy()
            made = [
                np.asarray(degrade(Image.fromarray(image), np.random.default_rng(seed), **options))
                for image, seed in zip(images, seeds[numbers].tolist(), strict=True)
            ]
            return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()

        return on_cpu(change)

    return draw


def _images_alone(name: str, operation: Operation, count: int, like: Tensor) -> Drawn:
    if like.dtype != torch.uint8:
        raise ParamsError(
            f"augment {name!r}: for images (cut: input), not for feature maps: leave it out, or make it a view"
        )
    return operation(count, like)


def _one_by_one(transform: Any, on_gpu: Operation) -> Operation:
    """A transform of torchvision: on the CPU one image after the other, on a GPU the batch at once."""

    def draw(count: int, like: Tensor) -> Drawn:
        if like.device.type != "cpu":
            return on_gpu(count, like)
        made = transform(like.shape[-2:])
        params = [made.make_params([like[0]]) for _ in range(count)]

        def change(batch: Tensor, numbers: Tensor) -> Tensor:
            chosen = (params[number] for number in numbers.tolist())
            return torch.stack([made.transform(image, of_it) for image, of_it in zip(batch, chosen, strict=True)])

        return change

    return draw


def _make_jitter(options: Mapping[str, Any]) -> Operation:
    from torchvision.transforms import v2

    v2.ColorJitter(**options)
    return lambda count, like: _draw_jitter(count, **options)


def _make_crop(options: Mapping[str, Any]) -> Operation:
    from torchvision.transforms import v2

    v2.RandomResizedCrop(8, **options)
    return _one_by_one(lambda size: v2.RandomResizedCrop(size, **options), crop_each(**options))


def _make_jpeg(options: Mapping[str, Any]) -> Operation:
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    v2.JPEG(**options)
    low, high = options["quality"]

    def draw(count: int, like: Tensor) -> Drawn:
        qualities = [int(torch.randint(low, high + 1, ())) for _ in range(count)]

        def change(batch: Tensor, numbers: Tensor) -> Tensor:
            pairs = zip(batch, numbers.tolist(), strict=True)
            return torch.stack([functional.jpeg(image, qualities[number]) for image, number in pairs])

        return on_cpu(change)

    return draw


def _make_blur(options: Mapping[str, Any]) -> Operation:
    from torchvision.transforms import v2

    blur = v2.GaussianBlur(**options)
    return _one_by_one(lambda size: blur, blur_each(**options))


def _make_noise(options: Mapping[str, Any]) -> Operation:
    if options["sigma"] < 0:
        raise ValueError(f"sigma is negative ({options['sigma']})")
    return noise_each(**options)


_MAKERS: dict[str, Callable[[Mapping[str, Any]], Operation]] = {
    "jitter": _make_jitter,
    "crop": _make_crop,
    "jpeg": _make_jpeg,
    "blur": _make_blur,
    "noise": _make_noise,
}


def _draw_jitter(count: int, brightness: float, contrast: float, saturation: float, hue: float) -> Drawn:
    """torchvision's ColorJitter; each sample has its own factors, all samples of a batch have the same order of changes."""
    changes: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = [
        (change, torch.empty(count).uniform_(max(0.0, 1 - width), 1 + width))
        for change, width in ((_brighten, brightness), (_contrast, contrast), (_saturate, saturation))
        if width
    ]
    if hue:
        changes.append((shift_hue, torch.empty(count).uniform_(-hue, hue)))
    order = torch.randperm(len(changes)).tolist()

    def change(batch: Tensor, numbers: Tensor) -> Tensor:
        size = len(batch)
        mine = [(changes[at][0], changes[at][1][numbers]) for at in order]
        # One image at a time stays in a CPU's cache; a GPU wants few and large kernels.
        parts = torch.arange(size).split(1 if batch.device.type == "cpu" else size)
        jittered = torch.empty_like(batch)
        for part in parts:
            block = slice(int(part[0]), int(part[-1]) + 1)
            images = batch[block].float()
            for change, factors in mine:
                images = change(images, factors[block].view(-1, 1, 1, 1).to(batch.device, non_blocking=True))
            jittered[block] = images.round_()
        return jittered

    return change


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
    turn, red, green and blue stand at 0, 2 and 4; a channel has the largest value up to a distance of 1 from its place,
    the smallest from 2 on, and is linear in between. With the values scaled to 0..1, the hue is therefore at a distance
    of 1 + (green + blue - red) from red, on the side of the larger of green and blue. This needs no distinction of
    cases, which would take torch five times as long on a CPU.
    """
    red, green, blue = images.unbind(-3)
    top = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = top - low
    hue = (chroma - low).add_(green).add_(blue).sub_(red).div_(chroma.clamp(min=1e-6))
    hue = hue.copysign_(green - blue).unsqueeze(-3)  # -3..3
    places = torch.tensor(_PLACES).to(images.device, non_blocking=True).view(3, 1, 1)
    offset = (6 * turns - places + 3) % 6 - 3  # |hue + offset| is then at most 6: on the circle it is 3 - ||...| - 3|
    beyond = (hue + offset).abs_().sub_(3).abs_().clamp_(1, 2)
    return torch.addcmul((low - chroma).unsqueeze(-3), chroma.unsqueeze(-3), beyond, out=beyond)


def mixing(mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019) with these alphas; nothing when both are 0.

    (features, labels (B,)) -> (features, labels (B,) or soft (B, 2)); with both, each batch draws one.
    """
    if not mixup and not cutmix:
        return lambda features, labels: (features, labels)
    from torchvision.transforms import v2

    kinds = [kind(alpha=a, num_classes=2) for kind, a in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if a]
    choose = v2.RandomChoice(kinds)

    def mix(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if cutmix and features.ndim != 4:
            raise ParamsError(
                f"mix.cutmix: for images and maps (C, H, W), not for {tuple(features.shape[1:])}: leave it out"
            )
        return choose(features.float(), labels)  # type: ignore[no-any-return]

    return mix
