"""Build a network by name, remove its classifier, and freeze a prefix of it together with its normalisation."""

from __future__ import annotations

import difflib

import torch
from torch import Tensor, nn

from ffdi.errors import ParamsError, one_line
from ffdi.features.keep import TokenGrid


def build_network(name: str) -> nn.Module:
    """`torchvision:NAME` or `timm:NAME`, with random weights; ParamsError lists close names."""
    source, _, model = name.partition(":")
    known: list[str]
    if source == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        if model in known:
            return models.get_model(model, weights=None)  # type: ignore[no-any-return]
    elif source == "timm":
        import timm

        known = timm.list_models()
        if model in known:
            network: nn.Module = timm.create_model(model, pretrained=False)
            return network
    else:
        raise ParamsError(f"network {name!r}: begins with neither torchvision: nor timm:")
    near = difflib.get_close_matches(model, known, n=5) or known[:5]
    raise ParamsError(f"network {name!r} does not exist in {source}; close names: {', '.join(near)}")


def headless_network(name: str) -> nn.Module:
    """The network without its classifier, with random weights: what every cut, tail and bundle begins from."""
    return without_classifier(build_network(name), name)


def declared_classifiers(network: nn.Module) -> tuple[str, ...]:
    """The paths of the classifiers as timm declares them, also where the network is built without one; else ()."""
    named = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def without_classifier(network: nn.Module, name: str) -> nn.Module:
    """The network without its last linear layer and a dropout right before it: it returns pooled features (B, D).

    The head that replaces them has its own dropout. Changes `network` and returns it.
    """
    if name.startswith("timm:"):
        network.reset_classifier(0)  # type: ignore[operator]
        return network
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ParamsError(f"network {name!r} has no linear classifier to replace")
    parent_path, _, last = linear[-1].rpartition(".")
    parent = network.get_submodule(parent_path)
    setattr(parent, last, nn.Identity())
    if isinstance(parent, nn.Sequential) and last.isdigit() and int(last):
        before = str(int(last) - 1)
        if isinstance(getattr(parent, before, None), nn.Dropout):
            setattr(parent, before, nn.Identity())
    return network


class FrozenPrefix(nn.Module):
    """Normalisation and prefix in one: (B, H, W, 3) uint8 RGB -> (B, ...) float features, no gradients.

    Normalisation is (v / 255 - mean) / std per channel. It is a part of the module, so it stays with its weights.
    `tokens` says where the places are among features that are tokens.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        prefix: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        tokens: TokenGrid | None = None,
    ) -> None:
        super().__init__()
        self.prefix, self.tokens = prefix, tokens
        self.register_buffer("scale", (1 / (255 * torch.tensor(std))).view(1, 3, 1, 1))
        self.register_buffer("shift", (-torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return self.prefix(x)  # type: ignore[no-any-return]

    def feature_shape(self, image_size: int) -> tuple[int, ...]:
        """The shape of one image's features: (C, h, w) of a CNN, (tokens, C) of a ViT; ParamsError when the size does not fit."""
        try:
            with torch.inference_mode():
                return tuple(self(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)).shape[1:])
        except ParamsError:
            raise
        except Exception as error:  # the network's code may raise anything, and a list has no shape
            raise ParamsError(f"image size {image_size}: the prefix refuses it: {one_line(error)}") from error
