"""Ensemble + the cached features of its members -> the same metrics and tables as of a recipe. Nothing is extracted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import BundleError
from ffdi.evaluation.cost import cost_of_parts
from ffdi.evaluation.evaluate import (
    Evaluation,
    EvaluationInputs,
    ScoredTestSet,
    judge,
    score_test_images,
    test_rows,
)
from ffdi.evaluation.settings import ALONE, JudgedBy
from ffdi.features.perturbed import PerturbationSweep
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.ensemble import Ensemble, load_model


@dataclass(frozen=True)
class EnsembleInputs:
    """An ensemble, its out-of-fold scores, and what each of its members is evaluated on."""

    ensemble: Ensemble
    oof: pd.DataFrame
    members: Sequence[EvaluationInputs]

    @classmethod
    def load(cls, model: Path, features: Path, images: pd.DataFrame, by: JudgedBy = ALONE) -> EnsembleInputs:
        """From the folder of an ensemble and that of all features, which has a folder for each backbone.

        BundleError when the model is a recipe.
        """
        ensemble = load_model(model)
        if not isinstance(ensemble, Ensemble):
            raise BundleError(f"{model}: is a recipe's bundle, and no ensemble: name a folder of data/ensembles")
        stores = {name: FeatureStore(features / name) for name in {part.backbone.name for part in ensemble.parts}}
        members = [EvaluationInputs(part, stores[part.backbone.name], images, by=by) for part in ensemble.parts]
        return cls(ensemble, read_oof(model), members)

    @property
    def tta(self) -> bool:
        """Whether a member sees images at other views than the clean one."""
        return any(part.tta for part in self.ensemble.parts)

    def with_perturbed(
        self,
        levels: Sequence[str],
        folder: Path,
        source: ImageSource,
        settings: ExtractSettings,
        console: Console = Console(),
    ) -> EnsembleInputs:
        """The same with the features of perturbed test images and of each member's `tta`, in a folder for each backbone in
        `folder`, computed where they are missing."""
        members = [
            inputs.with_perturbed(
                PerturbationSweep(levels, folder / inputs.bundle.backbone.name, source, settings), console
            )
            for inputs in self.members
        ]
        return replace(self, members=members)


def evaluate_ensemble(
    inputs: EnsembleInputs, *, bootstrap: Bootstrap, memory_gb: float, device: torch.device
) -> Evaluation:
    """Score the test images once, with the ensemble's frozen weights and threshold; raises as evaluate_recipe does."""
    images, by = inputs.members[0].images, inputs.members[0].by
    test = test_rows(images)
    parts = [score_test_images(member, test, memory_gb=memory_gb, device=device) for member in inputs.members]
    costs = cost_of_parts([(member.bundle, member.features.spec) for member in inputs.members])
    scored = ScoredTestSet(inputs.ensemble, parts, test, images, inputs.oof, by)
    return judge(scored, costs, bootstrap=bootstrap)
