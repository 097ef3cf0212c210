"""What the publishers of weights state of the images that they were trained on, and what params.yaml makes of it.

timm states it for each tag, torchvision for each entry of its enums. Only the stage `weights` asks them (and loads torch);
with `preprocessing: model` it writes the answer into the header of the weights file, where `resolve_preprocessing` reads
it. Without that setting, a normalisation that params.yaml leaves to the default must be the one that the weights
were trained with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from ffdi.console import Console
from ffdi.errors import ParamsError, WeightsError
from ffdi.features.backbone import Backbone
from ffdi.features.feature_spec import read_header
from ffdi.features.preprocessing import Channels, in_words
from ffdi.intake.decoding.resizing import Kernel, Mode, Resize

HALF_A_LEVEL = 0.5 / 255  # means and deviations that differ by less are the same, written with fewer digits
MODES: Mapping[str, Mode] = {"center": "shorter_side", "squash": "squash", "border": "letterbox"}  # timm's words
FIELDS = ("image_size", "mean", "std", "resize")
REMEDY = "set `preprocessing: model`, or write mean and std"


@dataclass(frozen=True)
class Stated:
    """What is stated of one set of weights, such as `timm:openai`; `scaling` is crop mode, kernel and crop in timm's words."""

    source: str
    sides: tuple[int, int]  # height, width
    mean: Channels
    std: Channels
    scaling: tuple[str, str, float]

    def field(self, key: str) -> Any:
        """What the field `key` of a Backbone says of the same, as JSON has it; WeightsError where it cannot say it."""
        match key:
            case "image_size":
                height, width = self.sides
                if height != width:
                    raise WeightsError(
                        f"{self.source} is for images of {width} x {height}, not for squares: write {key}"
                    )
                return height
            case "resize":
                return self._resize()
        return list(getattr(self, key))

    def _resize(self) -> dict[str, Any]:
        mode, kernel, crop = self.scaling
        if mode not in MODES:
            raise WeightsError(f"{self.source} is for crop mode {mode}, not {', '.join(MODES)}: write resize")
        if kernel not in (kernels := get_args(Kernel)):
            raise WeightsError(f"{self.source} is for {kernel} scaling, not {', '.join(kernels)}: write resize")
        if not 0 < crop <= 1:
            raise WeightsError(f"{self.source} is for crop {crop:g}, which adds a border: write resize")
        return {"mode": MODES[mode], "kernel": kernel, "crop": crop}


def described_preprocessing(backbone: Backbone, console: Console = Console()) -> dict[str, Any]:
    """What the header of the weights file says of `preprocessing: model`, by fields of Backbone; otherwise nothing.

    Raises WeightsError where nothing is stated, where it cannot be followed or where several tags differ in a field that
    is not written, and for a normalisation that contradicts the weights' own: by default without params.yaml saying
    so, with `preprocessing: model` in what is written. One that is written in params.yaml is a warning.
    """
    place, stated = f"backbones.{backbone.name}", _stated(backbone)
    if backbone.preprocessing == "params":
        _check_normalisation(backbone, stated, console)
        return {}
    if not stated:
        missing = "write image_size, mean, std and resize, without it"
        nothing = f"nothing is stated of {backbone.weights} for {backbone.network}"
        raise WeightsError(f"{place}.preprocessing: model: {nothing}: {missing}")
    described = {}
    for key in FIELDS:
        try:
            described[key] = _agreed(key, stated)
        except WeightsError as error:
            if not _written(backbone, key):
                raise WeightsError(f"{place}.preprocessing: model: {error}") from None
    resolved(backbone, described)
    return described


def _agreed(key: str, stated: list[Stated]) -> Any:
    """What all say; WeightsError when two of them differ."""
    first = stated[0]
    answer = first.field(key)
    for other in stated[1:]:
        if other.field(key) != answer:
            differ = f"{first.source} has {answer}, {other.source} {other.field(key)}"
            raise WeightsError(f"the weights of this network differ in {key} ({differ}): write {key}")
    return answer


def _written(backbone: Backbone, key: str) -> Any:
    """What params.yaml says in the field `key`; network_args may say the image size."""
    return getattr(backbone, key) or (backbone.side_of_network if key == "image_size" else None)


def resolved(backbone: Backbone, described: Mapping[str, Any]) -> Backbone:
    """The backbone with the answers of described_preprocessing in place of what params.yaml leaves out.

    ParamsError for a written mean or std that contradicts them, and for a field that is in neither.
    """
    if backbone.preprocessing == "params":
        return backbone
    place = f"backbones.{backbone.name}"
    for key in ("mean", "std"):
        if (written := getattr(backbone, key)) and key in described and not _same(written, described[key]):
            stated = f"`preprocessing: model` finds {in_words(described[key])}"
            raise ParamsError(f"{place}.{key}: {in_words(written)}, but {stated}: leave out one of them")
    fields: dict[str, Any] = {}
    for key in FIELDS:
        if not (value := _written(backbone, key)):
            if key not in described:
                raise ParamsError(
                    f"{place}.{key}: its weights file does not say it: write it, or run the weights stage"
                )
            value = Resize(**described[key]) if key == "resize" else described[key]
        fields[key] = tuple(value) if isinstance(value, list) else value
    made = replace(backbone, preprocessing="params", **fields)
    made.check()
    return made


