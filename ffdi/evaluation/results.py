"""What the earlier stages wrote, read together, and the tables of it in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.errors import InputError
from ffdi.evaluation.compare import COLUMNS
from ffdi.evaluation.headline import RESERVED_NAMES
from ffdi.features.backbone import Backbone
from ffdi.intake.table_files.names import found_table, is_parquet
from ffdi.intake.tables import read_table
from ffdi.metrics import Metrics

_KEYS_OF_CROSS = {"recipe", "trained_on", "tested_on", "auc", "auc_low", "auc_high", "accuracy", "n_test", "n_groups"}
_TEXTS = ("attribute", "value", "without", "tested_on", "at", "seen", "unit")  # columns that may look like numbers


@dataclass(frozen=True)
class Results:
    """The results of a pipeline.

    `recipes` has the metrics and `backbones` the backbone's name of each recipe; `pairs` compares every two recipes (see
    compare), `cross` has the metrics on other data sets. `timings` has the seconds of each file in data/timings, for the
    stages that this machine ran; `plots` is the folder of tables. `leftovers` names metrics that belong to no recipe of
    params, or to a model that is gone. `pixels` says what the network of each recipe sees of an image, where its
    bundle is there. `protocol` compares the folds of some recipes with random ones.
    """

    recipes: Mapping[str, Metrics]
    backbones: Mapping[str, str]
    audit: Metrics
    ladder: Metrics
    pairs: pd.DataFrame
    cross: Sequence[Metrics]
    timings: Mapping[str, Mapping[str, float]]
    plots: Path
    leftovers: Sequence[str]
    pixels: Mapping[str, str]
    protocol: Mapping[str, Metrics] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """The attribute whose images every recipe is judged by together; empty where there is none."""
        units = {str(m["unit"]) if "unit_val_auc_mean" in m else "" for m in self.recipes.values()}
        return units.pop() if len(units) == 1 else ""

    @property
    def ranked(self) -> list[tuple[str, Metrics]]:
        """Recipes by validation AUC, because the test set must choose nothing; pretrained before random prefixes.

        It is that of units where all recipes are judged by one.
        """
        figure = "unit_val_auc_mean" if self.unit else "val_auc_mean"

        def key(entry: tuple[str, Metrics]) -> tuple[bool, float]:
            value = entry[1][figure]
            return not entry[1]["pretrained"], -value if isinstance(value, float) else 1.0

        return sorted(self.recipes.items(), key=key)

    @property
    def best_name(self) -> str:
        """The recipe that ranks first."""
        return self.ranked[0][0]

    @property
    def best(self) -> Metrics:
        """The metrics of the recipe that ranks first."""
        return self.ranked[0][1]

    def leftover_files(self, metrics: Path) -> list[Path]:
        """The files of `leftovers` in `metrics` and its details that are there."""
        files = [folder / f"{name}.json" for name in self.leftovers for folder in (metrics, metrics / "details")]
        return [file for file in files if file.exists()]

    def table(self, recipe: str, name: str, side: str = "test") -> pd.DataFrame:
        """A table of the recipe's evaluation: roc, pr, folds, attributes, robustness, ... An attribute may be called NA.

        Raises InputError when it is missing.
        """
        file = self._table_file(recipe, name, side)
        if is_parquet(file):
            return read_table(file, ())
        if not file.exists():
            raise InputError(f"{file}: missing: run {'evaluate' if side == 'test' else side}@{recipe} first")
        return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_TEXTS, str))

    def table_if_there(self, recipe: str, name: str, side: str = "test") -> pd.DataFrame:
        """The same, or no rows where it is missing: a table that older evaluations do not have."""
        return self.table(recipe, name, side) if self._table_file(recipe, name, side).exists() else pd.DataFrame()

    def _table_file(self, recipe: str, name: str, side: str) -> Path:
        return found_table(self.plots / recipe / side / name)

    def confusion(self, recipe: str) -> dict[str, int]:
        """The number of test images by actual and predicted class: {"fake as real": 8, ...}."""
        counted = self.table(recipe, "confusion").value_counts(["actual", "predicted"])
        return {f"{a} as {p}": int(counted.get((a, p), 0)) for a in ("real", "fake") for p in ("real", "fake")}


def read_results(
    metrics: Path, recipes: Mapping[str, str], data: Path = Path("data"), models: Path | None = None
) -> Results:
    """Read metrics/details, cross/*.json of `metrics` and `data`, and comparisons.csv and timings of `data` if present.

    `recipes` maps each recipe to its backbone, and each ensemble to nothing. Metrics of recipes that are no longer in params, and evaluations of a
    bundle that `models` no longer has, are listed in `leftovers` and otherwise left out. Raises InputError when the
    metrics of a recipe, the audit or the ladder are missing.
    """

    def read(name: str) -> Metrics:
        try:
            return read_metrics(details / f"{name}.json")
        except FileNotFoundError:
            raise InputError(f"{details / f'{name}.json'}: missing: run the stage that writes it first") from None

    details, known = metrics / "details", {*recipes, *RESERVED_NAMES}
    files = [file for folder in (metrics, data) for file in sorted((folder / "cross").glob("*.json"))]
    evaluations = {file: _read_cross(file) for file in files}
    old = [file for file, m in evaluations.items() if _is_of_an_old_model(m, recipes, data, models)]
    pair = ("recipe", "trained_on", "tested_on")
    cross = list({tuple(m[key] for key in pair): m for file, m in evaluations.items() if file not in old}.values())
    compared = {file.stem: file for file in sorted((metrics / "protocol").glob("*.json"))}
    return Results(
        {recipe: read(recipe) for recipe in recipes},
        recipes,
        read("audit"),
        read("ladder"),
        _read_pairs(data / "comparisons.csv"),
        cross,
        {file.stem: read_metrics(file) for file in sorted((data / "timings").glob("*.json"))},  # type: ignore[misc]
        metrics / "plots",
        sorted({file.stem for folder in (metrics, details) for file in folder.glob("*.json")} - known)
        + [f"cross/{file.stem}" for file in old]
        + [f"protocol/{name}" for name in compared if name not in recipes],
        {recipe: seen for recipe in recipes if models and (seen := _pixels(models / recipe / "bundle.json"))},
        {recipe: read_metrics(file) for recipe, file in compared.items() if recipe in recipes},
    )


def _read_pairs(file: Path) -> pd.DataFrame:
    """comparisons.csv; a table from before it had other figures than the AUC has none but that."""
    pairs = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)
    return pairs if "figure" in pairs else pairs.assign(figure="auc")


def _pixels(bundle: Path) -> str:
    """What the network of a bundle sees of an image, in words; empty where there is no bundle of one network."""
    try:
        record = json.loads(bundle.read_text(encoding="utf-8"))
        words = Backbone.from_dict(record["backbone"]).pixels.words
        views = record["recipe"].get("tta", ())
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"{words}; the mean with {', '.join(views)}" if views else words


def _is_of_an_old_model(m: Metrics, recipes: Mapping[str, str], data: Path, models: Path | None) -> bool:
    """Whether `models`, or the ensembles of `data`, now have another bundle of that name. A bundle trained on other data
    is from another project."""
    name = str(m["recipe"])
    folder = models if recipes.get(name) else data / "ensembles"
    file = folder / name / "bundle.json" if models and folder else Path()
    if name not in recipes or not file.is_file():
        return False
    now = read_metrics(file)
    here: Any = now.get("provenance") or {}
    return m["trained_on"] == here.get("data") and m.get("model_sha256") != now.get("facts_sha256")


def _read_cross(file: Path) -> Metrics:
    metrics = read_metrics(file)
    if missing := _KEYS_OF_CROSS - set(metrics):
        raise InputError(f"{file}: has no {min(missing)}: it is not of `ffdi evaluate`: delete it")
    return metrics


def read_metrics(file: Path) -> Metrics:
    """A JSON file of metrics; InputError when it is none."""
    try:
        loaded: Metrics = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}): run the stage that writes it again") from error
    return loaded


def results_table(results: Results) -> str:
    """The leaderboard in Markdown; rows on random prefixes say so."""
    unit = results.unit
    lines = [
        "| recipe | prefix | test AUC [95 %] | accuracy [95 %] | validation AUC |"
        + (f" by {unit} [95 %] |" if unit else ""),
        "| --- | --- | --- | --- | --- |" + " --- |" * bool(unit),
    ]
    for name, m in results.ranked:
        prefix = f"{m['weights']}" if m["pretrained"] else "*random prefix: shows that the path works*"
        spread = "" if m["val_auc_std"] is None else f" ± {m['val_auc_std']:.3f}"
        lines.append(
            f"| {name} | {prefix} | {_interval(m, 'auc')} | {_interval(m, 'accuracy')} | {m['val_auc_mean']:.3f}{spread} |"
            + (f" {_interval(m, 'unit_auc')} |" if unit else "")
        )
    return "\n".join(lines) + "\n"


def _interval(m: Metrics, key: str) -> str:
    if m[key] is None:
        return f"none: {m[f'{key}_reason']}"
    if m[f"{key}_low"] is None:
        return f"{m[key]:.3f}"
    return f"{m[key]:.3f} [{m[f'{key}_low']:.3f}, {m[f'{key}_high']:.3f}]"


def times_table(results: Results) -> str:
    """What this machine took, in Markdown: a row for each recipe, with – for a stage that it did not run.

    The table is a file beside the page: a page with times in it would differ at every run.
    """
    lines = ["| recipe | prefix, an image | all tails, an image | training |", "| --- | --- | --- | --- |"]
    for name, _ in results.ranked:
        extracted = results.timings.get(f"extract-{results.backbones[name]}", {})
        evaluated, trained = results.timings.get(f"evaluate-{name}", {}), results.timings.get(f"train-{name}", {})
        prefix = extracted["work"] / extracted["computed"] if extracted.get("computed") else None
        tails = evaluated["tails"] / evaluated["images"] if evaluated.get("images") else None
        cells = " | ".join(map(_time, (prefix, tails, trained.get("seconds"))))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds / 60:.3g} min"
