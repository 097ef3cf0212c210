"""The settings of a backbone: everything that decides a feature, except the bytes of the weights. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from ffdi.bounds import LATER, NonNegative, Rule
from ffdi.errors import ParamsError
from ffdi.features.keep import resolve_keep
from ffdi.features.preprocessing import IMAGENET_MEAN, IMAGENET_STD, SIZE, Channels, Preprocessing
from ffdi.features.stored_settings import stored_settings, with_tuples
from ffdi.features.views import Operation, as_written, resolve_policy
from ffdi.intake.decoding.resizing import Resize

INPUT = "input"  # the cut of an empty prefix
POOLED = ("all", "cls", "mean", "cls+mean")  # what `keep` may say of several cuts; `all` is `mean`


def _check_network(network: str) -> None:
    pattern = r"^(torchvision|timm):[A-Za-z0-9_.]+$"
    if not re.fullmatch(pattern, network):
        raise ParamsError(f"String should match pattern '{pattern}'")
    refuse_tag(network)


def refuse_tag(network: str) -> None:
    """ParamsError when a network of timm is named with a tag of weights, as timm itself names a network with its weights."""
    library, _, model = network.partition(":")
    name, _, tag = model.partition(".")
    if library == "timm" and tag:
        raise ParamsError(f"{tag!r} is a tag of weights: write `network: timm:{name}` and `weights: timm:{tag}`")


def _check_sha256(digest: str | None) -> None:
    if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise ParamsError("must be a sha256: 64 digits of 0-9 and a-f")


def _check_cut(cut: str | tuple[str, ...]) -> None:
    if isinstance(cut, tuple) and (len(set(cut)) != len(cut) or len(cut) < 2 or INPUT in cut):
        raise ParamsError(f"a list names two or more modules, each once, and not `{INPUT}`")


@dataclass(frozen=True)
class Views:
    """The augmented views of train images; view 0, the clean image, comes in addition."""

    count: Annotated[int, Ge(0), Le(255)] = 0
    """The number of augmented views of each train image."""

    policy: str | tuple[str | dict[str, Any], ...] = "none"
    """A preset (`none`, `light`, `seeds`), or a list of `hflip`, `vflip`, `autocontrast`, `equalize`, `rotate`,
    `jitter`, `brightness`, `contrast`, `gamma`, `tint`, `crop`, `screenshot`, `jpeg`, `webp`, `double_jpeg`, `blur`,
    `sharpen`, `downscale`, `noise`, `shift`, `mix`, each with options and a probability `p`. `at: file` lets one act on
    the decoded original, before it is resized: see [features.md](features.md)."""

    seed: NonNegative = 0
    """The seed of everything random in the views."""

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The policy's operations with every option; ParamsError for an unknown preset, operation or option."""
        return resolve_policy(self.policy)


