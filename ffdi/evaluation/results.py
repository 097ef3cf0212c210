"""What the stages before have written, read together: the verdict, its caveats, and the results table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.errors import InputError
from ffdi.evaluation.below_chance import TURNED, explain, keys_below
from ffdi.evaluation.compare import COLUMNS, NO_DIFFERENCE
from ffdi.evaluation.headline import NOT_RECIPES
from ffdi.intake.auditing.shortcuts import FACTS, shortcuts
from ffdi.metrics import Metrics

_OF_CROSS = {"recipe", "trained_on", "tested_on", "auc", "auc_low", "auc_high", "accuracy", "n_test", "n_groups"}
FEW_GROUPS = 20  # below it a bootstrap over groups gives intervals that are too narrow


@dataclass(frozen=True)
class Results:
    """Metrics and the backbone's name by recipe, metrics of audit and ladder, every pair of recipes (compare), and metrics
    on other data sets (`cross`).

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
        """Recipes by validation AUC, so that the test set chooses nothing; pretrained before random prefixes."""

        def key(entry: tuple[str, Metrics]) -> tuple[bool, float]:
            value = entry[1]["val_auc_mean"]
            return not entry[1]["pretrained"], -value if isinstance(value, float) else 1.0

        return sorted(self.recipes.items(), key=key)

    def table(self, recipe: str, name: str, side: str = "test") -> pd.DataFrame:
        """A table of the recipe's evaluation: roc, pr, folds, attributes, robustness, ...; an attribute may be called NA.

        Raises InputError when it is missing.
        """
        file = self.plots / recipe / side / f"{name}.csv"
        if not file.exists():
            raise InputError(f"{file}: missing: run {'evaluate' if side == 'test' else side}@{recipe} first")
        return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"attribute": str, "value": str})

    def confusion(self, recipe: str) -> dict[str, int]:
        """Test images by what they are and were called: {"fake as real": 8, ...}."""
        counted = self.table(recipe, "confusion").value_counts(["actual", "predicted"])
        return {f"{a} as {p}": int(counted.get((a, p), 0)) for a in ("real", "fake") for p in ("real", "fake")}


def read_results(
    metrics: Path, recipes: Mapping[str, str], data: Path = Path("data"), models: Path | None = None
) -> Results:
    """Read metrics/details, cross/*.json of both folders, and comparisons.csv and timings of `data`, those if there.

    `recipes` maps each to its backbone. Metrics of recipes that are no longer in params are `leftovers`, named and left
    out; so are evaluations on other data of a bundle that `models` no longer has. Raises InputError when a recipe's, the
    audit's or the ladder's are missing.
    """

    def read(name: str) -> Metrics:
        try:
            return _json(details / f"{name}.json")
        except FileNotFoundError:
            raise InputError(f"{details / f'{name}.json'}: missing: run the stage that writes it first") from None

    details, known = metrics / "details", {*recipes, *NOT_RECIPES}
    found = {
        file: _read_cross(file) for folder in (metrics, data) for file in sorted((folder / "cross").glob("*.json"))
    }
    old = [file for file, m in found.items() if _is_of_an_old_model(m, recipes, models)]
    pair = ("recipe", "trained_on", "tested_on")
    cross = list({tuple(m[key] for key in pair): m for file, m in found.items() if file not in old}.values())
    pairs = data / "comparisons.csv"
    return Results(
        {recipe: read(recipe) for recipe in recipes},
        recipes,
        read("audit"),
        read("ladder"),
        pd.read_csv(pairs) if pairs.exists() else pd.DataFrame(columns=COLUMNS),
        cross,
        {file.stem: _json(file) for file in sorted((data / "timings").glob("*.json"))},  # type: ignore[misc]
        metrics / "plots",
        sorted({file.stem for folder in (metrics, details) for file in folder.glob("*.json")} - known)
        + [f"cross/{file.stem}" for file in old],
    )


def _is_of_an_old_model(m: Metrics, recipes: Mapping[str, str], models: Path | None) -> bool:
    """Whether another bundle of that name is here now; one from elsewhere has trained on other data."""
    file = models / str(m["recipe"]) / "bundle.json" if models else Path()
    if m["recipe"] not in recipes or not file.is_file():
        return False
    now = _json(file)
    here: Any = now.get("provenance") or {}
    return m["trained_on"] == here.get("data") and m.get("model_sha256") != now.get("facts_sha256")


def _read_cross(file: Path) -> Metrics:
    found = _json(file)
    if missing := _OF_CROSS - set(found):
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
    if leaks == 0 and not results.audit["images_with_group"]:
        audit = "the audit found no leak of copies, and without groups it could find no other"
    if best["auc"] is None:
        return f"{name} has no test AUC ({best['auc_reason']}); {audit}."
    kind = "an ImageNet-pretrained" if best["pretrained"] else "a random"
    interval = "no interval"
    if best["auc_low"] is not None:
        interval = f"95 % interval {best['auc_low']:.3f} to {best['auc_high']:.3f}"
    if "auc" in keys_below(best):
        interval += f": {TURNED}: labels are most likely turned round"
    return (
        f"{name}, on {kind} prefix, tells fake from real at a test AUC of {best['auc']:.3f} "
        f"({interval}, {best['n_test']} images in {best['n_groups']} groups); {audit}."
    )


