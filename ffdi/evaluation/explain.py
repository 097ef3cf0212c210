"""Which places of a cached feature map a tail's decision came from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.keep import Region, TokenGrid
from ffdi.tails.bundle import Bundle


def grad_cam(
    bundle: Bundle, features: Tensor, *, fake: npt.NDArray[np.bool_], spec: FeatureSpec | None = None
) -> npt.NDArray[np.float64] | None:
    """(N, H, W) in [0, 1]: how much each place of cached maps (N, C, H, W), or tokens (N, L, C), counted for fake, or for
    real where not `fake`.

    Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) on the cached features: the channels are weighted by the mean
    gradient of the margin over the places, and negative sums become 0. The map of each tail is divided by its largest
    value, and the maps are averaged. `spec` says where the places are among tokens, and which region of the image the
    features are of: elsewhere the map is 0. None when there are no places: for vectors, for tokens without a known grid,
    and for `cut: input`. Computed on the CPU.
    """
    tokens = spec.tokens if spec else None
    if not bundle.backbone.has_prefix or not (features.ndim == 4 or (features.ndim == 3 and tokens)):
        return None
    sign = torch.where(torch.from_numpy(fake), 1.0, -1.0)
    maps = []
    for tail in bundle.tails.values():
        inputs = features.float().clone().requires_grad_(True)
        logits = tail.cpu().eval()(inputs)  # the tail may still be on a GPU
        (gradient,) = torch.autograd.grad((sign * (logits[:, 1] - logits[:, 0])).sum(), inputs)
        maps.append(class_activation(places_of(gradient, tokens), places_of(inputs.detach(), tokens)))
    found = np.asarray(torch.stack(maps).mean(dim=0).double().numpy())
    return _on_whole_grid(found, spec) if spec else found


def class_activation(gradient: Tensor, maps: Tensor) -> Tensor:
    """(N, H, W) in [0, 1] of maps (N, C, H, W) and the gradient there: Grad-CAM, each divided by its largest value."""
    heat = (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).clamp(min=0)
    return heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def places_of(features: Tensor, tokens: TokenGrid | None) -> Tensor:
    """(N, C, H, W) of maps, which are that already, or of tokens (N, L, C)."""
    if features.ndim == 4 or tokens is None:
        return features
    patches = features[:, tokens.prefix_tokens :].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], tokens.rows, tokens.columns)


def _on_whole_grid(maps: npt.NDArray[np.float64], spec: FeatureSpec) -> npt.NDArray[np.float64]:
    """The maps of a region in their place."""
    region, grid = spec.keep, spec.cut_grid
    if not isinstance(region, Region) or grid is None:
        return maps
    whole = np.zeros((len(maps), grid.rows, grid.columns))
    whole[:, slice(*region.rows), slice(*region.columns)] = maps
    return whole
