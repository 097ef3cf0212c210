"""Where on a cached feature map a tail saw what it decided."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffdi.features.backbone import INPUT
from ffdi.tails.bundle import Bundle


def grad_cam(bundle: Bundle, features: Tensor, *, fake: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """On the CPU, (N, H, W) in [0, 1]: how much each place of (N, C, H, W) cached maps spoke for fake, or where not `fake` for real.

    Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) with the cached map as its layer: the channels weighted by
    the mean gradient of the margin, negative sums cut off. Each tail's map is scaled to its largest value, and they are
    averaged. Maps are square, as images are, by which those with their channels last (Swin's) are known. None where
    there is no map: tokens, and `cut: input`.
    """
    if features.ndim != 4 or bundle.backbone.cut == INPUT:
        return None
    _, first, second, third = features.shape
    channel, places = (3, (1, 2)) if first == second != third else (1, (2, 3))
    sign = torch.where(torch.from_numpy(fake), 1.0, -1.0)
    maps = []
    for tail in bundle.tails.values():
        inputs = features.float().clone().requires_grad_(True)
        logits = tail.cpu().eval()(inputs)  # wherever it scored last
        (gradient,) = torch.autograd.grad((sign * (logits[:, 1] - logits[:, 0])).sum(), inputs)
        weights = gradient.mean(dim=places, keepdim=True)
        spoke = (weights * inputs.detach()).sum(dim=channel).clamp(min=0)
        maps.append(spoke / spoke.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12))
    return np.asarray(torch.stack(maps).mean(dim=0).double().numpy())
