"""Trained recipes -> an ensemble: its weights, temperature and threshold come from their out-of-fold scores alone.

fused = fuse_recipes(settings, Path("data/models"), rows)
fused.save(Path("data/ensembles/both"))
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ffdi.bootstrap import Array, Bootstrap
from ffdi.errors import InputError, placed
from ffdi.features.stored_settings import stored_settings
from ffdi.files import refuse_other_folder, replacing_folder, sha256_file, write_json
from ffdi.intake.table_files.names import CSV
from ffdi.intake.tables import write_table
from ffdi.metrics import auc, fit_temperature
from ffdi.tails.bundle import Bundle, load_bundle, sigmoid
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.checkpoint import Scores
from ffdi.tails.ensemble import joined_names
from ffdi.tails.ensemble_settings import EnsembleSettings
from ffdi.tails.policy import Policy, fit_policy, named_policy
from ffdi.tails.record import ENSEMBLE_VERSION, KIND, files_there, is_ensemble, record_hash
from ffdi.tails.stacking import NestedStack, logit, nested_stack
from ffdi.tails.trained_recipe import RESAMPLES


@dataclass(frozen=True)
class FusedRecipes:
    """An ensemble that is not written yet. `members` are by recipe; `oof` is oof.csv: image_id, fold, label, logit (by
    weights that saw no image of the fold) and score (the calibrated P(fake))."""

    settings: EnsembleSettings
    models: Path
    members: Mapping[str, Bundle]
    nested: NestedStack
    oof: pd.DataFrame
    policy: Policy
    temperature: float

    @property
    def summary(self) -> str:
        """One line on what was fused."""
        pairs = zip(self.members, self.nested.final.weights, strict=True)
        weights = ", ".join(f"{name} {weight:.3f}" for name, weight in pairs)
        line = f"{self.settings.weights} weights: {weights}; threshold {self.policy.threshold:.3f}"
        return f"{line}, temperature {self.temperature:.2f}"

    def save(self, folder: Path, *, standalone: bool = False, tables: str = CSV) -> None:
        """Write the bundle in place of the folder, its tables with the ending `tables`. The members stay where they are, or
        are copied whole into it.

        Raises InputError when the folder has anything else than an ensemble, which would be deleted.
        """
        refuse_other_folder(folder, "bundle.json", is_ensemble, "ensemble")
        seen = pd.concat([member.seen for member in self.members.values()]).drop_duplicates("image_id")
        with replacing_folder(folder) as temporary:
            written = {f"oof{tables}": self.oof, f"seen{tables}": seen.sort_values("image_id")}
            for name, table in written.items():
                write_table(temporary / name, table)
            if standalone:
                for name, member in self.members.items():
                    copy_bundle(self.models / name, member, temporary / "members" / name)
            places = {
                name: f"members/{name}" if standalone else os.path.relpath(self.models / name, folder)
                for name in self.members
            }
            record = self._record(places)
            record |= {"sha256": {name: sha256_file(temporary / name) for name in written}}
            write_json(temporary / "bundle.json", record | {"facts_sha256": record_hash(record)})

    def _record(self, places: Mapping[str, str]) -> dict[str, Any]:
        """The entries of bundle.json, in their order, up to the hashes."""
        members = {
            name: {"path": places[name], "facts_sha256": member.record["facts_sha256"], "weight": weight}
            for (name, member), weight in zip(self.members.items(), self.nested.final.weights, strict=True)
        }
        by_fold = self.nested.by_fold.items()
        return {
            "kind": KIND,
            "format_version": ENSEMBLE_VERSION,
            "recipe": stored_settings(self.settings),
            "members": members,
            "stacking": self.settings.weights,
            "bias": self.nested.final.bias,
            "fold_weights": {str(fold): [*stack.weights, stack.bias] for fold, stack in by_fold},
            "provenance": self._provenance(),
            **self.policy.record,
            "temperature": self.temperature,
            "prior": float(np.mean([member.prior for member in self.members.values()])),
            "val_auc": {
                str(fold): auc(rows["label"].to_numpy(), rows["logit"].to_numpy())
                for fold, rows in self.oof.groupby("fold")
            },
        }

    def _provenance(self) -> dict[str, Any]:
        """As a recipe's; pretrained when every member is."""
        of_members = [member.record["provenance"] for member in self.members.values()]
        names, crops = ("data", "weights", "weights_sha256"), [entry.get("crops") for entry in of_members]
        return {
            **{key: joined_names(entry[key] for entry in of_members) for key in names},
            "pretrained": all(entry["pretrained"] for entry in of_members),
            "synthesised": max(entry["synthesised"] for entry in of_members),
            **({"crops": crops[0]} if crops[0] and all(one == crops[0] for one in crops) else {}),
        }


