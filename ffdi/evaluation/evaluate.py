"""Bundle + test shards -> metrics/details/NAME.json and the tables of its plots."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.console import Console
from ffdi.errors import FfdiError, InputError
from ffdi.evaluation import below_chance
from ffdi.evaluation.attributes import attribute_metrics, by_attribute
from ffdi.evaluation.cost import cost
from ffdi.evaluation.headline import of_recipe, one_line, write_metrics
from ffdi.evaluation.held_out import held_out_figures, held_out_line, validation_aucs
from ffdi.evaluation.policy_metrics import policy_metrics
from ffdi.evaluation.refit_figures import refit_facts, refit_figures, refit_line
from ffdi.evaluation.robust_figures import (
    AUC_COLUMNS,
    LEVEL_COLUMNS,
    operations_in_training,
    robust_aucs,
    robustness_metrics,
)
from ffdi.evaluation.robustness import perturbed_features
from ffdi.evaluation.score_tables import SCORES, score_tables
from ffdi.evaluation.settings import ALONE, JudgedBy
from ffdi.evaluation.unit_figures import unit_figures, unit_line, unit_validation
from ffdi.evaluation.unlike_figures import share, unlike_metrics
from ffdi.features.levels import parse_level, seen_in_training
from ffdi.features.perturbed import VIEW, PerturbationSweep, views_of
from ffdi.features.store import FeatureStore
from ffdi.intake.table_files.names import CSV, PARQUET
from ffdi.intake.tables import write_table
from ffdi.metrics import Metrics, auc, evaluate_scores, explain_nulls
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.bundle_tables import read_oof
from ffdi.tails.checkpoint import Scores
from ffdi.tails.model import Model, ModelScores
from ffdi.tails.unlike import farthest


@dataclass(frozen=True)
class EvaluationInputs:
    """What is evaluated, and on what.

    `images` is images.csv joined with folds.csv, `features` are those that the recipe was trained on. `perturbed` has the
    features of the test images by level of perturbation, and at the bundle's `tta` of each; `levels` are those that are
    judged. `oof` is the bundle's oof.csv, `by` what is judged beside single images.
    """

    bundle: Bundle
    features: FeatureStore
    images: pd.DataFrame
    oof: pd.DataFrame | None = None
    perturbed: Mapping[str, FeatureStore] = field(default_factory=dict)
    levels: Sequence[str] = ()
    by: JudgedBy = ALONE

    @classmethod
    def load(cls, model: Path, features: Path, images: pd.DataFrame, by: JudgedBy = ALONE) -> EvaluationInputs:
        """From the folders of a trained recipe and of its backbone's features."""
        return cls(load_bundle(model), FeatureStore(features), images, read_oof(model), by=by)

    def with_perturbed(self, sweep: PerturbationSweep, console: Console = Console()) -> EvaluationInputs:
        """The same with the features of a sweep, which are computed where they are missing."""
        found = perturbed_features(self.bundle, self.features.spec, test_rows(self.images), sweep, console)
        return replace(self, perturbed=found, levels=sweep.levels)


@dataclass(frozen=True)
class Evaluation:
    """`metrics` is metrics/details/NAME.json; `plots` maps a table's name (roc, pr, confusion, ...) to its rows.

    `timing` has the seconds that all `tails` took for so many `images`, which are no part of the metrics. `warnings` are
    lines about the test set.
    """

    metrics: Metrics
    plots: Mapping[str, pd.DataFrame]
    timing: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def lines(self) -> list[str]:
        """A warning for each kind of AUC below chance, then AUC and accuracy, and those of units and of what was held out."""
        warnings = [f"WARNING: {line}" for line in (*self.warnings, *below_chance.explain(self.metrics))]
        figures = (refit_line, unit_line, held_out_line)
        return [*warnings, one_line(self.metrics), *(line for of in figures for line in of(self.metrics))]

    def write(self, out: Path, details: Path | None = None, plots: Path | None = None, tables: str = CSV) -> None:
        """Write the headline to `out`, all metrics to `details` (see write_metrics) and the tables to the folder `plots`, as
        write_plots does."""
        write_metrics(self.metrics, out, details, headline=of_recipe)
        if plots:
            self.write_plots(plots, tables)

    def write_plots(self, folder: Path, tables: str = CSV) -> None:
        """One csv a plot, and the scores, a row an image, with the ending `tables`; tables of an earlier run that this one does
        not have are deleted."""
        folder.mkdir(parents=True, exist_ok=True)
        written = {f"{name}{tables if name == SCORES else CSV}": table for name, table in self.plots.items()}
        for stale in (*folder.glob(f"*{CSV}"), *folder.glob(f"*{PARQUET}")):
            if stale.name not in written:
                stale.unlink()
        for name, table in written.items():
            write_table(folder / name, table)


