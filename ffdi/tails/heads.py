"""The trainable part: the network from the cut on (the body), and a new head with two logits, real and fake."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import assert_never

from ffdi.errors import ParamsError
from ffdi.features.backbone import Backbone
from ffdi.features.cuts import cut_network
from ffdi.tails.recipe import Head

CLASSES = 2  # real, fake


class Tail(nn.Module):
    """(B, C, H, W) features of any dtype (uint8 images for `cut: input`) -> (B, 2) logits.

    Maps are channels-last in memory, which trains the tail of a CNN 1.2 to 1.4 times faster on a CPU.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, body: nn.Module, head: nn.Module, pixels: tuple[tuple[float, ...], tuple[float, ...]] | None
    ) -> None:
        super().__init__()
        self.body = body.to(memory_format=torch.channels_last)
        self.head = head
        for module in body.modules():
            if not any(True for _ in module.children()):
                module.register_forward_hook(_keep_channels_last)
        mean, std = pixels or ((), ())
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        x = self.normalised(features)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.head(self.body(x))  # type: ignore[no-any-return]

    def normalised(self, features: Tensor) -> Tensor:
        """The input of the network: float32; images are normalised with the backbone's mean and standard deviation."""
        return torch.sub(features, self.mean).div_(self.std) if self.mean.numel() else features.float()


def _keep_channels_last(module: nn.Module, inputs: Any, output: Any) -> None:
    """Keep gradients channels-last. Global pooling returns its gradient channels first, and every layer before it would then
    read it in strides."""
    if isinstance(output, Tensor) and output.ndim == 4 and output.requires_grad:
        output.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))


class TransformerHead(nn.Module):
    """A transformer over the positions of a feature map (B, C, H, W), or over tokens (B, L, C), -> (B, 2) logits.

    Each position is a token; the class token gives the logits; position embeddings are learned (ViT: Dosovitskiy et al.,
    ICLR 2021, section 3.1, hybrid architecture). Pre-norm, GELU, MLP ratio 2. `drop_path` (stochastic depth: Huang et al.,
    ECCV 2016) is the probability of skipping the branches of the last block; it rises linearly over the blocks.
    """

    def __init__(self, shape: tuple[int, ...], spec: Head) -> None:
        from timm.models.vision_transformer import Block

        super().__init__()
        channels, places = (shape[0], shape[1] * shape[2]) if len(shape) == 3 else (shape[1], shape[0])
        self.scale = nn.LayerNorm(channels)
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
        tokens = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        tokens = self.project(self.scale(tokens))
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1) + self.position
        return self.logits(self.norm(self.blocks(self.dropout(tokens))[:, 0]))  # type: ignore[no-any-return]


class TailFactory:
    """Makes fresh tails of one recipe: the body with the backbone's weights, and a new head.

    `network` has the backbone's weights and no classifier; it is copied.
    """

    def __init__(self, network: nn.Module, backbone: Backbone, head: Head, shape: tuple[int, ...]) -> None:
        self.head, self.shape = head, shape
        self.pixels = (backbone.pixels.mean, backbone.pixels.std) if not backbone.has_prefix else None
        self.body: nn.Module = nn.Identity()
        self.width = 0
        if head.kind != "transformer":  # which reads the features themselves: its tail has no body
            if backbone.has_body:
                self.body = cut_network(network, backbone.cut_name, backbone.pixels.size)[1]
            self.width = self._body_width()

    def fresh(self, seed: int) -> Tail:
        """A tail whose head is drawn from `seed`; no tensor is shared with any other tail."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = self._head()
        return Tail(copy.deepcopy(self.body), head, self.pixels)

    def _head(self) -> nn.Module:
        head = self.head
        match head.kind:
            case "transformer":
                self._refuse_transformer()
                return TransformerHead(self.shape, head)
            case "linear":
                return nn.Sequential(nn.Flatten(), nn.Dropout(head.dropout), nn.Linear(self.width, CLASSES))
            case "mlp":
                layers: list[nn.Module] = [nn.Flatten()]
                sizes = (self.width, *head.hidden)
                for before, after in itertools.pairwise(sizes):
                    layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(head.dropout)]
                return nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))
        assert_never(head.kind)

    def _refuse_transformer(self) -> None:
        """ParamsError when the features or the width are none that a transformer can take."""
        if self.pixels or len(self.shape) not in (2, 3):
            what = "images" if self.pixels else str(self.shape)
            raise ParamsError(f"head transformer: takes maps (C, H, W) or tokens (L, C), at this cut there are {what}")
        if self.head.width % self.head.heads:
            raise ParamsError(f"head transformer: width {self.head.width} is no multiple of heads {self.head.heads}")

    def _body_width(self) -> int:
        body = self.body.eval()
        with torch.inference_mode():
            return int(body(torch.zeros(1, *self.shape)).flatten(1).shape[1])
