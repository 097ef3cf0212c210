"""Bundles whose scores are joined, and the reading of any model.

model = load_model(Path("data/ensembles/both"))     # or of a recipe: data/models/NAME
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ffdi.errors import BundleError, one_line
from ffdi.metrics import Metrics
from ffdi.tails.bundle import Bundle, load_bundle, sigmoid
from ffdi.tails.bundle_tables import read_seen
from ffdi.tails.checkpoint import Scores
from ffdi.tails.model import Model, ModelScores
from ffdi.tails.policy import Policy
from ffdi.tails.record import is_ensemble, read_record, refuse_changed, refuse_changed_files
from ffdi.tails.stacking import Stack, logit


@dataclass(frozen=True)
class Ensemble:
    """Recipes whose scores are joined: the score is sigmoid(joint logit / temperature), the joint logit that of `stack` on
    the logits of the members' scores.

    `members` are by recipe, in the order of the stack's weights. The other fields are as a bundle's.
    """

    members: Mapping[str, Bundle]
    stack: Stack
    policy: Policy
    temperature: float
    prior: float
    seen: pd.DataFrame
    record: Mapping[str, Any]

    @property
    def parts(self) -> tuple[Bundle, ...]:
        """The members' bundles."""
        return tuple(self.members.values())

    @property
    def threshold(self) -> float:
        """The score from which on an image counts as fake in every figure that knows two verdicts."""
        return self.policy.threshold

    @property
    def description(self) -> Metrics:
        """The members with their weights, and their networks and cuts, each once."""
        backbones = [part.backbone for part in self.parts]
        return {
            "network": joined_names(backbone.network for backbone in backbones),
            "cut": joined_names(backbone.cut_name for backbone in backbones),
            "members": ", ".join(self.members),
            "stacking": str(self.record["stacking"]),
            **{f"weight_{name}": weight for name, weight in zip(self.members, self.stack.weights, strict=True)},
            "stack_bias": self.stack.bias,
        }

    def joined(self, by_part: Sequence[Mapping[int, Scores]]) -> ModelScores:
        """The joint score of the members' scores, and that of the tails of each fold that all have."""
        parts = [ModelScores.of_folds(of_part) for of_part in by_part]
        common = [fold for fold in parts[0].by_fold if all(fold in part.by_fold for part in parts)]
        by_fold = {fold: self._score([part.by_fold[fold] for part in parts]) for fold in common}
        return ModelScores(self._score([part.mean for part in parts]), by_fold)

    def _score(self, of_members: Sequence[Scores]) -> Scores:
        logits = np.stack([logit(scores) for scores in of_members], axis=1)
        return sigmoid(self.stack.of(logits) / self.temperature)


def joined_names(names: Any) -> str:
    """Names, each once, on one line."""
    return " + ".join(dict.fromkeys(str(name) for name in names))


def load_model(folder: Path) -> Model:
    """Read the bundle of a recipe or of an ensemble; BundleError when a file or a member is missing, changed, or of another
    format."""
    record = read_record(folder)
    if not is_ensemble(record):
        return load_bundle(folder)
    refuse_changed(folder, record)
    try:
        return _ensemble_of(folder, record)
    except (KeyError, TypeError, AttributeError) as error:
        reason = one_line(error)[:200]
        raise BundleError(f"{folder / 'bundle.json'}: does not fit its files ({reason}): run fuse again") from error


def _ensemble_of(folder: Path, record: Mapping[str, Any]) -> Ensemble:
    refuse_changed_files(folder, record)
    members = {name: _member(folder, record, name) for name in record["members"]}
    return Ensemble(
        members,
        Stack(tuple(record["members"][name]["weight"] for name in members), record["bias"]),
        Policy.of_record(record),
        record["temperature"],
        record["prior"],
        read_seen(folder, record),
        record,
    )


def _member(folder: Path, record: Mapping[str, Any], name: str) -> Bundle:
    """The bundle of a member, which must be the one that the weights were chosen for."""
    entry = record["members"][name]
    place = folder / entry["path"]
    if not (place / "bundle.json").exists():
        raise BundleError(f"{folder}: its member {name} is not at {place}: bring it there, or fuse with --standalone")
    bundle = load_bundle(place)
    if bundle.record["facts_sha256"] != entry["facts_sha256"]:
        again = f"run fuse@{record['recipe']['name']} again"
        raise BundleError(f"{folder}: its member {name} ({place}) is another one than was fused: {again}")
    return bundle
