"""Where in an image the decision of a bundle came from: Grad-CAM, for tokens with attention rollout before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ffdi.deploy.explanation.attention import RecordedAttention, rollout
from ffdi.evaluation.explain import class_activation, places_of
from ffdi.evaluation.heated import HeatMap
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.keep import TokenGrid
from ffdi.features.keep_in_torch import keep_of_tensor
from ffdi.features.networks import FrozenPrefix
from ffdi.features.pooled_cuts import PooledCuts
from ffdi.intake.decoding.images import RGB
from ffdi.tails.bundle import Bundle
from ffdi.tails.heads import Tail


@dataclass(frozen=True)
class Heat:
    """How much each place of an image counted: `map` (H, W) in [0, 1]; `method` says how it was found."""

    map: HeatMap
    method: str


class _Places(NamedTuple):
    """Where a network still has places: the features there (1, C, H, W) or (1, L, C), which have a gradient, the grid of
    tokens, the attention (1, L, L) of each layer before it, and the name of the place."""

    features: Tensor
    tokens: TokenGrid | None
    attention: list[Tensor]
    name: str


def heat_of(bundle: Bundle, square: RGB, *, fake: bool) -> Heat | None:
    """How much each place of an image (S, S, 3), as the network sees it, counted for fake, or for real where not `fake`.

    Grad-CAM (Selvaraju et al., ICCV 2017) on the features at the cut. Where there is no place left at the cut, and with
    `cut: input`, it is on the last map before the pooling. With tokens, what counted (gradient x features of each token,
    summed over the channels where that is positive) is carried back to the patches by the attention of the layers before
    (see rollout); where these show none, Grad-CAM is on the tokens themselves. The map of each tail is divided by its
    largest value, and the maps are averaged. None when the network has no map and no tokens with a known grid.

    Computed on the CPU, in float32, by the tails that score.
    """
    pixels = torch.from_numpy(np.array(square))[None].float().requires_grad_()
    tails = [tail.cpu().eval() for tail in bundle.tails.values()]
    prefix = bundle.prefix
    if prefix is None:
        found = [_of_network(tail, pixels, fake) for tail in tails]
    else:
        places, features = _at_cut(prefix, pixels, bundle.extractor().spec)
        found = [places and _heat(places, tail(features), fake) for tail in tails]
    heats = [heat for heat in found if heat is not None]
    if not heats:
        return None
    return Heat(np.mean([heat.map for heat in heats], axis=0), heats[0].method)


def _of_network(tail: Tail, pixels: Tensor, fake: bool) -> Heat | None:
    """That of a tail with the whole network."""
    with RecordedAttention() as attention, _watched(tail.body, attention) as last:
        logits = tail(pixels.permute(0, 3, 1, 2))
    places = last()
    return places and _heat(places, logits, fake)


def _at_cut(prefix: FrozenPrefix, pixels: Tensor, spec: FeatureSpec) -> tuple[_Places | None, Tensor]:
    """The places at the cut, or the last ones before it, and what the tails are given."""
    crossing: list[Tensor] = []

    def keep_crossing(module: nn.Module, inputs: object, output: Tensor | list[Tensor]) -> None:
        crossing.extend([output] if isinstance(output, Tensor) else output)

    pooled = prefix.prefix if isinstance(prefix.prefix, PooledCuts) else None
    hook = (pooled.prefix if pooled else prefix.prefix).register_forward_hook(keep_crossing)
    try:
        with RecordedAttention() as attention, _watched(prefix.prefix, attention) as last:
            features = prefix(pixels)
    finally:
        hook.remove()
    grids = list(pooled.tokens) if pooled else [prefix.tokens]
    if not pooled:
        features = keep_of_tensor(features, spec.keep, prefix.tokens)
    names = spec.cut.split("+")
    for tensor, grid, name in reversed(list(zip(crossing, grids, names, strict=True))):
        if tensor.ndim == 4 or (tensor.ndim == 3 and grid):
            return _Places(tensor, grid, attention.weights, name), features
    return last(), features


@contextmanager
def _watched(root: nn.Module, attention: RecordedAttention) -> Iterator[Callable[[], _Places | None]]:
    """While `root` runs, note the last map or tokens that one of its modules gave."""
    found: list[_Places] = []
    own = getattr(getattr(root, "network", root), "num_prefix_tokens", None)

    def note(name: str) -> Callable[..., None]:
        def after(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.requires_grad and (seen := _with_places(output, own)):
                found[:] = [_Places(*seen, list(attention.weights), name)]

        return after

    hooks = [module.register_forward_hook(note(name)) for name, module in root.named_modules() if name]
    try:
        yield lambda: found[0] if found else None
    finally:
        for hook in hooks:
            hook.remove()


def _with_places(output: Tensor, prefix_tokens: int | None) -> tuple[Tensor, TokenGrid | None] | None:
    """A tensor that a module gave of one square image, as a map or as tokens; None when it has no grid of places."""
    sides = output.shape[1:]
    if output.ndim == 4 and sides[1] == sides[2] > 1:
        return output, None
    if output.ndim == 4 and sides[0] == sides[1] > 1:  # channels last
        return output, TokenGrid(0, sides[0], sides[1])
    if output.ndim == 3:
        for before in (0, 1) if prefix_tokens is None else (prefix_tokens,):
            if (side := isqrt(max(sides[0] - before, 0))) > 1 and side * side == sides[0] - before:
                return output, TokenGrid(before, side, side)
    return None


def _heat(places: _Places, logits: Tensor, fake: bool) -> Heat:
    features, tokens = places.features, places.tokens
    margin = (logits[:, 1] - logits[:, 0]).sum() * (1 if fake else -1)
    (gradient,) = torch.autograd.grad(margin, features, retain_graph=True)
    features = features.detach()
    if features.ndim == 4 and tokens:
        gradient, features = gradient.permute(0, 3, 1, 2), features.permute(0, 3, 1, 2)
        tokens = None
    carried = rollout(places.attention, features.shape[1]) if tokens else None
    if tokens is None or carried is None:
        gradient, features = places_of(gradient, tokens), places_of(features, tokens)
        reached = gradient.abs().sum(dim=1) > 0  # not what the bundle leaves out of the features
        on = f" of the tokens at {places.name}" if tokens else f" at {places.name}"
        return Heat(_plain(class_activation(gradient, features) * reached)[0], f"Grad-CAM{on}")
    counted = (gradient * features)[0].sum(dim=1).clamp(min=0) @ carried
    patches = counted[tokens.prefix_tokens :].reshape(tokens.rows, tokens.columns)
    method = f"Grad-CAM of the tokens at {places.name}, carried back by attention rollout"
    return Heat(_plain(patches / patches.max().clamp(min=1e-12)), method)


def _plain(values: Tensor) -> HeatMap:
    return np.asarray(values.double().numpy())