def copy_bundle(place: Path, bundle: Bundle, out: Path) -> None:
    """Copy the files of a bundle that lies at `place`, and no other."""
    out.mkdir(parents=True)
    for name in (*files_there(place, bundle.record), "bundle.json"):
        shutil.copyfile(place / name, out / name)


def fuse_recipes(settings: EnsembleSettings, models: Path, rows: pd.DataFrame) -> FusedRecipes:
    """Join the recipes that `settings` names, whose bundles lie in `models`.

    `rows` is images.csv joined with folds.csv; test images play no part. Raises InputError when the recipes were not
    trained on these folds, or not on the same, or when one was recalibrated.
    """
    members = {name: load_bundle(models / name) for name in settings.recipes}
    with placed(f"ensembles.{settings.name}"):
        for name, member in members.items():
            if "recalibrated" in member.record:
                raise InputError(f"{name} was recalibrated, and its out-of-fold scores were not: name its parent")
        known, scores_of = _common_scores({name: read_oof(models / name) for name in members}, rows)
        labels, folds = known["label"].to_numpy(), known["fold"].to_numpy()
        logits = np.stack([logit(scores) for scores in scores_of], axis=1)
        nested = nested_stack(labels, logits, folds, settings.weights)
        means = _like_means(labels, logits, nested, list(members.values()))
        temperature = fit_temperature(labels, means)
    with named_policy(f"ensembles.{settings.name}"):
        groups = known["group"].to_numpy(str)
        policy = fit_policy(labels, sigmoid(means / temperature), groups, settings.policy, Bootstrap(RESAMPLES))
    scores = sigmoid(nested.logits / temperature)
    oof = known[["image_id", "fold", "label"]].assign(logit=nested.logits, score=scores)
    return FusedRecipes(settings, models, members, nested, oof, policy, temperature)


def _like_means(labels: Array, logits: Array, nested: NestedStack, members: Sequence[Bundle]) -> Array:
    """(N,) joined logits as spread as those of new images, whose members are means over tails, where these were calibrated
    for that by `calibration: pair`: within a class they move towards its mean.

    A mean over tails evens out what the tails of one member have alone: 1 - contraction^2 of its variance (N, M `logits`).
    What members share stays; the joint logit is evened out no more than a member alone. They are made with the labels' help, so they are for the temperature and the threshold alone.
    """
    factors = np.array([member.record.get("calibration", {}).get("contraction", 1.0) for member in members])
    out = nested.logits.copy()
    for label in np.unique(labels) if (factors != 1).any() else ():
        here = labels == label
        evened = (np.square(nested.final.weights) * (1 - factors**2) * logits[here].var(axis=0)).sum()
        spread = nested.logits[here].var()
        share = np.sqrt(max(factors.min() ** 2, 1 - evened / spread)) if spread > 0 else 1.0
        mean = nested.logits[here].mean()
        out[here] = mean + share * (nested.logits[here] - mean)
    return out


def _common_scores(oof: Mapping[str, pd.DataFrame], rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Scores]]:
    """image_id, fold, label and group of the N images of the folds that every recipe trained, sorted by image_id, and
    (N,) the scores of each recipe."""
    first = next(iter(oof))
    folds = set.intersection(*(set(table["fold"]) for table in oof.values()))
    train = rows[rows["role"] == "train"].set_index("image_id")
    known, scores = pd.DataFrame(), []
    for name, table in oof.items():
        here = table[table["fold"].isin(folds)].set_index("image_id").sort_index()
        if not here.index.isin(train.index).all():
            raise InputError(f"{name} was validated on images that folds.csv does not train on: run train@{name} again")
        now = train.loc[here.index]
        if (now["fold"].astype(int) != here["fold"]).any() or (now["label"] != here["label"]).any():
            raise InputError(
                f"{name} was trained on other folds or labels than those of folds.csv: run train@{name} again"
            )
        if known.empty:
            known = here[["fold", "label"]].assign(group=now["group"])
        elif not known.index.equals(here.index):
            raise InputError(f"{first} and {name} were validated on other images: run train on both again")
        scores.append(here["score"].to_numpy())
    return known.reset_index(), scores
