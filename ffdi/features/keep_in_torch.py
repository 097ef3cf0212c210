"""What is kept of the features at a cut, as a function of tensors: it has a gradient, and it exports."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ffdi.features.keep import Grid, Keep, Region, TokenGrid, grid_of


def keep_of_tensor(features: Tensor, keep: Keep, tokens: TokenGrid | None) -> Tensor:
    """As keep_features, of float features (N, C, H, W) or (N, L, C) as the prefix gives them, before their rounding.

    `tokens` is the grid of tokens at the cut, None for maps.
    """
    if keep == "all":
        return features
    is_map = features.ndim == 4
    grid = grid_of(tuple(features.shape[1:]), tokens)
    assert grid is not None  # kept_shape refuses it
    places = features.flatten(2).transpose(1, 2) if is_map else features[:, grid.prefix_tokens :]  # (N, H * W, C)
    match keep:
        case "cls":
            return features[:, 0]
        case "mean":
            return places.mean(dim=1)
        case "cls+mean":
            return torch.cat([features[:, 0], places.mean(dim=1)], dim=1)
        case "patches":
            return places
    squares: Tensor = places.transpose(1, 2).unflatten(2, (grid.rows, grid.columns))
    if isinstance(keep, Grid):
        return adaptive_avg_pool2d(squares, keep.side)
    assert isinstance(keep, Region)
    region = squares[:, :, slice(*keep.rows), slice(*keep.columns)]
    return region if is_map else region.flatten(2).transpose(1, 2)
