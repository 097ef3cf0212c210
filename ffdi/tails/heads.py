"""The trainable part: the network from the cut on (the body), and a new head with two logits, real and fake."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import assert_never

from ffdi.errors import NetworkError, ParamsError, one_line, placed
from ffdi.features.backbone import Backbone
from ffdi.features.cuts import cut_network
from ffdi.features.keep import channels_of
from ffdi.tails.knn import KnnHead
from ffdi.tails.norms import build_norm
from ffdi.tails.recipe import CLASSES, Head


class Tail(nn.Module):
    """(B, C, H, W) features of any dtype (uint8 images for `cut: input`) -> (B, 2) logits: body, `norm`, head.

    Maps are channels-last in memory, which trains the tail of a CNN 1.2 to 1.4 times faster on a CPU, unless the network's
    code cannot have them so.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        pixels: tuple[tuple[float, ...], tuple[float, ...]] | None,
        norm: nn.Module | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.body, self.head, self.channels_last = body, head, channels_last
        self.norm = norm or nn.Identity()
        if channels_last:
            _lay_channels_last(body)
        mean, std = pixels or ((), ())
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.embed(features))  # type: ignore[no-any-return]

    def embed(self, features: Tensor) -> Tensor:
        """What the head reads: the features behind body and norm."""
        x = self.normalised(features)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)
        return self.norm(self.body(x))  # type: ignore[no-any-return]

    def normalised(self, features: Tensor) -> Tensor:
        """The input of the network: float32; images are normalised with the backbone's mean and standard deviation."""
        return torch.sub(features, self.mean).div_(self.std) if self.mean.numel() else features.float()


def _lay_channels_last(body: nn.Module) -> None:
    """Kernels, and what its modules hand back in training. A kernel of another rank stays: torch's own `to` refuses it."""
    for tensor in (*body.parameters(), *body.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    for module in body.modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(_keep_channels_last)


def _keep_channels_last(module: nn.Module, inputs: Any, output: Any) -> None:
    """Keep gradients channels-last. Global pooling returns its gradient channels first, and every layer before it would then
    read it in strides."""
    if isinstance(output, Tensor) and output.ndim == 4 and output.requires_grad:
        output.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))


