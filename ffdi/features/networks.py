"""Build a network by name, remove its classifier, and freeze a prefix of it together with its normalisation."""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ffdi.errors import ParamsError, one_line
from ffdi.features.backbone import refuse_tag
from ffdi.features.keep import TokenGrid

OTHER_SIZE = "set another image_size, or network_args: {img_size: N}"
NO_ARGS: Mapping[str, Any] = types.MappingProxyType({})
# What ffdi decides itself: weights come from `weights`, images have three channels, the classifier is thrown away.
_OF_WEIGHTS = ("weights", "weights_backbone", "progress", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")
_OF_TIMM = ("pretrained_strict", "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit")
_OF_OUTPUTS = ("num_classes", "in_chans", "aux_logits", "features_only", "out_indices")
_OF_MAKING = ("init_weights", "device", "dtype")
_OURS = frozenset((*_OF_WEIGHTS, *_OF_TIMM, *_OF_OUTPUTS, *_OF_MAKING))
# As torchvision builds them with its weights. Said outright, the initialisation of the weights warns of nothing.
_AS_PRETRAINED: Mapping[str, Mapping[str, Any]] = {
    "inception_v3": {"transform_input": True, "init_weights": True},
    "googlenet": {"transform_input": True, "init_weights": True},
}


def build_network(name: str, network_args: Mapping[str, Any] = NO_ARGS) -> nn.Module:
    """`torchvision:NAME` or `timm:NAME`, with random weights and its classifier.

    `network_args` are handed to the library that builds it. ParamsError lists close names, or the arguments it takes.
    """
    make = _maker(name)
    if ours := sorted(_OURS & set(network_args)):
        raise ParamsError(f"network_args: {ours[0]}: ffdi sets it itself, for every network")
    if empty := [key for key, value in network_args.items() if value is None]:  # timm drops them
        raise ParamsError(f"network_args: {empty[0]}: null has no effect: leave it out")
    try:
        network = make(**network_args)
    except Exception as error:  # the network's code may raise anything
        if not network_args:
            raise ParamsError(f"network {name!r} cannot be built: {one_line(error)}: take another network") from error
        raise ParamsError(_refused(make, name, network_args, error)) from error
    return _mended(network)


def headless_network(name: str, network_args: Mapping[str, Any] = NO_ARGS) -> nn.Module:
    """The network without its classifier, with random weights: what every cut, tail and bundle begins from."""
    return without_classifier(build_network(name, network_args), name)


def declared_classifiers(network: nn.Module) -> tuple[str, ...]:
    """The paths of the classifiers as timm declares them, also where the network is built without one; else ()."""
    named = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def without_classifier(network: nn.Module, name: str) -> nn.Module:
    """The network without its last linear layer and a dropout right before it: it returns pooled features (B, D).

    The head that replaces them has its own dropout. Auxiliary classifiers go as well: in train mode, too, the network
    returns one tensor. Changes `network` and returns it.
    """
    if name.startswith("timm:"):
        try:
            network.reset_classifier(0)  # type: ignore[operator]
        except Exception as error:  # the network's code may raise anything, or not have it
            what = f"timm cannot remove its classifier ({one_line(error)})"
            raise ParamsError(f"network {name!r}: {what}: take another network") from error
        return network
    for auxiliary in ("AuxLogits", "aux1", "aux2"):  # of Inception and GoogLeNet
        if getattr(network, auxiliary, None) is not None:
            setattr(network, auxiliary, None)
            network.aux_logits = False  # type: ignore[assignment]
            network.dropout = nn.Identity()  # right before the linear layer
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        return _without_convolution(network, name)
    parent_path, _, last = linear[-1].rpartition(".")
    parent = network.get_submodule(parent_path)
    setattr(parent, last, nn.Identity())
    if isinstance(parent, nn.Sequential) and last.isdigit() and int(last):
        before = str(int(last) - 1)
        if isinstance(getattr(parent, before, None), nn.Dropout):
            setattr(parent, before, nn.Identity())
    return network


def _without_convolution(network: nn.Module, name: str) -> nn.Module:
    """The same for SqueezeNet, which classifies every place by a convolution and pools afterwards: pooling alone is left."""
    classifier = getattr(network, "classifier", None)
    layers = list(classifier.children()) if isinstance(classifier, nn.Sequential) else []
    if not any(isinstance(layer, nn.Conv2d) for layer in layers):
        raise ParamsError(f"network {name!r} has no linear classifier to replace: take another network")
    for path, layer in enumerate(layers):
        if not isinstance(layer, nn.AdaptiveAvgPool2d):
            setattr(classifier, str(path), nn.Identity())
    return network


def _maker(name: str) -> Callable[..., nn.Module]:
    """The function that builds a network from its arguments; ParamsError for an unknown name."""
    refuse_tag(name)
    source, _, model = name.partition(":")
    known: list[str]
    if source == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        if model in known:
            return lambda **args: models.get_model(model, weights=None, **{**_AS_PRETRAINED.get(model, {}), **args})
    elif source == "timm":
        import timm

        known = timm.list_models()
        if model in known:
            return lambda **args: timm.create_model(model, pretrained=False, **args)
    else:
        raise ParamsError(f"network {name!r}: begins with neither torchvision: nor timm:")
    near = difflib.get_close_matches(model, known, n=5) or known[:5]
    raise ParamsError(f"network {name!r} does not exist in {source}; close names: {', '.join(near)}")


def _refused(make: Callable[..., nn.Module], name: str, network_args: Mapping[str, Any], error: Exception) -> str:
    """The line for arguments with which a network is not built: which is wrong, and what it takes."""
    with torch.device("meta"):
        signature = inspect.signature(type(make()).__init__).parameters.values()
    named = (p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    takes = [key for key in named if key not in ("self", "cfg", "block_args") and key not in _OURS]
    unknown = [key for key in network_args if key not in takes]
    written = ", ".join(f"{key}: {value!r}" for key, value in network_args.items())
    what = f"{unknown[0]}: {name} takes no such argument" if unknown else f"{{{written}}}: {name} refuses them"
    return f"network_args: {what} ({one_line(error)[:200]}); it takes {', '.join(takes)}"


def _mended(network: nn.Module) -> nn.Module:
    """torchvision's MNASNet as every other network: its weights load from a plain mapping of names to tensors.

    Its own loading wants a version beside them, which safetensors files and copies of a state do not have.
    """
    if type(network).__name__ == "MNASNet":
        network._load_from_state_dict = types.MethodType(nn.Module._load_from_state_dict, network)  # type: ignore
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
            raise ParamsError(
                f"image size {image_size}: the prefix refuses it: {one_line(error)}: {OTHER_SIZE}"
            ) from error
