"""Several cuts at once: pooled features of each, computed in one pass and joined to one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ffdi.errors import ParamsError
from ffdi.features.cuts import several_cuts
from ffdi.features.keep import Keep, TokenGrid, kept_shape


class PooledCuts(nn.Module):
    """(B, 3, S, S) -> (B, D): of each cut in turn the class token, the mean over the places, or both.

    `prefix` gives the list of the features at the `cuts`, `tokens` where the places are among those that are tokens.
    `all` is `mean`; a vector is taken as it is. ParamsError when the features at a cut have no such part.
    """

    def __init__(self, prefix: nn.Module, cuts: Sequence[str], tokens: Sequence[TokenGrid | None], keep: Keep) -> None:
        super().__init__()
        self.prefix = prefix
        self._cuts, self.tokens, self._keep = tuple(cuts), tuple(tokens), "mean" if keep == "all" else keep

    def forward(self, x: Tensor) -> Tensor:
        """The vectors of all cuts, joined in their order."""
        return self.pool(self.prefix(x))

    def pool(self, crossing: Sequence[Tensor]) -> Tensor:
        """The same of the features at each cut."""
        return torch.cat([self._pooled(*at) for at in zip(crossing, self._cuts, self.tokens, strict=True)], dim=1)

    def _pooled(self, features: Tensor, cut: str, tokens: TokenGrid | None) -> Tensor:
        keep, shape = self._keep, tuple(features.shape[1:])
        if len(shape) == 1:
            return features
        try:
            kept_shape(shape, keep, tokens)
        except ParamsError as error:
            raise ParamsError(f"cut {cut!r}: {error}") from None
        if len(shape) == 3:
            return features.flatten(2).mean(dim=2)
        assert tokens is not None  # kept_shape refuses it
        if keep == "cls":
            return features[:, 0]
        mean = features[:, tokens.prefix_tokens :].mean(dim=1)
        return mean if keep == "mean" else torch.cat([features[:, 0], mean], dim=1)


def pooled_cuts(network: nn.Module, cuts: Sequence[str], image_size: int, keep: Keep) -> PooledCuts:
    """The pooled prefix of several cuts, with a copy of the weights of `network`, which has no classifier.

    Raises ParamsError as cut_network does.
    """
    prefix = several_cuts(network, tuple(cuts), image_size)
    return PooledCuts(prefix, cuts, getattr(prefix, "tokens", [None] * len(cuts)), keep)