def resolve_preprocessing(backbone: Backbone, weights: Path) -> Backbone:
    """A backbone of params.yaml with what its weights file says of `preprocessing: model` in its place. Loads no torch.

    WeightsError when the file was written without that setting, ParamsError as resolved does.
    """
    if backbone.preprocessing == "params":
        return backbone
    described = read_header(weights).get("preprocessing")
    if described is None:
        raise WeightsError(f"{weights}: was written without `preprocessing: model`: run the weights stage")
    return resolved(backbone, described)


def _stated(backbone: Backbone) -> list[Stated]:
    """What is stated of the weights of a backbone; of a file, whose origin is not known, of all weights of its network.

    Random weights have what the network's first weights have.
    """
    library, _, model = backbone.network.partition(":")
    kind, _, name = backbone.weights.partition(":")
    if library == "timm" and kind in ("timm", "package", "random", "file"):
        return list(_of_timm(model, name if kind == "timm" else "", everything=kind == "file"))
    if library == "torchvision" and kind in ("torchvision", "random", "file"):
        return list(_of_torchvision(model, name or "DEFAULT", everything=kind == "file"))
    return []


def _of_timm(model: str, tag: str, *, everything: bool) -> Iterable[Stated]:
    """Of one tag (empty: the network's first), or of all tags; nothing of a tag that does not exist."""
    import timm
    from timm.models import get_pretrained_cfg

    one = f"{model}.{tag}" if tag else model
    for name in timm.list_models(f"{model}.*", pretrained=True) if everything else [one]:
        try:
            published = get_pretrained_cfg(name)
        except RuntimeError:  # the error of fetching such a tag names those that there are
            continue
        if published is not None:
            scaling = (published.crop_mode, published.interpolation, published.crop_pct)
            mean, std = cast("Channels", published.mean), cast("Channels", published.std)
            yield Stated(f"timm:{published.tag or model}", published.input_size[1:], mean, std, scaling)


def _of_torchvision(model: str, enum: str, *, everything: bool) -> Iterable[Stated]:
    """Of one entry of the network's enum, or of all entries; nothing of an entry that does not exist."""
    from torchvision import models

    if model not in models.list_models(module=models):
        return
    entries: Any = models.get_model_weights(model)
    for name, entry in entries.__members__.items():  # with other names of the same, such as DEFAULT
        if name == enum or (everything and name == entry.name):
            see = entry.transforms()
            size, scaled = see.crop_size[0], see.resize_size[0]
            scaling = ("center", see.interpolation.value, fraction(size, scaled))
            yield Stated(f"torchvision:{entry.name}", (size, size), tuple(see.mean), tuple(see.std), scaling)


def fraction(size: int, scaled: int) -> float:
    """The shortest decimal `crop` with floor(size / crop) == scaled."""
    exact = (round(size / scaled, digits) for digits in range(1, 17))
    return next(crop for crop in exact if crop and math.floor(size / crop) == scaled)


def _check_normalisation(backbone: Backbone, stated: list[Stated], console: Console) -> None:
    """WeightsError, or a warning, where no weights that they may be were trained with the normalisation of params.yaml."""
    if not stated or backbone.weights == "random":
        return
    ours = {"mean": backbone.pixels.mean, "std": backbone.pixels.std}
    if any(all(_same(value, getattr(one, key)) for key, value in ours.items()) for one in stated):
        return
    first = stated[0]
    theirs = f"mean {in_words(first.mean)} and std {in_words(first.std)}"
    given = f"mean {in_words(ours['mean'])} and std {in_words(ours['std'])}"
    if backbone.weights.startswith("file:"):
        console.warn(f"no weights of {backbone.network} state {given}; {first.source} states {theirs}")
        return
    said = f"{backbone.weights} of {backbone.network} was trained with {theirs}, params have {given}"
    if all(getattr(backbone, key) or _same(value, getattr(first, key)) for key, value in ours.items()):
        console.warn(f"{said}, as they say")
        return
    raise WeightsError(f"backbones.{backbone.name}: {said} by default: {REMEDY}")


def _same(ours: Iterable[float], theirs: Iterable[float]) -> bool:
    return all(abs(a - b) < HALF_A_LEVEL for a, b in zip(ours, theirs, strict=True))