class TransformerHead(nn.Module):
    """A transformer over the positions of a feature map (B, C, H, W), or over tokens (B, L, C), -> (B, 2) logits.

    Each position is a token; the class token gives the logits; position embeddings are learned (ViT: Dosovitskiy et al.,
    ICLR 2021, section 3.1, hybrid architecture). Pre-norm, GELU, MLP ratio 2. `drop_path` (stochastic depth: Huang et al.,
    ECCV 2016) is the probability of skipping the branches of the last block; it rises linearly over the blocks. Where the
    recipe has a norm, it takes the place of the first layer norm.
    """

    def __init__(self, shape: tuple[int, ...], spec: Head) -> None:
        from timm.models.vision_transformer import Block

        super().__init__()
        channels = channels_of(shape)
        places = math.prod(shape) // channels
        self.scale = nn.LayerNorm(channels) if spec.norm == "none" else nn.Identity()
        self.project = nn.Linear(channels, spec.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.position = nn.Parameter(torch.randn(1, places + 1, spec.width) * 0.02)
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.Sequential(
            *(
                Block(spec.width, spec.heads, 2, qkv_bias=True, proj_drop=spec.dropout, drop_path=rate)
                for rate in torch.linspace(0, spec.drop_path, spec.depth + 1).tolist()[1:]
            )
        )
        self.norm = nn.LayerNorm(spec.width)
        self.logits = nn.Linear(spec.width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.project(self.scale(_as_tokens(x)))
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1) + self.position
        return self.logits(self.norm(self.blocks(self.dropout(tokens))[:, 0]))  # type: ignore[no-any-return]


class AttentiveHead(nn.Module):
    """One learned query attends over the places of a map (B, C, H, W), or over tokens (B, L, C), -> (B, 2) logits.

    Multi-head cross-attention as pooling: the attentional pooler with one query of CoCa (Yu et al., TMLR 2022, section
    3.2), with which V-JEPA probes frozen features (Bardes et al., TMLR 2024, section 4.3). Keys and values are linear in
    the tokens, `width` in all heads together; positions play no part. As in CoCa a layer norm comes first; where the
    recipe has a norm, that takes its place.
    """

    def __init__(self, shape: tuple[int, ...], spec: Head) -> None:
        super().__init__()
        channels = channels_of(shape)
        self.heads = spec.heads
        self.scale = nn.LayerNorm(channels) if spec.norm == "none" else nn.Identity()
        self.query = nn.Parameter(torch.randn(spec.width) * 0.02)
        self.keys_and_values = nn.Linear(channels, 2 * spec.width)
        self.norm = nn.LayerNorm(spec.width)
        self.dropout = nn.Dropout(spec.dropout)
        self.logits = nn.Linear(spec.width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        by_head = self.keys_and_values(self.scale(_as_tokens(x))).unflatten(
            -1, (2, self.heads, -1)
        )  # (B, L, 2, h, w/h)
        keys, values = by_head.permute(2, 0, 3, 1, 4)
        query = self.query.view(1, self.heads, 1, -1).expand(len(x), -1, -1, -1)
        pooled = nn.functional.scaled_dot_product_attention(query, keys, values).flatten(1)
        return self.logits(self.dropout(self.norm(pooled)))  # type: ignore[no-any-return]


class MeanPool(nn.Module):
    """The mean over the places of maps (B, C, H, W) or over tokens (B, L, C) -> (B, C); vectors stay as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2) if x.ndim == 4 else x.mean(1) if x.ndim == 3 else x


def _as_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x


class TailFactory:
    """Makes fresh tails of one recipe: the body with the backbone's weights, and a new head.

    `network` has the backbone's weights and no classifier; it is copied.
    """

    def __init__(self, network: nn.Module, backbone: Backbone, head: Head, shape: tuple[int, ...]) -> None:
        self.head, self.shape = head, shape
        self.pixels = (backbone.pixels.mean, backbone.pixels.std) if not backbone.has_prefix else None
        self.body: nn.Module = nn.Identity()
        if head.follows_body:
            if backbone.has_body:
                with placed(f"backbones.{backbone.name}: {backbone.network}"):
                    self.body = cut_network(network, backbone.cut_name, backbone.pixels.size)[1]
        elif head.is_fitted:
            self._refuse_images()
            self.body = MeanPool()
        else:
            self._refuse_what_attention_cannot_take()
        self.reads = self._head_reads(backbone.place)

    def fresh(self, seed: int) -> Tail:
        """A tail whose head is drawn from `seed`; no tensor is shared with any other tail."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = self._head()
        norm = build_norm(self.head.norm, channels_of(self.reads))
        return Tail(copy.deepcopy(self.body), head, self.pixels, norm, self.channels_last)

    def _head(self) -> nn.Module:
        head = self.head
        match head.kind:
            case "transformer":
                return TransformerHead(self.shape, head)
            case "attentive":
                return AttentiveHead(self.shape, head)
            case "probe":
                return nn.Linear(self.width, CLASSES)
            case "knn":
                return KnnHead(self.width, head)
            case "linear":
                return nn.Sequential(nn.Flatten(), nn.Dropout(head.dropout), nn.Linear(self.width, CLASSES))
            case "mlp":
                layers: list[nn.Module] = [nn.Flatten()]
                sizes = (self.width, *head.hidden)
                for before, after in itertools.pairwise(sizes):
                    layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(head.dropout)]
                return nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))
        assert_never(head.kind)

    @property
    def width(self) -> int:
        """The number of values that the head reads of an image."""
        return math.prod(self.reads)

    def _refuse_images(self) -> None:
        """ParamsError for a head that reads features where there are none."""
        if self.pixels:
            raise ParamsError(
                f"head {self.head.kind}: takes cached features; with `cut: input` there are images alone: cut later"
            )

    def _refuse_what_attention_cannot_take(self) -> None:
        """ParamsError when the features have no places, or the width does not fit the attention heads."""
        head = self.head
        if self.pixels or len(self.shape) not in (2, 3):
            what = "images" if self.pixels else str(self.shape)
            takes = f"takes maps (C, H, W) or tokens (L, C), at this cut there are {what}"
            raise ParamsError(f"head {head.kind}: {takes}: cut earlier, keep more, or take another head")
        if head.width % head.heads:
            raise ParamsError(f"head {head.kind}: width {head.width} is no multiple of heads {head.heads}: change one")

    def _head_reads(self, place: str) -> tuple[int, ...]:
        """The shape of what the body makes of an image's features, after a trial of the layout that only saves time."""
        for self.channels_last in (True, False):
            trial = Tail(copy.deepcopy(self.body), nn.Identity(), None, channels_last=self.channels_last).eval()
            try:
                with torch.inference_mode():
                    out = trial(torch.zeros(1, *self.shape))
                break
            except Exception as error:  # the network's code may raise anything
                if not self.channels_last:
                    what = f"the network from the cut on refuses features {self.shape}: {one_line(error)}"
                    raise NetworkError(f"{place}: {what}: try another cut or image_size") from error
        if not isinstance(out, Tensor):
            raise NetworkError(f"{place}: the network gives {type(out).__name__}, not a tensor: take another network")
        return tuple(out.shape[1:])
