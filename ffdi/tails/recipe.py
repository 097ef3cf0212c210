"""The settings of a recipe: which features it reads, which head it trains, and how. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt

from ffdi.bounds import (
    LATER,
    Fraction,
    FractionAbove0,
    FractionBelow1,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Rule,
)
from ffdi.errors import ParamsError
from ffdi.features.levels import parse_level
from ffdi.features.stored_settings import stored_settings, with_tuples
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.optimisation import ExtraLosses, Mix, Optimizer, Schedule
from ffdi.tails.policy_settings import Abstain, PolicySettings, ThresholdRule

CLASSES = 2  # the logits of a head: real, fake
REFIT = -1  # in the place of a fold's number: the tail that all training images trained

Trainable = str | dict[str, int] | tuple[str, ...]
Norm = Literal["none", "l2", "layer", "standardise"]


def _ascending(pair: tuple[float, float]) -> None:
    if pair[0] > pair[1]:
        raise ParamsError("the first number must not be above the second")


def _check_trainable(trainable: Trainable) -> None:
    match trainable:
        case "all" | "head" | "norms" | [_, *_]:
            return
        case {"last": int(count), **rest} if count >= 1 and not rest:
            return
    raise ParamsError("choose all, head, norms, {last: N} with N of 1 or more, or a list of patterns of names")


def _check_tta(levels: tuple[str, ...]) -> None:
    if len({parse_level(level).name for level in levels}) < len(levels):
        raise ParamsError("a view is named twice")


@dataclass(frozen=True)
class Head:
    """The new layers on top of the network's body; they give two logits, real and fake."""

    kind: Literal["linear", "mlp", "transformer", "attentive", "probe", "knn"] = "mlp"
    """The layers: one `linear` layer, an `mlp`, a `transformer` over the places of a map, one `attentive` query over
    them; or, fitted at once, a logistic regression (`probe`) or the nearest training images (`knn`): see
    [training.md](training.md)."""

    hidden: tuple[Positive, ...] = (512, 256)
    """Kind mlp: the widths of its hidden layers."""

    dropout: Fraction = 0.0
    """The chance that an activation is dropped in training."""

    depth: Positive = 2
    """Kind transformer: the number of blocks."""

    heads: Positive = 4
    """Kinds transformer and attentive: the number of attention heads; it divides `width`."""

    width: Positive = 128
    """Kinds transformer and attentive: the width of a token."""

    drop_path: FractionBelow1 = 0.0
    """Kind transformer: the chance of leaving out the last block in training; it rises linearly over the blocks."""

    norm: Annotated[Norm, LATER] = "none"
    """What is done to the vectors that the head reads, of an image, place or token: `l2` (to length 1), `layer` (to mean 0
    and variance 1 over the channels), `standardise` (each channel, by the statistics of the training fold)."""

    sweep: Annotated[Positive, LATER] = 20
    """Kind probe: how many values of C, the inverse of the regularisation's strength, are tried on inner folds."""

    c_range: Annotated[tuple[PositiveFloat, PositiveFloat], LATER, Rule(_ascending)] = (1e-6, 1e2)
    """Kind probe: the lowest and the highest C, of scikit-learn's LogisticRegression on features of mean variance 1; the
    others are spaced evenly on the logarithmic scale."""

    neighbours: Annotated[Positive, LATER] = 20
    """Kind knn: how many of the nearest training images vote."""

    distance: Annotated[Literal["cosine", "euclidean"], LATER] = "cosine"
    """Kind knn: nearest by the cosine, or by the mean squared difference over the channels."""

    temperature: Annotated[PositiveFloat, LATER] = 0.07
    """Kind knn: a vote weighs exp(similarity / temperature), similarity being the cosine or minus the mean squared
    difference."""

    @property
    def follows_body(self) -> bool:
        """Whether the network's own modules stand before the head; the others read the features themselves."""
        return self.kind in ("linear", "mlp")

    @property
    def is_fitted(self) -> bool:
        """Whether the head is fitted at once on pooled features, without epochs."""
        return self.kind in ("probe", "knn")

    def check_written(self, written: Collection[str]) -> None:
        """Raise ParamsError for a key that the file has and that has no effect on this kind."""
        keys = _KEYS_OF[self.kind]
        if idle := sorted(set(written) - set(keys)):
            raise ParamsError(
                f"{idle[0]} has no effect on kind {self.kind}, which reads {', '.join(keys)}: leave it out"
            )
        if self.kind == "knn" and self.distance == "cosine" and self.norm == "l2":
            raise ParamsError("norm l2 has no effect on the cosine: leave it out, or set distance: euclidean")

    def to_dict(self) -> dict[str, Any]:
        """The fields as bundle.json stores them. Mark a new field with LATER: see `stored_settings`."""
        return stored_settings(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Head:
        """The head of a bundle.json; TypeError when it has a field that no head has."""
        return cls(**with_tuples(stored))


# Any of these has always been allowed.
_FIRST = ("kind", "hidden", "dropout", "depth", "heads", "width", "drop_path", "norm")
_KEYS_OF = {
    **dict.fromkeys(("linear", "mlp", "transformer"), _FIRST),
    "attentive": ("kind", "dropout", "heads", "width", "norm"),
    "probe": ("kind", "norm", "sweep", "c_range"),
    "knn": ("kind", "norm", "neighbours", "distance", "temperature"),
}


@dataclass(frozen=True)
class Recipe:
    """An entry of `recipes` in params.yaml. bundle.json stores the fields in this order, later ones only where set."""

    name: str
    """The name of the entry."""

    backbone: str
    """The backbone whose features it trains on."""

    head: Head = Head()
    """The new layers on top of the network's body."""

    folds: Literal["all"] | Positive = "all"
    """How many folds are trained: `all`, or the first so many."""

    views: Literal["sample", "all"] = "sample"
    """`sample`: an epoch draws one view of every image; `all`: it takes every view. Heads probe and knn take the clean
    view, or all views."""

    epochs: Positive = 10
    """The number of epochs."""

    patience: Positive | None = None
    """Training stops after so many epochs without a better validation AUC; `null`: never."""

    batch_size: Positive = 64
    """The number of samples in a batch."""

    optimizer: Optimizer = Optimizer()
    """How weights follow gradients."""

    lr: PositiveFloat = 1e-4
    """The learning rate."""

    schedule: Schedule = Schedule()
    """How the learning rate changes over the epochs."""

    l1: NonNegativeFloat = 0.0
    """The weight in the loss of the sum of the absolute values of all parameters that train."""

    label_smoothing: FractionBelow1 = 0.0
    """How far labels are moved towards one half."""

    class_weights: Literal["balanced"] | tuple[PositiveFloat, PositiveFloat] | None = None
    """The weights of the classes in the loss, [real, fake]; `balanced`: each class weighs as much as the other."""

    clip_grad: PositiveFloat | None = None
    """The largest norm of a step's gradient."""

    ema: Annotated[float, Gt(0.0), Lt(1.0)] | None = None
    """The decay per step of the weights' moving average, which is then validated and kept."""

    mix: Mix = Mix()
    """Blends of two images of a batch."""

    augment: Annotated[tuple[str | dict[str, Any], ...], Rule(resolve_augment)] = ()
    """What is done to each batch, on its device: `hflip`, `vflip`, and for images (`cut: input`) `jitter`, `crop`,
    `jpeg`, `blur`, `noise`; or, on the CPU, `brightness`, `contrast`, `gamma`, `tint`, `screenshot`, `webp`,
    `double_jpeg`, `sharpen`, `downscale`, `shift`, `mix`; each with options and a probability `p`: see
    [multi-ffdi.md](multi-ffdi.md)."""

    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """The precision of the forward pass in training; `tf32`, on CUDA alone, is of the backward pass too."""

    seed: NonNegative = 0
    """The seed, with the fold, of everything random in training."""

    trainable: Annotated[Trainable, Rule(_check_trainable), LATER] = "all"
    """What trains beside the head: `all`; nothing (`head`); all `norms`; `{last: N}`, the last N blocks; or a list of
    patterns of the network's names, such as `blocks.11` or `*.bias`: see [training.md](training.md)."""

    lr_decay: Annotated[FractionAbove0, LATER] = 1.0
    """The factor of the learning rate from each block to the one before it; the head has the full rate."""

    loss: Annotated[ExtraLosses, LATER] = ExtraLosses()
    """Losses beside the cross-entropy."""

    pairing: Annotated[Literal["none", "group"], LATER] = "none"
    """`group`: real and fake images of one group stand in one batch, two and two; what has no partner trains, too."""

    threshold: Annotated[ThresholdRule, LATER] = ThresholdRule()
    """How the threshold is chosen on out-of-fold scores."""

    abstain: Annotated[Abstain | None, LATER] = None
    """`{error: 0.05}`: between two thresholds the verdict is `undecided`, so that at most so many of the others are wrong;
    `null`: every image gets a verdict."""

    tta: Annotated[tuple[str, ...], LATER, Rule(_check_tta)] = ()
    """Test-time augmentation: levels, such as `hflip` or `crop-0.9`, at which every image is seen beside its clean view;
    a tail's logit is the mean over all: see [training.md](training.md)."""

    calibration: Annotated[Literal["folds", "pair", "nested"], LATER] = "folds"
    """How temperature and threshold are fitted for the mean of all tails: `folds`, on the out-of-fold scores of one tail
    each; `pair`, with one tail more, which says how alike two tails are; `nested`, with a tail more for each two folds:
    see [training.md](training.md)."""

    refit: Annotated[bool, LATER] = False
    """Whether one tail more is trained on all training images, for the median best epoch of the folds; it alone scores
    images then: see [training.md](training.md)."""

    @property
    def policy(self) -> PolicySettings:
        """How a score becomes a verdict."""
        return PolicySettings(self.threshold, self.abstain)

    @property
    def rounds(self) -> int:
        """The most epochs of one fold; of a head that is fitted at once: the values of C that it tries, or one."""
        return self.epochs if not self.head.is_fitted else self.head.sweep if self.head.kind == "probe" else 1

    def check_written(self, written: Collection[str]) -> None:
        """Raise ParamsError for a key that the file has and that has no effect beside the head or other keys."""
        keys = ["backbone", "head", "folds", "views", "class_weights", "threshold", "abstain", "tta", "calibration"]
        keys += ["refit"] + ["seed"] * (self.head.kind == "probe")
        if self.head.is_fitted and (idle := sorted(set(written) - set(keys))):
            raise ParamsError(
                f"{idle[0]} has no effect on head {self.head.kind}, which is fitted at once: leave it out (it reads "
                f"{', '.join(keys)})"
            )
        for line in self._without_effect():
            raise ParamsError(line)

    def _without_effect(self) -> Iterator[str]:
        """A line for each setting of the training that changes nothing beside the others."""
        fixed = ""  # why all that the head reads stays as it is
        if not self.head.follows_body:
            fixed = f"has no effect on head {self.head.kind}, which reads the features themselves"
        elif self.trainable == "head":
            fixed = "has no effect with `trainable: head`: nothing before the head trains"
        if self.calibration != "folds" and self.folds == 1:
            yield "calibration: has no effect with `folds: 1`, whose one tail is the mean: leave it out, or write folds"
        if self.refit and self.calibration != "folds":
            yield "calibration: is for the mean of the folds' tails, and `refit` scores with one: leave one of them out"
        if self.optimizer.decayed == "weights" and not self.optimizer.weight_decay:
            yield "optimizer.decayed: has no effect without optimizer.weight_decay"
        if fixed and self.trainable not in ("all", "head"):
            yield f"trainable: {fixed}"
        if fixed and self.lr_decay != 1:
            yield f"lr_decay: {fixed}"
        if fixed and self.loss.wanted:
            yield f"loss: {fixed}"
        if self.loss.wanted and self.batch_size == 1:
            yield "loss: compares the images of a batch, and batch_size is 1"
        if self.loss.alignment and (self.mix.mixup or self.mix.cutmix):
            yield "loss.alignment: compares images of one class, and `mix` blends classes: leave one of them out"
        if self.pairing == "group" and self.batch_size % 2:
            yield f"pairing: a batch_size of {self.batch_size} would part couples: make it even"

    def to_dict(self) -> dict[str, Any]:
        """The fields as bundle.json stores them. Mark a new field, here or below, with LATER: see `stored_settings`."""
        return stored_settings(self)
