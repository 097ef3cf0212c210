"""The schema of params.yaml: one field per section. Each section is declared in the wing that uses it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ffdi.bounds import NonNegative
from ffdi.demo.settings import DemoSettings
from ffdi.errors import ParamsError
from ffdi.evaluation.headline import RESERVED_NAMES
from ffdi.evaluation.settings import EvaluateSettings, LadderSettings, ProtocolSettings
from ffdi.faces.settings import FacesSettings
from ffdi.features.backbone import Backbone
from ffdi.features.settings import ExtractSettings
from ffdi.intake.settings import AuditSettings, DataSettings, SplitSettings
from ffdi.tails.ensemble_settings import EnsembleSettings
from ffdi.tails.recipe import Recipe
from ffdi.tails.settings import TrainSettings

if TYPE_CHECKING:
    from ffdi.bootstrap import Bootstrap


@dataclass(frozen=True, kw_only=True)
class Params:
    """The whole of params.yaml."""

    seed: NonNegative = 0
    """The seed of the bootstrap intervals."""

    demo: DemoSettings = field(default_factory=DemoSettings)
    """The synthetic data set."""

    faces: dict[str, FacesSettings] = field(default_factory=dict)
    """Sets of raw photos and videos, each with a name, whose faces are cropped to `data/faces/NAME`; the keys of `data`
    without `synthesise` and `tables`, and how to crop: see [faces.md](faces.md)."""

    data: DataSettings
    """The data set: see [data.md](data.md)."""

    split: SplitSettings = field(default_factory=SplitSettings)
    """How images are divided into a test set and folds: see [data.md](data.md)."""

    audit: AuditSettings = field(default_factory=AuditSettings)
    """What the audit searches for: see [audit.md](audit.md)."""

    backbones: dict[str, Backbone]
    """The frozen networks, each with a name: see [features.md](features.md)."""

    recipes: dict[str, Recipe]
    """The ways to train a tail, each with a name: see [training.md](training.md)."""

    ensembles: dict[str, EnsembleSettings] = field(default_factory=dict)
    """Recipes whose scores are joined, each ensemble with a name that no recipe has: see [training.md](training.md)."""

    train: TrainSettings = field(default_factory=TrainSettings)
    """Where tails are trained, the same for every recipe."""

    extract: ExtractSettings = field(default_factory=ExtractSettings)
    """How features are computed and stored."""

    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    """How recipes are evaluated: see [evaluation.md](evaluation.md)."""

    protocol: dict[str, ProtocolSettings] = field(default_factory=dict)
    """The recipes for which the folds of `split.method` are compared with random ones: see
    [evaluation.md](evaluation.md)."""

    ladder: LadderSettings = field(default_factory=LadderSettings)
    """The leak ladder: see [training.md](training.md)."""

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are drawn: `evaluate.bootstrap` resamples, from `seed`."""
        from ffdi.bootstrap import Bootstrap

        return Bootstrap(self.evaluate.bootstrap, self.seed)

    def face_set(self, name: str) -> FacesSettings:
        """The set `name` of section `faces`; ParamsError lists the valid names."""
        settings: FacesSettings = _pick("faces", name, self.faces)
        return settings

    def backbone(self, name: str) -> Backbone:
        """The backbone `name`; ParamsError lists the valid names, or says what is wrong with its view policy."""
        backbone: Backbone = _pick("backbone", name, self.backbones)
        _ = backbone.views.operations  # an unknown operation is an error before anything is computed
        return backbone

    def recipe(self, name: str) -> Recipe:
        """The recipe `name`; ParamsError lists the valid names."""
        recipe: Recipe = _pick("recipe", name, self.recipes)
        return recipe

    def ensemble(self, name: str) -> EnsembleSettings:
        """The ensemble `name`; ParamsError lists the valid names."""
        ensemble: EnsembleSettings = _pick("ensemble", name, self.ensembles)
        return ensemble

    def check_names(self) -> None:
        """Raise ParamsError for a name that is not allowed, or that refers to nothing."""
        for kind, names in (
            ("faces", self.faces),
            ("backbone", self.backbones),
            ("recipe", self.recipes),
            ("ensemble", self.ensembles),
            ("evaluate.cross", self.evaluate.cross),
        ):
            for name in names:
                if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                    raise ParamsError(f"{kind} {name!r}: a name has letters, digits, _ and - only")
        for name in (*self.recipes, *self.ensembles):
            if name in RESERVED_NAMES:
                kind = "recipe" if name in self.recipes else "ensemble"
                raise ParamsError(f"{kind} {name!r}: {', '.join(RESERVED_NAMES)} are no {kind} names: take another")
        for place, name, known in self._references():
            if name not in known:
                raise ParamsError(f"{place}: {name!r} is not one of {', '.join(known) or 'none'}")
        for name, ensemble in self.ensembles.items():
            if name in self.recipes:
                raise ParamsError(
                    f"ensemble {name!r}: is the name of a recipe, too: both would write metrics/{name}.json: "
                    "take another"
                )
            single = next((recipe for recipe in ensemble.recipes if self.recipes[recipe].folds == 1), None)
            if ensemble.weights == "fitted" and single:
                reason = f"fitted needs two folds or more, and recipe {single} trains one"
                raise ParamsError(f"ensembles.{name}.weights: {reason}: set weights: equal")
        for backbone in self.backbones.values():
            backbone.check()
        self._check_protocol()
        ladder = self.ladder
        if (head := self.recipes[ladder.recipe].head).is_fitted:
            raise ParamsError(
                f"ladder.recipe: {ladder.recipe} has head {head.kind}, which is fitted at once, and the ladder's mistakes "
                "need epochs: name a recipe with another head"
            )
        if ladder.backbone != (needed := self.recipes[ladder.recipe].backbone):
            raise ParamsError(
                f"ladder.backbone: is {ladder.backbone!r}, recipe {ladder.recipe} has {needed!r}: set it to that"
            )

    def _check_protocol(self) -> None:
        for name, protocol in self.protocol.items():
            if self.split.method in ("stratified", "hash"):
                raise ParamsError(
                    f"protocol.{name} has no effect with split.method {self.split.method}, whose folds are random: leave it "
                    "out, or choose leave_one_out or clustered"
                )
            if protocol.backbone != (needed := self.recipes[name].backbone):
                other = f"is {protocol.backbone!r}, recipe {name} has {needed!r}"
                raise ParamsError(f"protocol.{name}.backbone: {other}: set it to that")

    def _references(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(place, name, the entries that it may name) of every name that refers to an entry."""
        return [
            *((f"recipes.{name}.backbone", recipe.backbone, self.backbones) for name, recipe in self.recipes.items()),
            ("split.embedding", self.split.embedding, self.backbones),
            ("ladder.recipe", self.ladder.recipe, self.recipes),
            *(("protocol", name, self.recipes) for name in self.protocol),
            *(
                (f"ensembles.{key}.recipes", name, self.recipes)
                for key, ensemble in self.ensembles.items()
                for name in ensemble.recipes
            ),
            *(
                ("evaluate.robustness.recipes", name, self.recipes | self.ensembles)
                for name in self.evaluate.robustness.recipes
            ),
            *(
                (f"evaluate.cross.{key}.recipes", name, self.recipes)
                for key, data in self.evaluate.cross.items()
                for name in data.recipes
            ),
        ]


def _pick(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise ParamsError(f"{kind} {name!r} is not in params: choose one of {', '.join(known) or 'none'}")
    return known[name]