@dataclass(frozen=True)
class PartScores:
    """What the tails of one bundle gave the test images, those of its folds too, and what those that score gave the
    images' perturbed copies by level.

    `seconds` is the time of all tails that score on the clean images. `distance` is how far these lie from the training, and
    `distance_by_level` how far their copies do; None of a bundle without an index.
    """

    by_fold: Mapping[int, Scores]
    by_level: Mapping[str, Mapping[int, Scores]]
    seconds: float
    distance: Scores | None = None
    distance_by_level: Mapping[str, Scores | None] = field(default_factory=dict)


def evaluate_recipe(
    inputs: EvaluationInputs, *, bootstrap: Bootstrap, memory_gb: float, device: torch.device
) -> Evaluation:
    """Score the test images once, with the bundle's frozen threshold.

    Raises InputError when there are no test images or no such attributes, ShardError when the features are not those of the bundle.
    """
    test = test_rows(inputs.images)
    part = score_test_images(inputs, test, memory_gb=memory_gb, device=device)
    scored = ScoredTestSet(inputs.bundle, [part], test, inputs.images, inputs.oof, inputs.by)
    return judge(scored, cost(inputs.bundle, inputs.features.spec), bootstrap=bootstrap)


def score_test_images(
    inputs: EvaluationInputs, test: pd.DataFrame, *, memory_gb: float, device: torch.device
) -> PartScores:
    """The scores of the images `test` by one bundle, from its cached features; raises as evaluate_recipe does."""
    bundle = inputs.bundle
    bundle.refuse_other_features(inputs.features.spec)
    ids, labels = list(test["image_id"]), list(test["label"])

    def load(features: FeatureStore, view: int) -> FeatureTable:
        return load_table(features, ids, labels, views=view, memory_gb=memory_gb, device=device)

    def views(level: str = "") -> list[FeatureTable]:
        """What the bundle sees beside the clean images, or beside those of a level."""
        return [load(inputs.perturbed[chain], VIEW) for chain in views_of(level, bundle.tta)]

    before = state_hash(bundle)
    tables, started = [load(inputs.features, 0), *views()], time.perf_counter()
    by_fold = bundle.fold_scores(tables[0], device, *tables[1:])
    seconds = time.perf_counter() - started
    by_fold = bundle.with_fold_scores(by_fold, tables[0], device, *tables[1:])
    distance, by_level, apart = bundle.distances(tables[0], device), {}, {}
    for level in inputs.levels:
        table = load(inputs.perturbed[level], VIEW)
        by_level[level] = bundle.fold_scores(table, device, *views(level))
        apart[level] = bundle.distances(table, device)
    if state_hash(bundle) != before:
        raise FfdiError("evaluation changed the model: a defect of ffdi")
    return PartScores(by_fold, by_level, seconds, distance, apart)


@dataclass(frozen=True)
class ScoredTestSet:
    """A model and the scores that each of its parts gave the images `test`. `images` has the groups of all images, `oof`
    the model's out-of-fold scores; `by` is what is judged beside single images."""

    model: Model
    parts: Sequence[PartScores]
    test: pd.DataFrame
    images: pd.DataFrame
    oof: pd.DataFrame | None = None
    by: JudgedBy = ALONE


def judge(scored: ScoredTestSet, costs: Metrics, *, bootstrap: Bootstrap) -> Evaluation:
    """The metrics of a model on a test set that its parts have scored, with its `costs` among them."""
    model, parts, test = scored.model, scored.parts, scored.test
    joined = model.joined([part.by_fold for part in parts])
    scores = replace(joined, distance=farthest([part.distance for part in parts]))
    levels = [level for level in parts[0].by_level if all(level in part.by_level for part in parts)]
    by_level = {level: model.joined([part.by_level[level] for part in parts]).mean for level in levels}
    apart = {level: farthest([part.distance_by_level.get(level) for part in parts]) for level in levels}
    clean = evaluate_model_scores(model, test, scores, bootstrap=bootstrap, by=scored.by)
    sweep = _robustness_table(model, test, by_level, bootstrap).assign(unlike_share=[*map(share, apart.values())])
    intervals = robustness_metrics(sweep) | robust_aucs(test, by_level, sweep, bootstrap)
    if scored.oof is not None:
        intervals |= validation_aucs(scored.oof, scored.images, bootstrap=bootstrap)
    units = unit_validation(scored.oof, scored.images, scored.by.unit, bootstrap=bootstrap)
    held = held_out_figures(scored.oof, scored.images, scores.by_fold, bootstrap=bootstrap)
    intervals |= refit_figures(model, test, [part.by_fold for part in parts], bootstrap=bootstrap)
    metrics = clean.metrics | explain_nulls(intervals | held.metrics, "one class, or one group") | costs | units.metrics
    table = clean.plots["scores"].join(pd.DataFrame(by_level, index=list(test["image_id"])), on="image_id")
    timing = {"tails": sum(part.seconds for part in parts), "images": len(test)}
    return Evaluation(
        below_chance.mark(metrics),
        {**clean.plots, "scores": table, "robustness": sweep, "held_out": held.table},
        timing,
        (*clean.warnings, *units.warnings),
    )


