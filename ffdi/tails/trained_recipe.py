"""What the training of a recipe gives, and how it is written as a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from torch import Tensor, nn

from ffdi.bootstrap import Bootstrap
from ffdi.features.backbone import Backbone
from ffdi.features.extractor import frozen_prefix
from ffdi.features.feature_spec import FeatureSpec
from ffdi.files import replacing, sha256_file, write_json
from ffdi.intake.table_files.names import CSV
from ffdi.intake.tables import write_table
from ffdi.metrics import auc
from ffdi.tails.bundle import sigmoid
from ffdi.tails.calibration import Calibration, Kind, Logits, calibrate
from ffdi.tails.checkpoint import Fit
from ffdi.tails.folds import FoldedTable
from ffdi.tails.policy import Policy, fit_policy
from ffdi.tails.policy_settings import PolicySettings
from ffdi.tails.recipe import Recipe
from ffdi.tails.record import FORMAT_VERSION, record_hash
from ffdi.tails.refit import Refit
from ffdi.tails.unlike import TrainingIndex

RESAMPLES = 2000  # of the groups, for the intervals of a policy


@dataclass(frozen=True)
class OutOfFold:
    """Every validated image, scored by the tail that did not train on it, and what is calibrated on these scores alone.

    `scores` is oof.csv: image_id, fold, label, logit of the one tail, score (the calibrated P(fake): of that tail, or with
    `calibration: nested` the mean of the K - 1 tails more).
    """

    scores: pd.DataFrame
    policy: Policy
    calibration: Calibration

    @classmethod
    def of(
        cls,
        fits: Mapping[int, Fit],
        images: FoldedTable,
        settings: PolicySettings = PolicySettings(),
        bootstrap: Bootstrap = Bootstrap(RESAMPLES),
        kind: Kind = "folds",
        pairs: Logits = MappingProxyType({}),
    ) -> OutOfFold:
        """The validation logits of all fits, joined and calibrated as the recipe's `calibration` says."""
        parts = []
        for fold, fitted in fits.items():
            table = images.split(fold).validation
            columns = {"image_id": table.image_ids, "fold": fold, "label": table.labels, "logit": fitted.logits}
            parts.append(pd.DataFrame(columns))
        scores = pd.concat(parts).sort_values("image_id", kind="stable").reset_index(drop=True)
        calibration = calibrate(kind, scores, pairs)
        alone = sigmoid(scores["logit"].to_numpy() / calibration.temperature)
        scores["score"] = calibration.scores if kind == "nested" and pairs else alone
        groups = images.groups_of(scores["image_id"])
        policy = fit_policy(scores["label"].to_numpy(), calibration.scores, groups, settings, bootstrap)
        return cls(scores, policy, calibration)

    @property
    def temperature(self) -> float:
        """What every tail's logit is divided by."""
        return self.calibration.temperature

    def auc_of_fold(self, fold: int) -> float:
        """The validation AUC of one fold's tail."""
        rows = self.scores[self.scores["fold"] == fold]
        return auc(rows["label"].to_numpy(), rows["logit"].to_numpy())


@dataclass(frozen=True)
class TrainedRecipe:
    """A recipe with its trained tails.

    `network` has the backbone's weights and no classifier, and `spec` describes the features that the tails were trained
    on. `seen` has image_id and phash of every image of the training, synthesised fakes excepted; `prior` is the share of
    fakes among them. `provenance` goes into every metrics file. `frozen` has the tensors that no fold changed, by their
    names in every tail's state. `index` tells what is unlike the training; None when nothing could be told. `refit` is the
    tail that scores in the place of the folds', if there is one. `tables` is the ending of the tables of the bundle.
    """

    recipe: Recipe
    backbone: Backbone
    spec: FeatureSpec
    network: nn.Module
    fits: Mapping[int, Fit]
    out_of_fold: OutOfFold
    seen: pd.DataFrame
    prior: float
    provenance: Mapping[str, Any]
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    index: TrainingIndex | None = None
    refit: Refit | None = None
    tables: str = CSV

    @property
    def summary(self) -> str:
        """One line on what was trained."""
        scores = self.out_of_fold
        line = f"{len(self.fits)} folds, threshold {scores.policy.threshold:.3f}, temperature {scores.temperature:.2f}"
        if self.refit:
            facts = self.refit.facts
            line += f"; refit on {facts['images']} images" + (
                f", {facts['epochs']} epochs" if "epochs" in facts else ""
            )
        if not self.frozen:
            return line
        own = sum(value.numel() for value in next(iter(self.fits.values())).state.values())
        whole = own + sum(value.numel() for value in self.frozen.values())
        return f"{line}; {own:,} of the {whole:,} values of a tail were trained"

    def save(self, folder: Path) -> None:
        """Write the bundle, bundle.json last. Everything else in the folder is deleted: checkpoints, old files."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        states = self._states()
        for name, state in states.items():
            with replacing(folder / f"{name}.safetensors") as temporary:
                save_file({k: v.contiguous() for k, v in state.items()}, temporary)
        tables = {f"oof{self.tables}": self.out_of_fold.scores, f"seen{self.tables}": self.seen}
        for name, table in tables.items():
            write_table(folder / name, table)
        files = [*(f"{name}.safetensors" for name in states), *tables]
        for old in folder.iterdir():
            if old.name not in (*files, "bundle.json"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        record = self._record() | {"sha256": {name: sha256_file(folder / name) for name in sorted(files)}}
        write_json(folder / "bundle.json", record | {"facts_sha256": record_hash(record)})

    def _states(self) -> dict[str, Mapping[str, Tensor]]:
        """The tensors of each safetensors file, by the file's stem."""
        states: dict[str, Mapping[str, Tensor]] = {f"fold-{fold}": fitted.state for fold, fitted in self.fits.items()}
        if self.refit:
            states["refit"] = self.refit.state
        if self.frozen:
            states["body"] = self.frozen
        if self.index:
            states["index"] = self.index.tensors
        if self.backbone.has_prefix:
            states["prefix"] = frozen_prefix(self.network, self.backbone).state_dict()
        return states

    def _record(self) -> dict[str, Any]:
        """The entries of bundle.json, in their order, up to the hashes."""
        kept = self.spec.cut_grid if self.spec.keep != "all" else None  # what it takes to keep the same of other images
        choices = {str(fold): dict(fitted.choice) for fold, fitted in self.fits.items() if fitted.choice}
        return {
            "format_version": FORMAT_VERSION,
            "recipe": self.recipe.to_dict(),
            "head": self.recipe.head.to_dict(),
            "backbone": self.backbone.to_dict(),
            "shape": list(self.spec.shape),
            **({"cut_grid": asdict(kept)} if kept else {}),
            "fingerprint": self.spec.fingerprint,
            "provenance": dict(self.provenance),
            **self.out_of_fold.policy.record,
            "temperature": self.out_of_fold.temperature,
            **({"calibration": dict(calibrated)} if (calibrated := self.out_of_fold.calibration.facts) else {}),
            "prior": self.prior,
            "val_auc": {str(fold): self.out_of_fold.auc_of_fold(fold) for fold in self.fits},
            "best_epoch": {str(fold): fitted.best_epoch for fold, fitted in self.fits.items()},
            **({"choice": choices} if choices else {}),
            **({"unlike": self.index.facts} if self.index else {}),
            **({"refit": dict(self.refit.facts)} if self.refit else {}),
        }
