"""The attention of a network, recorded while it runs, and what it says of where tokens come from."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_OF_MODULE = inspect.signature(functional.multi_head_attention_forward)


class RecordedAttention(TorchFunctionMode):
    """While it is active, `weights` gets the attention (B, L, L) of each layer in order, the mean over its heads.

    It sees torch's own attention: scaled_dot_product_attention, which timm's networks call, and that of
    nn.MultiheadAttention in torchvision's. A network that multiplies queries and keys itself leaves no record.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            self.weights.append(_weights(dict(zip(_ARGUMENTS, args)) | named))
        if func is functional.multi_head_attention_forward:
            given = _OF_MODULE.bind(*args, **named).arguments | {"need_weights": True, "average_attn_weights": True}
            attended, weights = func(**given)
            assert weights is not None
            self.weights.append(weights.detach())
            return attended, None
        return func(*args, **named)


def _weights(given: dict[str, Any]) -> Tensor:
    """(B, L, L) of scaled_dot_product_attention's arguments; (B, 0, 0) for what is no plain attention of one token to all."""
    query: Tensor = given["query"].detach()
    key: Tensor = given["key"].detach()
    mask: Tensor | None = given.get("attn_mask")
    if query.ndim != 4 or query.shape != key.shape or given.get("is_causal"):
        return query.new_zeros(len(query), 0, 0)
    scale = given.get("scale")
    logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.detach()
    return torch.softmax(logits.float(), dim=-1).mean(dim=1)


def rollout(layers: list[Tensor], tokens: int) -> Tensor | None:
    """(L, L) of one image: how much of each of the `tokens` of the last layer comes from each of the first.

    Abnar and Zuidema, ACL 2020, section 3: half of a layer's output is its shortcut, so the layers (A + I) / 2 are
    multiplied. None where there is no attention, or one of another number of tokens, as in windows.
    """
    if not layers or any(layer.shape != (1, tokens, tokens) for layer in layers):
        return None
    whole = torch.eye(tokens)
    for layer in layers:
        whole = (layer[0].float().cpu() + torch.eye(tokens)) / 2 @ whole
    return whole