def _robustness_table(
    model: Model, test: pd.DataFrame, by_level: Mapping[str, Scores], bootstrap: Bootstrap
) -> pd.DataFrame:
    trained, rows = operations_in_training(part.record for part in model.parts), []
    for name, scores in by_level.items():
        level = parse_level(name)
        seen = "+".join(seen_in_training(level, trained))
        figures = _auc_and_accuracy(model, test, scores, bootstrap)
        rows.append([level.name, level.kind, level.strength, level.at, seen, *figures])
    return pd.DataFrame(rows, columns=[*LEVEL_COLUMNS, *AUC_COLUMNS])


def test_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of role test; InputError when there are none."""
    test: pd.DataFrame = rows[rows["role"] == "test"]
    if test.empty:
        raise InputError("folds.csv has no test rows: nothing to evaluate: raise split.test_size, or name no folds")
    return test


def evaluate_model_scores(
    model: Model,
    test: pd.DataFrame,
    scores: ModelScores,
    *,
    bootstrap: Bootstrap,
    by: JudgedBy = ALONE,
) -> Evaluation:
    """The metrics of the scores that a model gave `test`: its own, of each fold alone, by attribute and of units."""
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    metrics = evaluate_scores(labels, scores.mean, groups, threshold=model.threshold, bootstrap=bootstrap)
    metrics |= policy_metrics(model.policy, labels, scores.mean, groups, bootstrap=bootstrap)
    metrics |= unlike_metrics(scores.distance, labels, groups, bootstrap=bootstrap)
    rows = [[fold, *_auc_and_accuracy(model, test, alone, bootstrap)] for fold, alone in scores.by_fold.items()]
    folds = pd.DataFrame(rows, columns=["fold", *AUC_COLUMNS])
    for row in folds.to_dict("records"):
        metrics |= {f"fold_{row['fold']}_{column}": row[column] for column in AUC_COLUMNS}
    split = by_attribute(test, scores.mean, threshold=model.threshold, bootstrap=bootstrap, names=by.attributes)
    metrics |= _of_model(model) | attribute_metrics(test, split, by.attributes)
    units = unit_figures(model, test, scores.mean, by, bootstrap=bootstrap)
    plots = score_tables(test, scores, model.threshold, units.cells) | {"folds": folds, "attributes": split}
    metrics = explain_nulls(metrics, "one class, or one group, in the test set") | units.metrics
    return Evaluation(metrics, plots, warnings=units.warnings)


def _of_model(model: Model) -> Metrics:
    """Mean and spread of the folds' validation AUCs, and the provenance."""
    aucs, provenance = list(model.record["val_auc"].values()), model.record["provenance"]
    metrics: Metrics = {"val_auc_mean": float(np.mean(aucs)), "val_auc_std": None}
    if len(aucs) > 1:
        metrics["val_auc_std"] = float(np.std(aucs, ddof=1))
    else:
        metrics["val_auc_std_reason"] = "one fold has no spread"
    if calibrated := model.record.get("calibration"):
        metrics["calibration"] = str(calibrated["kind"])
        metrics |= {f"calibration_{key}": calibrated[key] for key in ("agreement", "contraction") if key in calibrated}
    return metrics | {
        "temperature": model.temperature,
        "folds": len(aucs),
        **refit_facts(model.parts),
        **model.description,
        "pretrained": bool(provenance["pretrained"]),
        "weights": str(provenance["weights"]),
        "weights_sha256": str(provenance["weights_sha256"]),
        "trained_on": str(provenance["data"]),
        "synthesised": int(provenance["synthesised"]),
    }


def _auc_and_accuracy(model: Model, test: pd.DataFrame, scores: Scores, bootstrap: Bootstrap) -> list[float]:
    """The AUC_COLUMNS of one set of scores, at the frozen threshold; NaN where undefined."""
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    low, high = auc_interval(labels, scores, groups, bootstrap=bootstrap)
    return [auc(labels, scores), low, high, float(((scores >= model.threshold) == labels).mean())]


def state_hash(bundle: Bundle) -> str:
    """sha256 over every parameter and buffer of a bundle."""
    digest = hashlib.sha256()
    for module in bundle.modules():
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
