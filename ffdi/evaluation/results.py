"""What the stages before have written, read together: the verdict, its caveats, and the results table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ffdi.errors import InputError
from ffdi.evaluation.compare import COLUMNS, NO_DIFFERENCE
from ffdi.intake.probes import FACTS, PROBES, WARN_ABOVE
from ffdi.metrics import Metrics

NOT_RECIPES = ("audit", "cross", "ladder", "summary")
FEW_GROUPS = 20  # below it a bootstrap over groups gives intervals that are too narrow


@dataclass(frozen=True)
class Results:
    """Metrics and the backbone's name by recipe, metrics of audit and ladder, every pair of recipes (compare), and of other data sets (`cross`).

    `timings` are seconds by the name of their file in data/timings, where this machine ran the stages; `plots` is the
    folder of tables.
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

    @property
    def ranked(self) -> list[tuple[str, Metrics]]:
        """Recipes by test AUC, pretrained before random prefixes, those without an AUC last."""

        def key(entry: tuple[str, Metrics]) -> tuple[bool, float]:
            value = entry[1]["auc"]
            return not entry[1]["pretrained"], -value if isinstance(value, float) else 1.0

        return sorted(self.recipes.items(), key=key)

    def table(self, recipe: str, name: str) -> pd.DataFrame:
        """A table of the recipe's evaluation: roc, pr, folds, attributes, robustness, ...; an attribute may be called NA."""
        file = self.plots / recipe / "test" / f"{name}.csv"
        return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"attribute": str, "value": str})


def read_results(metrics: Path, recipes: Mapping[str, str], data: Path = Path("data")) -> Results:
    """Read metrics/*.json, cross/*.json of both folders, and comparisons.csv and timings of `data`, those if there.

    `recipes` maps each to its backbone. Metrics of recipes that are no longer in params are `leftovers`, named and left
    out. Raises InputError when a recipe's, the audit's or the ladder's are missing.
    """

    def read(name: str) -> Metrics:
        try:
            return _json(metrics / f"{name}.json")
        except FileNotFoundError:
            raise InputError(f"{metrics / f'{name}.json'}: missing: run the stage that writes it first") from None

    known = {*recipes, *NOT_RECIPES}
    pairs = data / "comparisons.csv"
    return Results(
        {recipe: read(recipe) for recipe in recipes},
        recipes,
        read("audit"),
        read("ladder"),
        pd.read_csv(pairs) if pairs.exists() else pd.DataFrame(columns=COLUMNS),
        [_cross(file) for folder in (data, metrics) for file in sorted((folder / "cross").glob("*.json"))],
        {file.stem: _json(file) for file in sorted((data / "timings").glob("*.json"))},  # type: ignore[misc]
        metrics / "plots",
        sorted(f.stem for f in metrics.glob("*.json") if f.stem not in known),
    )


def _cross(file: Path) -> Metrics:
    found = _json(file)
    if missing := {"recipe", "trained_on", "tested_on", "n_test", "auc"} - set(found):
        raise InputError(f"{file}: has no {min(missing)}: it is not of `ffdi evaluate`: delete it")
    return found


def _json(file: Path) -> Metrics:
    try:
        loaded: Metrics = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from error
    return loaded


def verdict(results: Results) -> str:
    """One sentence: the best recipe, its interval, and whether the audit passed."""
    name, best = results.ranked[0]
    leaks = results.audit["leaks"]
    audit = "the audit found no leak" if leaks == 0 else f"the audit found {leaks} leaks: no figure here can be trusted"
    if best["auc"] is None:
        return f"{name} has no test AUC ({best['auc_reason']}); {audit}."
    kind = "an ImageNet-pretrained" if best["pretrained"] else "a random"
    return (
        f"{name}, on {kind} prefix, tells fake from real at a test AUC of {best['auc']:.3f} "
        f"(95 % interval {best['auc_low']:.3f} to {best['auc_high']:.3f}, {best['n_test']} images in "
        f"{best['n_groups']} groups); {audit}."
    )


def caveats(results: Results) -> list[str]:
    """What a reader who looks for the catch should know about the verdict, each in a sentence."""
    name, best = results.ranked[0]
    audit, out = results.audit, []
    if isinstance(groups := best["n_groups"], int) and groups < FEW_GROUPS:
        out.append(
            f"The test set has {groups} groups: an interval over so few is itself uncertain, and rather too narrow."
        )
    equal = [
        row["b"] if row["a"] == name else row["a"]
        for row in results.pairs.to_dict("records")
        if name in (row["a"], row["b"]) and row["verdict"] == NO_DIFFERENCE
    ]
    if equal:
        others = ", ".join(sorted(equal))
        out.append(f"No difference is shown between {name} and {others}: which of them leads may be chance.")
    if isinstance(ece := best["ece"], float) and ece > 0.05:
        out.append(f"Its scores are not probabilities to rely on: they are off by {ece:.3f} on average (ECE).")
    unresolved = [k for k in ("tpr_at_fpr_1e_2", "tpr_at_fpr_1e_3") if best[k] is None and f"{k}_at_most" in best]
    if unresolved:
        rates = " and ".join(k.removeprefix("tpr_at_fpr_").replace("1e_", "1e-") for k in unresolved)
        out.append(f"The real test images are too few to say what is found at a false-alarm rate of {rates}.")
    fell = [(row["auc"], row["level"]) for row in results.table(name, "robustness").dropna().to_dict("records")]
    if fell and isinstance(clean := best["auc"], float) and clean - min(fell)[0] > 0.05:
        auc, level = min(fell)
        out.append(f"On images that were not handled as the test set was it is worth less: AUC {auc:.3f} at {level}.")
    shortcuts = [
        probe.replace("_", " ")
        for probe in PROBES
        if probe not in FACTS and isinstance(low := audit[f"probe_{probe}_auc_low"], float) and low > WARN_ABOVE
    ]
    if shortcuts:
        out.append(f"The data has shortcuts: {', '.join(shortcuts)} alone tell fake from real better than chance.")
    if audit["source_overlap"]:
        out.append(f"{audit['source_overlap']} forgeries stand on another side of a border than the photo they are of.")
    away = [
        f"{m['auc']:.3f} on {m['tested_on']}"
        for m in results.cross
        if (m["recipe"], m["trained_on"]) == (name, best["trained_on"]) and m["auc"] is not None
    ]
    out.append(f"On other data: AUC {', '.join(away)}." if away else "It was not judged on any other data set.")
    return out


def results_table(results: Results) -> str:
    """The leaderboard in Markdown; rows on random prefixes say so."""
    lines = [
        "| recipe | prefix | test AUC [95 %] | accuracy [95 %] | validation AUC |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, m in results.ranked:
        prefix = f"{m['weights']}" if m["pretrained"] else "*random prefix: shows that the path works*"
        spread = "" if m["val_auc_std"] is None else f" ± {m['val_auc_std']:.3f}"
        lines.append(
            f"| {name} | {prefix} | {_interval(m, 'auc')} | {_interval(m, 'accuracy')} | {m['val_auc_mean']:.3f}{spread} |"
        )
    return "\n".join(lines) + "\n"


def _interval(m: Metrics, key: str) -> str:
    if m[key] is None:
        return f"none: {m[f'{key}_reason']}"
    return f"{m[key]:.3f} [{m[f'{key}_low']:.3f}, {m[f'{key}_high']:.3f}]"