@dataclass(frozen=True)
class Backbone:
    """An entry of `backbones` in params.yaml: a network, where it is cut, and how images reach it."""

    name: str
    """The name of the entry."""

    network: Annotated[str, Rule(_check_network)]
    """The network: `torchvision:NAME` or `timm:NAME`."""

    weights: str
    """Where its weights come from: `torchvision:ENUM`, `timm:TAG`, `package:efficientnet-lite0`, `file:PATH`
    (safetensors) or `random`: see [features.md](features.md)."""

    cut: Annotated[str | tuple[str, ...], Rule(_check_cut)]
    """The module where the tail begins, or `input`: then the tail is the whole network. Of a list of modules, pooled
    features of each are stored as one vector."""

    image_size: Annotated[int, Ge(8), Le(4096)] | None = None
    """The side in pixels of the square that images are resized to: see `resize`. `null` is 224, or see `preprocessing`."""

    mean: Channels | None = None
    """The network is given (v / 255 - mean) / std of each channel. `null` is ImageNet's: .485, .456, .406; or see
    `preprocessing`."""

    std: Channels | None = None
    """See `mean`. `null` is ImageNet's: .229, .224, .225; or see `preprocessing`."""

    views: Views = Views()
    """Augmented views of train images, which are cached as well."""

    dtype: Literal["float16", "float32", "int8"] = "float16"
    """How features are stored: see [features.md](features.md)."""

    runtime: Literal["auto", "onnxruntime", "torch"] = "auto"
    """What computes features; `auto` is torch on CUDA and onnxruntime on a CPU."""

    precision: Literal["float32", "tf32", "float16", "bfloat16"] = "float32"
    """The precision of the prefix, on CUDA alone: see [features.md](features.md)."""

    compile: bool = False
    """Whether torch compiles the prefix, on CUDA alone: see [features.md](features.md)."""

    decoder: Literal["pillow", "nvjpeg"] = "pillow"
    """What decodes images; `nvjpeg`, on CUDA alone, is faster and gives slightly other pixels: see
    [features.md](features.md)."""

    memory_format: Annotated[Literal["contiguous", "channels_last"], LATER] = "contiguous"
    """The memory format of the prefix, on CUDA alone: see [features.md](features.md)."""

    keep: Annotated[str | dict[str, Any], Rule(resolve_keep), LATER] = "all"
    """What is stored of the features at the cut: `all`; of tokens `cls`, `mean`, `cls+mean` or `patches`; of a map
    `mean`; of either `{grid: N}` or a region, `{rows: [FIRST, END], columns: [FIRST, END]}`: see
    [features.md](features.md)."""

    resize: Annotated[Resize | None, LATER] = None
    """How an image of any shape becomes that square. `null` is the default of each key, or see `preprocessing`."""

    preprocessing: Annotated[Literal["params", "model"], LATER] = "params"
    """Where image_size, mean, std and resize come from when they are not written: `params`, their defaults; `model`, what
    timm or torchvision states of the weights. What is written counts; mean and std must not contradict the weights' own."""

    network_args: Annotated[dict[str, Any], LATER] = field(default_factory=dict)
    """Arguments of the network that timm or torchvision builds, such as `{img_size: 336}`, `{dynamic_img_size: true}` or
    `{depth: 6}`. timm resizes position embeddings where `img_size` is not that of the weights."""

    weights_sha256: Annotated[str | None, LATER, Rule(_check_sha256)] = None
    """The sha256 that the weights must have: of the file of `file:PATH`, for other sources of
    data/weights/NAME.safetensors."""

    @property
    def cuts(self) -> tuple[str, ...]:
        """The modules that it is cut at: one, or several."""
        return (self.cut,) if isinstance(self.cut, str) else self.cut

    @property
    def cut_name(self) -> str:
        """Its cuts as one word."""
        return "+".join(self.cuts)

    @property
    def has_body(self) -> bool:
        """Whether the network goes on behind the stored features: they are all of those at one cut."""
        return len(self.cuts) == 1 and self.keep == "all"

    def check(self) -> None:
        """ParamsError for settings that contradict each other."""
        try:
            self._check()
        except ParamsError as error:
            raise ParamsError(f"backbones.{self.name}.{error}") from None

    def _check(self) -> None:
        if not self.has_prefix and self.keep != "all":
            raise ParamsError(f"keep: {self.keep}: `cut: {INPUT}` stores images, which are kept whole")
        if len(self.cuts) > 1 and self.keep not in POOLED:
            raise ParamsError(f"keep: {self.keep}: of several cuts, pooled features are kept: {', '.join(POOLED)}")
        if self.decoder == "nvjpeg" and self.resize and self.resize.kernel == "lanczos":
            raise ParamsError("resize.kernel: lanczos needs `decoder: pillow`: on the GPU there is no such filter")
        _ = self.side_of_network

    @property
    def side_of_network(self) -> int | None:
        """The side of the images that the network is built for, where network_args say it; ParamsError for no square."""
        side = self.network_args.get(
            "img_size", self.network_args.get("image_size")
        )  # in timm's and torchvision's words
        if isinstance(side, list | tuple) and len(set(side)) == 1:
            side = side[0]
        if side is not None and not isinstance(side, int):
            raise ParamsError(f"network_args: {side} is no side of a square: images are made squares")
        return side

    @property
    def has_prefix(self) -> bool:
        """Whether a prefix computes its features; `cut: input` has none: its features are the pixels."""
        return self.cut != INPUT

    @property
    def place(self) -> str:
        """Where a message about its network's code begins: the entry, the network, the cut and the size."""
        return f"backbones.{self.name}: {self.network} cut at {self.cut_name}, {self.pixels.size} pixels"

    @cached_property
    def pixels(self) -> Preprocessing:
        """What its network sees of an image, with the defaults of what params.yaml leaves out.

        ParamsError with `preprocessing: model` unless `resolve_preprocessing` has been called.
        """
        if self.preprocessing == "model":
            raise ParamsError(f"backbones.{self.name}.preprocessing: model: is known from the weights file alone")
        mean, std, how = self.mean or IMAGENET_MEAN, self.std or IMAGENET_STD, self.resize or Resize()
        return Preprocessing(self.image_size or self.side_of_network or SIZE, mean, std, how)

    @property
    def feature_dtype(self) -> str:
        """The dtype of its features as they are stored; pixels are uint8."""
        return self.dtype if self.has_prefix else "uint8"

    def to_dict(self) -> dict[str, Any]:
        """The fields as bundle.json stores them: flat, defaults filled in. Mark a new field with LATER: see `stored_settings`."""
        stored: dict[str, Any] = {}
        for key, value in stored_settings(self).items():
            if key == "views":
                views = {"view_count": self.views.count, "view_policy": self.views.operations}
                stored |= views | {"view_seed": self.views.seed}
            else:
                stored[key] = value
        stored |= {"image_size": self.pixels.size, "mean": self.pixels.mean, "std": self.pixels.std}
        stored.pop("resize", None)
        return stored if self.pixels.resize == Resize() else stored | {"resize": asdict(self.pixels.resize)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Backbone:
        """The backbone of a bundle.json; KeyError or TypeError when the fields are not those of `to_dict`."""
        fields = with_tuples(stored)
        if "resize" in fields:
            fields["resize"] = Resize(**fields["resize"])
        count, policy, seed = (fields.pop(f"view_{key}") for key in ("count", "policy", "seed"))
        return cls(views=Views(count, as_written(policy), seed), **fields)
