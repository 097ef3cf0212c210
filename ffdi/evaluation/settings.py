"""The settings of the evaluation: sections `evaluate` and `ladder` of params.yaml. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from ffdi.bounds import Positive, Rule
from ffdi.errors import ParamsError
from ffdi.features.levels import parse_level
from ffdi.intake.settings import DataSettings, check_root


def _parse_levels(levels: tuple[str | dict[str, Any], ...]) -> None:
    names = [parse_level(level).name for level in levels]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ParamsError(f"level {twice[0]} stands here twice")


@dataclass(frozen=True)
class Robustness:
    """The sweep over perturbed test images."""

    recipes: tuple[str, ...] = ()
    """The recipes and ensembles that are evaluated at each level."""

    levels: Annotated[tuple[str | dict[str, Any], ...], Rule(_parse_levels)] = ()
    """Perturbations with their strengths: `mix-3`, `jpeg-50`, `webp-50`, `double_jpeg-50`, `resize-0.5`,
    `screenshot-0.75`, `crop-0.75`, `blur-2`, `sharpen-2`, `noise-10`, `brightness-0.75`, `contrast-0.5`, `gamma-2`,
    `tint-20`, `shift-2`, `hflip`. What is behind `@`, or `{level: blur-2, at: file}`, says where it acts: `blur-2@file`
    on the decoded original, `jpeg-50@square` on the square of the network."""

    def check_written(self, written: Collection[str]) -> None:
        """ParamsError when one of the two is named without the other: it would have no effect."""
        for key, other in (("recipes", "levels"), ("levels", "recipes")):
            if key in written and getattr(self, key) and other not in written:  # [] switches the sweep off
                raise ParamsError(f"{key} has no effect without {other}: name some, or leave it out")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the levels."""
        return tuple(parse_level(level).name for level in self.levels)

    def levels_of(self, recipe: str) -> tuple[str, ...]:
        """The names of the levels at which a recipe or an ensemble is evaluated."""
        return self.names if recipe in self.recipes else ()


@dataclass(frozen=True, kw_only=True)
class OtherDataSettings(DataSettings):
    """Another data set to evaluate recipes on. Nothing is trained there, so nothing is synthesised."""

    unread: ClassVar[tuple[str, ...]] = ("synthesise",)

    root: Annotated[str, Rule(check_root)]
    """The folder, archive or URL of this data set."""

    recipes: tuple[str, ...]
    """The recipes that are evaluated on this data set."""


@dataclass(frozen=True)
class UnitRule:
    """Images that are judged together: those of one value of an `attribute`. `score`: how their scores become one."""

    attribute: str
    score: str = "mean"

    @classmethod
    def named(cls, attribute: str, score: str) -> UnitRule:
        """That of an attribute as it is named, with `attr_` before it or not. ParamsError where a value is none."""
        _name_an_attribute(attribute)
        _parse_unit_score(score)
        return cls(attribute.removeprefix("attr_").strip(), score)

    @property
    def column(self) -> str:
        """The attribute's column of images.csv."""
        return f"attr_{self.attribute}"


@dataclass(frozen=True)
class JudgedBy:
    """What a test set is judged by beside single images: the `attributes` that split it, see by_attribute's `names`, and
    the `unit` whose images are judged together."""

    attributes: tuple[str, ...] | None = None
    unit: UnitRule | None = None


ALONE = JudgedBy()  # no unit, and every attribute of few values


def _name_an_attribute(name: str | None) -> None:
    if name is not None and not name.removeprefix("attr_").strip():
        raise ParamsError("names no attribute: name one of images.csv, such as video, or set null")


def _parse_unit_score(rule: str) -> None:
    """ParamsError for what is neither mean nor median, nor top-K."""
    if not re.fullmatch(r"mean|median|top-[1-9]\d{0,5}", rule):
        raise ParamsError("is none of mean, median and top-K, the mean of the K most fake, such as top-3")


@dataclass(frozen=True)
class EvaluateSettings:
    """How recipes are evaluated."""

    bootstrap: Annotated[int, Ge(100)] = 2000
    """The number of resamples of the 95 % intervals."""

    attributes: tuple[str, ...] | None = None
    """The attributes by which the test set is split, each of them whole; `[]`: by none; by default by every one of at
    most 12 values."""

    unit: Annotated[str | None, Rule(_name_an_attribute)] = None
    """The attribute whose images are judged together as well, such as `video`: see
    [evaluation.md](evaluation.md#per-video)."""

    unit_score: Annotated[str, Rule(_parse_unit_score)] = "mean"
    """How the scores of a unit's images become one: `mean`, `median`, or `top-3`, the mean of the 3 most fake."""

    robustness: Robustness = Robustness()
    """The sweep over perturbed test images; `[]` is no sweep: see [evaluation.md](evaluation.md)."""

    cross: dict[str, OtherDataSettings] = field(default_factory=dict)
    """Other data sets to evaluate recipes on, each with a name, the keys of `data` without `synthesise`, and `recipes`."""

    def check_written(self, written: Collection[str]) -> None:
        """ParamsError when `unit_score` is named without a `unit`: it would have no effect."""
        if "unit_score" in written and self.unit is None:
            raise ParamsError("unit_score has no effect without unit: name an attribute, or leave it out")

    @property
    def units(self) -> UnitRule | None:
        """Which images are judged together; None where each is judged alone."""
        return None if self.unit is None else UnitRule.named(self.unit, self.unit_score)

    @property
    def judged_by(self) -> JudgedBy:
        """What a recipe's own test set is judged by."""
        return JudgedBy(self.attributes, self.units)


@dataclass(frozen=True)
class ProtocolSettings:
    """A recipe that is trained on random folds too, to say how much harder those of `split.method` are."""

    backbone: str
    """The backbone of that recipe, which dvc.yaml cannot look up."""


@dataclass(frozen=True)
class LadderSettings:
    """The leak ladder: see [training.md](training.md)."""

    recipe: str = "efficientnet_lite0"
    """The recipe that is trained on every rung."""

    backbone: str = "efficientnet_lite0"
    """The backbone of that recipe, which dvc.yaml cannot look up."""

    folds: Annotated[int, Ge(2)] = 2
    """The number of folds of each rung."""

    epochs: Positive | None = None
    """The number of epochs of each rung; by default the recipe's."""

    seeds: Positive = 1
    """How many times each rung is trained, each time with a seed of its own; each figure is the mean over them."""
