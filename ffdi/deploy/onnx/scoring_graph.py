"""A model as one network: RGB squares -> calibrated P(fake), with everything that a bundle does in between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ffdi.errors import ParamsError
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.keep_in_torch import keep_of_tensor
from ffdi.features.perturbed import level_operations
from ffdi.features.views import acts_on_file
from ffdi.tails.bundle import Bundle
from ffdi.tails.ensemble import Ensemble
from ffdi.tails.model import Model
from ffdi.tails.recipe import REFIT
from ffdi.tails.scoring import same_features
from ffdi.tails.stacking import LARGEST_LOGIT

FLIPPED = "hflip"


class ScoringGraph(nn.Module):
    """(N, S, S, 3) uint8 RGB squares -> the model's calibrated P(fake) (N,), and that by the tails of each of `folds` alone
    (N, K), both float32.

    It computes what `score_images` computes once an image is a square: normalisation, prefix, the rounding of stored
    features and what `keep` leaves of them, mirrored views, the tails, temperature and mean; of an ensemble its stack as
    well. Parts that read the same features share them. Without `rounded` features stay as the prefix gives them. ParamsError names what of the model a square alone cannot give.
    """

    def __init__(self, model: Model, *, rounded: bool = True) -> None:
        super().__init__()
        refuse_what_squares_lack(model)
        parts = [same_features(part) for part in model.parts]
        keys = list(dict.fromkeys(parts))
        self.reads = [keys.index(part) for part in parts]
        self.readers = nn.ModuleList(FeatureReader(model.parts[parts.index(key)], rounded) for key in keys)
        self.tails = nn.ModuleList(FoldTails(part) for part in model.parts)
        of_parts = [list(part.tails) for part in model.parts]
        self.folds = [fold for fold in of_parts[0] if all(fold in of_part for of_part in of_parts)]
        self.joint = Joint(model, self.folds) if isinstance(model, Ensemble) else None
        self.folds = self.folds or [REFIT]
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = [reader(images) for reader in self.readers]
        logits = [tails(features[at]) for at, tails in zip(self.reads, self.tails, strict=True)]
        if self.joint is not None:
            return self.joint(logits)  # type: ignore[no-any-return]
        by_fold = torch.sigmoid(logits[0])
        return by_fold.mean(1), by_fold


class FeatureReader(nn.Module):
    """(N, S, S, 3) uint8 -> the features that a bundle's tails read, (N, ...) float32, of the clean square and of its
    mirrored one where the bundle has that view."""

    def __init__(self, part: Bundle, rounded: bool) -> None:
        super().__init__()
        spec = part.extractor().spec
        self.prefix, self.views = part.prefix, 1 + len(part.tta)
        self.spec = spec if rounded else replace(spec, dtype="float32")

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self._features(images if view == 0 else images.flip(2)) for view in range(self.views)]

    def _features(self, images: Tensor) -> Tensor:
        if self.prefix is None:
            return images.permute(0, 3, 1, 2)
        spec, features = self.spec, self.prefix(images)
        if spec.keep != "all" and not spec.several_cuts:
            features = keep_of_tensor(stored(features, spec), spec.keep, spec.cut_grid)
        return stored(features, spec)


class FoldTails(nn.Module):
    """The features of each view -> calibrated logits (N, K) of a bundle's tails: the mean over views, over temperature."""

    def __init__(self, part: Bundle) -> None:
        super().__init__()
        self.tails, self.temperature = nn.ModuleList(part.tails.values()).cpu(), part.temperature

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        return torch.stack([self._margin(tail, views) for tail in self.tails], dim=1) / self.temperature

    def _margin(self, tail: nn.Module, views: Sequence[Tensor]) -> Tensor:
        logits = torch.stack([tail(view) for view in views]).mean(0) if len(views) > 1 else tail(views[0])
        return logits[:, 1] - logits[:, 0]


class Joint(nn.Module):
    """The calibrated logits (N, K) of each member's tails -> the joint score (N,), and that of each fold that all have."""

    weights: Tensor

    def __init__(self, ensemble: Ensemble, folds: Sequence[int]) -> None:
        super().__init__()
        self.columns = [[list(part.tails).index(fold) for fold in folds] for part in ensemble.parts]
        self.register_buffer("weights", torch.tensor(ensemble.stack.weights))
        self.bias, self.temperature = ensemble.stack.bias, ensemble.temperature

    def forward(self, logits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        score = self._score([logit_of_mean(of_member) for of_member in logits])
        if not self.columns[0]:  # members of which some are refit have no fold in common
            return score, score[:, None]
        by_fold = [of_member[:, columns] for of_member, columns in zip(logits, self.columns, strict=True)]
        return score, self._score(by_fold)

    def _score(self, of_members: Sequence[Tensor]) -> Tensor:
        inside = torch.stack(list(of_members), dim=-1).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        return torch.sigmoid(((inside * self.weights).sum(-1) + self.bias) / self.temperature)


def logit_of_mean(logits: Tensor) -> Tensor:
    """(N,) the logit of the mean over the columns of sigmoid(logits) (N, K): in float32, too, where that rounds to 0 or 1."""
    fake, real = log_sigmoid(logits).logsumexp(1), log_sigmoid(-logits).logsumexp(1)
    return fake - real


def log_sigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)); written so that no runtime takes the logarithm of a sigmoid that has become 0."""
    return x.clamp(max=0) - torch.log(1 + torch.exp(-x.abs()))


def refuse_what_squares_lack(model: Model) -> None:
    """ParamsError for a view that is no mirrored square, and for members that see an image as different squares."""
    for part in model.parts:
        for level in part.tta:
            operations = level_operations(level)
            if acts_on_file(operations) or [operation["name"] for operation in operations] != [FLIPPED]:
                raise ParamsError(
                    f"tta: {level}: the graph is given a square, of which it can make {FLIPPED} alone: train with "
                    f"tta: [{FLIPPED}] or without tta"
                )
    squares = {part.backbone.name: (part.backbone.pixels.size, square_made(part)) for part in model.parts}
    if len(set(squares.values())) > 1:
        seen = "; ".join(f"{name} {size} pixels ({how})" for name, (size, how) in squares.items())
        raise ParamsError(f"its members see an image as different squares, and the graph is given one: {seen}")


def square_made(part: Bundle) -> str:
    """How an image becomes the square: its resizing, and its decoder where that is not Pillow."""
    how = part.backbone.pixels.resize_policy
    return how if part.backbone.decoder == "pillow" else f"{how}, decoder {part.backbone.decoder}"


def stored(features: Tensor, spec: FeatureSpec) -> Tensor:
    """float32 features with the rounding that shards of `spec` give them: see ffdi.features.quantised."""
    if spec.dtype == "float32":
        return features.float()
    rounded = features.half().float()
    if spec.dtype != "int8":
        return rounded
    rows = rounded.flatten(2)
    scales = rows.abs().amax(2, keepdim=True) / 127
    codes = torch.round(rows / torch.where(scales > 0, scales, 1.0))
    return (codes * scales).half().float().reshape(rounded.shape)


def parameter_bytes(modules: Iterable[nn.Module]) -> int:
    """Bytes of the parameters and buffers of modules, each tensor once."""
    tensors: dict[Any, Tensor] = {}
    for module in modules:
        tensors |= {tensor.data_ptr(): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())
