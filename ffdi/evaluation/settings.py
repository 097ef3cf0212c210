"""The settings of the evaluation: sections `evaluate` and `ladder` of params.yaml. Loads no torch."""

from __future__ import annotations

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
class EvaluateSettings:
    """How recipes are evaluated."""

    bootstrap: Annotated[int, Ge(100)] = 2000
    """The number of resamples of the 95 % intervals."""

    attributes: tuple[str, ...] | None = None
    """The attributes by which the test set is split, each of them whole; `[]`: by none; by default by every one of at
    most 12 values."""

    robustness: Robustness = Robustness()
    """The sweep over perturbed test images; `[]` is no sweep: see [evaluation.md](evaluation.md)."""

    cross: dict[str, OtherDataSettings] = field(default_factory=dict)
    """Other data sets to evaluate recipes on, each with a name, the keys of `data` without `synthesise`, and `recipes`."""


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
