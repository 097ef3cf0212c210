"""Trained recipes on the images of other data sets, read from their files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.evaluation import below_chance
from ffdi.evaluation.evaluate import evaluate_model_scores
from ffdi.evaluation.headline import one_line
from ffdi.evaluation.settings import JudgedBy, OtherDataSettings, UnitRule
from ffdi.evaluation.unit_figures import unit_line
from ffdi.files import write_json
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import IntakeFiles, ingest_data_set
from ffdi.intake.near_duplicates.clusters import components, join_groups
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.intake.table_files.names import CSV
from ffdi.intake.tables import write_table
from ffdi.metrics import Metrics, explain_nulls
from ffdi.tails.bundle import load_bundle
from ffdi.tails.model import Model
from ffdi.tails.predict import score_files

_OF_UNITS = (*(f"unit_{key}{end}" for key in ("auc", "accuracy") for end in ("", "_low", "_high")), "unit_count")


@dataclass(frozen=True)
class OtherData:
    """A data set to evaluate recipes on. `images` is its images.csv, joined with folds.csv or not; `unit` names those that
    are judged together as well."""

    name: str
    source: ImageSource
    images: pd.DataFrame
    unit: UnitRule | None = None


@dataclass(frozen=True)
class OtherDataSet:
    """A data set of evaluate.cross before it is ingested."""

    name: str
    settings: OtherDataSettings
    source: ImageSource
    unit: UnitRule | None = None

    def ingested(self, images: pd.DataFrame, console: Console) -> OtherData:
        """It with its images.csv. One whose images have no such attribute is judged without units, and that is said."""
        has_units = self.unit is not None and self.unit.column in images
        if self.unit and not has_units:
            console.say(f"no attribute {self.unit.attribute}: its images are judged one by one alone")
        return OtherData(self.name, self.source, images, self.unit if has_units else None)


@dataclass(frozen=True)
class OtherDataEvaluation:
    """A recipe on another data set: its metrics, the scores of every image, and the images that were left out."""

    metrics: Metrics
    scores: pd.DataFrame
    seen: pd.DataFrame
    warnings: Sequence[str] = ()

    def lines(self) -> list[str]:
        """What is to be warned of, without a mark."""
        return [*self.warnings, *below_chance.explain(self.metrics)]

    def write(self, folder: Path, name: str, tables: str = CSV) -> None:
        """Write NAME.json, NAME-scores and NAME-seen, these with the ending `tables`."""
        write_json(folder / f"{name}.json", self.metrics)
        write_table(folder / f"{name}-scores{tables}", self.scores)
        write_table(folder / f"{name}-seen{tables}", self.seen[["image_id", "path"]])


def evaluate_on_other_data(
    model: Model,
    data: OtherData,
    *,
    phash_bits: int,
    bootstrap: Bootstrap,
    device: torch.device,
    console: Console = Console(),
) -> OtherDataEvaluation:
    """Evaluate `model` on another data set, with its frozen threshold and temperature.

    The metrics are those of the test set, with `recipe`, `tested_on` and `n_seen`. Images that the model was trained or
    validated on are left out, and so are images that near-duplicates (perceptual hashes within `phash_bits`) link to
    them. An image without a group is in the group of its near-duplicates; groups that share an image are one. Raises
    InputError when no image is left, or where the images have no attribute that the data set's `unit` names.
    """
    images = data.images
    seen, cluster = seen_before(model, images, phash_bits)
    unseen = images.assign(group=resampling_groups(list(images["group"]), cluster))[~seen]
    if unseen.empty:
        raise InputError(f"{data.name}: all {len(images)} images are known from the training: nothing to evaluate")
    scores = score_files(model, unseen, data.source, device=device, console=console)
    evaluation = evaluate_model_scores(model, unseen, scores, bootstrap=bootstrap, by=JudgedBy(unit=data.unit))
    recipe = str(model.record["recipe"]["name"])
    if parent := model.record.get("parent"):  # or its figures would be taken for its parent's
        recipe = f"{parent['name']}, recalibrated"
    about: Metrics = {"recipe": recipe, "tested_on": data.name, "n_seen": int(seen.sum())}
    about["model_sha256"] = str(model.record["facts_sha256"])
    metrics, scored = below_chance.mark(about | evaluation.metrics), evaluation.plots["scores"]
    return OtherDataEvaluation(metrics, scored, images[seen], evaluation.warnings)


def evaluate_on_all_other_data(
    data_sets: Iterable[OtherDataSet],
    models: Path,
    folder: Path,
    *,
    phash_bits: int,
    bootstrap: Bootstrap,
    device: torch.device,
    consoles: Callable[..., Console],
) -> Metrics:
    """metrics/details/cross.json: the recipes that each data set names, evaluated on it.

    Each of `data_sets` is ingested first. `folder` gets the tables of the intake, and the
    metrics and scores of each evaluation. `consoles(name, bar)` makes a console whose lines start with a name, and whose
    progress bars are called `bar`.
    """
    evaluations = []
    for data_set in data_sets:
        name, settings = data_set.name, data_set.settings
        tables = f".{settings.tables}"
        lists = (folder / f"{name}-{table}.csv" for table in ("rejected", "skipped"))
        files = IntakeFiles(folder / f"{name}-images{tables}", *lists)
        console = consoles(f"cross: {name}", bar=f"ingest {name}")
        ingested = ingest_data_set(data_set.source, settings, files, console)
        for line in ingested.class_lines():
            console.say(line)
        data = data_set.ingested(ingested.intake.images, console)
        for recipe in settings.recipes:
            console = consoles("cross", bar=f"{recipe} on {name}")
            bundle = load_bundle(models / recipe)
            evaluation = evaluate_on_other_data(
                bundle, data, phash_bits=phash_bits, bootstrap=bootstrap, device=device, console=console
            )
            evaluation.write(folder, f"{recipe}-on-{name}", tables)
            for line in evaluation.lines():
                consoles(f"cross {recipe}").warn(f"WARNING: {line}")
            seen = f"{len(evaluation.seen)} known from the training and left out"
            for line in (f"{one_line(evaluation.metrics)}; {seen}", *unit_line(evaluation.metrics)):
                consoles(f"cross {recipe} on {name}").say(line)
            evaluations.append(evaluation.metrics)
    return other_data_metrics(evaluations)


def other_data_metrics(evaluations: Sequence[Metrics]) -> Metrics:
    """metrics/details/cross.json of the metrics of evaluations: `RECIPE_on_DATA_*` of each, and how many there are."""
    out: Metrics = {"evaluations": len(evaluations)}
    out["below_chance"] = sum("auc" in below_chance.keys_below(metrics) for metrics in evaluations)
    for metrics in evaluations:
        for name in ("auc", "auc_low", "auc_high", "accuracy", "accuracy_low", "accuracy_high", "n_test", "n_seen"):
            key = f"{metrics['recipe']}_on_{metrics['tested_on']}_{name}"
            out |= explain_nulls({key: metrics[name]}, "one class, or one group")
        for name in (*_OF_UNITS, "unlike_share", "unlike_share_low", "unlike_share_high"):
            key = f"{metrics['recipe']}_on_{metrics['tested_on']}_{name}"
            out |= {key + end: metrics[name + end] for end in ("", "_reason") if name + end in metrics}
    return out


def resampling_groups(cells: Sequence[str], cluster: npt.NDArray[np.int64]) -> list[str]:
    """(N,) the group that the bootstrap draws each image with: its groups and all that share an image with them, or its
    near-duplicates when it has no group."""
    joined = join_groups(cells, [str(row) for row in range(len(cells))])
    return [name or f"near-duplicates {c}" for name, c in zip(joined, cluster, strict=True)]


def seen_before(
    model: Model, images: pd.DataFrame, phash_bits: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """(N,) whether each image is a training image or linked to one by near-duplicates; (N,) its cluster of those."""
    known = len(model.seen)
    hashes = [*model.seen["phash"], *images["phash"]]
    cluster = components(perceptual_pairs(hashes, phash_bits), len(hashes))
    alike = np.isin(cluster[known:], cluster[:known]) | images["image_id"].isin(model.seen["image_id"]).to_numpy()
    return alike, cluster[known:]