def caveats(results: Results) -> list[str]:
    """What a reader who looks for the catch should know about the verdict, each in a sentence."""
    name, best = results.ranked[0]
    audit, out = results.audit, list[str]()
    if not audit["images_with_group"]:
        out.append(
            "No image has a group of its own: people, videos and sources may stand in the training and the test set "
            "alike, and every figure here may be too good."
        )
    out += [f"{recipe}: {line}." for recipe, m in results.ranked for line in explain(m)]
    out += [f"{m['recipe']}: {line}." for m in results.cross for line in explain(m)]
    if audit["images_dropped"]:
        out.append(
            f"{audit['images_dropped']} images whose groups stand on two sides were dropped (split.two_sources), so that "
            "the others can be told apart."
        )
    if isinstance(groups := best["n_groups"], int) and groups < FEW_GROUPS:
        out.append(
            f"The test set has {groups} groups: an interval over so few is itself uncertain, and rather too narrow."
        )
    out += _against_validation(best)
    equal = [
        row["b"] if row["a"] == name else row["a"]
        for row in results.pairs.to_dict("records")
        if name in (row["a"], row["b"]) and row["verdict"] == NO_DIFFERENCE
    ]
    if equal:
        others = ", ".join(sorted(equal))
        out.append(f"No difference is shown between {name} and {others}: which of them leads may be chance.")
    count = results.confusion(name)
    reals, fakes = (count[f"{kind} as real"] + count[f"{kind} as fake"] for kind in ("real", "fake"))
    out.append(
        f"At its threshold it calls {count['real as fake']} of {reals} real test images fake, and "
        f"{count['fake as real']} of {fakes} fakes real."
    )
    out += _of_calibration(best)
    unresolved = [k for k in ("tpr_at_fpr_1e_2", "tpr_at_fpr_1e_3") if best[k] is None and f"{k}_at_most" in best]
    if unresolved:
        rates = " and ".join({"tpr_at_fpr_1e_2": "1 %", "tpr_at_fpr_1e_3": "0.1 %"}[k] for k in unresolved)
        out.append(f"The real test images are too few to say what is found at a false-alarm rate of {rates}.")
    out += _of_robustness(results.table(name, "robustness"), best)
    if short := [probe.replace("_", " ") for probe in shortcuts(audit) if probe not in FACTS]:
        out.append(f"The data has shortcuts: {', '.join(short)} alone tell fake from real better than chance.")
    if audit["source_overlap"]:
        out.append(f"{audit['source_overlap']} forgeries stand on another side of a border than the photo they are of.")
    away = [
        f"{m['auc']:.3f} ({m['auc_low']:.3f} to {m['auc_high']:.3f}) on {m['tested_on']}"
        for m in results.cross
        if m["tested_on"] != m["trained_on"]
        and (m["recipe"], m["trained_on"]) == (name, best["trained_on"])
        and None not in (m["auc"], m["auc_low"])
    ]
    out.append(f"On other data its AUC is {', '.join(away)}." if away else "It was not judged on any other data set.")
    return out


def _against_validation(best: Metrics) -> list[str]:
    """A test AUC that its own interval sets apart from the folds'."""
    own, spread, low, high = (best[key] for key in ("val_auc_mean", "val_auc_std", "auc_low", "auc_high"))
    if not (isinstance(own, float) and isinstance(low, float) and isinstance(high, float)) or low <= own <= high:
        return []
    said = f"{own:.3f}" + (f" ± {spread:.3f}" if isinstance(spread, float) else "")
    if own < low:
        return [
            f"On the folds its AUC is lower, {said}, a single tail each: the test groups may be easier than the rest."
        ]
    return [f"On the folds its AUC is higher, {said}: their epochs were chosen by it, or the test groups are harder."]


def _of_calibration(best: Metrics) -> list[str]:
    ece, expected = best["ece"], best.get("ece_if_calibrated")
    if not (isinstance(ece, float) and isinstance(expected, float)):
        return []
    if ece > expected:
        return [
            f"Its scores are no probabilities: they are off by {ece:.3f} on average (ECE; good ones are below "
            f"{expected:.3f})."
        ]
    if expected > 0.05:
        return [
            f"{best['n_test']} images are too few to judge its calibration: ECE {ece:.3f}, good ones reach "
            f"{expected:.3f}."
        ]
    return []


def _of_robustness(table: pd.DataFrame, best: Metrics) -> list[str]:
    """Where AUC, and accuracy at the frozen threshold, fall most, each if by more than .05."""
    out = []
    for figure, says in (
        ("auc", "On images that were handled otherwise it is worth less: AUC {:.3f} at {}."),
        (
            "accuracy",
            "Its threshold does not carry over to images handled otherwise: accuracy falls from {clean:.3f} to {:.3f} at {}.",
        ),
    ):
        found = [(row[figure], row["level"]) for row in table.to_dict("records") if row[figure] == row[figure]]
        if found and isinstance(clean := best[figure], float) and clean - min(found)[0] > 0.05:
            out.append(says.format(*min(found), clean=clean))
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
    if m[f"{key}_low"] is None:
        return f"{m[key]:.3f}"
    return f"{m[key]:.3f} [{m[f'{key}_low']:.3f}, {m[f'{key}_high']:.3f}]"
