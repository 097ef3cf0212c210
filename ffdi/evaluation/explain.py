"""Which places of a cached feature map a tail's decision came from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffdi.tails.bundle import Bundle


def grad_cam(bundle: Bundle, features: Tensor, *, fake: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """(N, H, W) in [0, 1]: how much each place of (N, C, H, W) cached maps counted for fake, or for real where not `fake`.

    Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) on the cached map: the channels are weighted by the mean
    gradient of the margin, and negative sums become 0. The map of each tail is divided by its largest value, and the
    maps are averaged. Maps are square, so (H, H, C) with C != H means channels last (Swin). None when there is no map:
    for tokens and for `cut: input`. Computed on the CPU.
    """
    if features.ndim != 4 or not bundle.backbone.has_prefix:
        return None
    _, first, second, third = features.shape
    channel, places = (3, (1, 2)) if first == second != third else (1, (2, 3))
    sign = torch.where(torch.from_numpy(fake), 1.0, -1.0)
    maps = []
    for tail in bundle.tails.values():
        inputs = features.float().clone().requires_grad_(True)
        logits = tail.cpu().eval()(inputs)  # the tail may still be on a GPU
        (gradient,) = torch.autograd.grad((sign * (logits[:, 1] - logits[:, 0])).sum(), inputs)
        weights = gradient.mean(dim=places, keepdim=True)
        heat = (weights * inputs.detach()).sum(dim=channel).clamp(min=0)
        maps.append(heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12))
    return np.asarray(torch.stack(maps).mean(dim=0).double().numpy())
