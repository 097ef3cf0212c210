"""The sections of a model card that have figures; what was not measured is said in its place."""

from __future__ import annotations

import re

from ffdi.deploy.card.facts import CardFacts
from ffdi.deploy.card.text import figure, interval, percent, plain, table
from ffdi.evaluation.verdict import FEW_GROUPS
from ffdi.metrics import Metrics

_SHOWN = {
    **{"auc": "AUC", "accuracy": "accuracy at the threshold", "fpr": "reals that are called fake"},
    **{"recall": "fakes that are found", "tpr_at_fpr_1e_2": "fakes found at 1 % false alarms"},
    "ece": "calibration error (ECE)",
}
_FEW = "an interval over so few is itself uncertain, and rather too narrow."


def figures(facts: CardFacts) -> list[str]:
    """The figures of the test set, and those on other data."""
    sets = [*([(f"{facts.data}, test set", facts.metrics)] if facts.metrics else [])]
    sets += [(str(metrics["tested_on"]), metrics) for metrics in facts.other_data()]
    lines = []
    if sets:
        rows = [[name, *(figure(metrics, key) for _, metrics in sets)] for key, name in _SHOWN.items()]
        rows += _by_unit([metrics for _, metrics in sets])
        rows.append(["images, groups", *(f"{m['n_test']}, {m['n_groups']}" for _, m in sets)])
        lines = [
            *table(["", *(plain(name) for name, _ in sets)], rows),
            "Brackets hold 95 % intervals, resampled over groups. Fake is the positive class.",
            *(f"{plain(name)} has {m['n_groups']} groups: {_FEW}" for name, m in sets if _has_few_groups(m)),
            "",
        ]
    if not facts.metrics:
        lines += [_missing(facts), ""]
    if not facts.other_data():
        lines += ["Not measured: how it does on any other data set.", ""]
    lines += _refit_figures(facts.metrics)
    return lines


def _by_unit(sets: list[Metrics]) -> list[list[str]]:
    """Rows of what it is worth on videos, or other units, where these were judged on any of the sets."""
    if not (unit := next((m["unit"] for m in sets if "unit_auc" in m), None)):
        return []
    name = plain(unit)
    counts = [str(m.get("unit_count", "not measured")) for m in sets]
    shown = {f"AUC by {name}": "unit_auc", f"accuracy by {name}": "unit_accuracy"}
    return [*([words, *(figure(m, key) for m in sets)] for words, key in shown.items()), [f"{name}: how many", *counts]]


def _has_few_groups(m: Metrics) -> bool:
    groups = m["n_groups"]
    return isinstance(groups, int) and groups < FEW_GROUPS


def _missing(facts: CardFacts) -> str:
    if "recalibrated" in facts.record:
        return "Not measured: a test set. Threshold and temperature were fitted again after its parent was tested."
    return "Not measured: a test set (its metrics are missing)."


def _refit_figures(m: Metrics) -> list[str]:
    if "refit_minus_folds_auc" not in m:
        return []
    folds, minus = figure(m, "folds_auc"), figure(m, "refit_minus_folds_auc")
    return [
        f"These are figures of the one tail that was trained on all training images. The mean of the folds' tails has a test "
        f"AUC of {folds}; the difference is {minus}.",
        "",
    ]


def weaknesses(facts: CardFacts) -> list[str]:
    """Perturbed images, attributes, what was held out, images unlike the training."""
    m = facts.metrics
    return [f"- {line}" for line in (*_robustness(m), *_worst_attribute(m), *_held_out(m), *_unlike(facts))] + [""]


def _robustness(m: Metrics) -> list[str]:
    if "robust_auc" not in m:
        return _lowest_level(m) or ["Not measured: images that were compressed, resized or blurred."]
    return [
        f"On images that were handled otherwise ({m['robust_levels']} levels of perturbation) its mean AUC is "
        f"{figure(m, 'robust_auc')}, the lowest {figure(m, 'worst_auc')} at {plain(m['worst_level'])}.",
        *_lowest_level(m)[1:],
    ]


def _lowest_level(m: Metrics) -> list[str]:
    """The lowest AUC and the lowest accuracy, each with its level."""
    keys = [key for key in m if key.startswith("robustness_") and isinstance(m[key], float)]
    aucs = [key for key in keys if key.endswith("_auc")]
    accuracies = [key for key in keys if key.endswith("_accuracy")]
    if not (aucs and accuracies):
        return []
    low, least = (min(of, key=lambda key: float(m[key] or 0)) for of in (aucs, accuracies))
    return [
        f"On images that were handled otherwise its AUC falls to {figure(m, low)} at {_level(low)}.",
        f"At its threshold, accuracy falls to {m[least]:.3f} at {_level(least)}.",
    ]


def _level(key: str) -> str:
    """robustness_resize_0_5_auc -> resize 0.5."""
    words = key.removeprefix("robustness_").rpartition("_")[0].replace("_at_", " at ")
    return plain(re.sub(r"(?<=\d)_(?=\d)", ".", words).replace("_", " "))


def _worst_attribute(m: Metrics) -> list[str]:
    aucs = {key: value for key, value in m.items() if key.startswith("attr_") and key.endswith("_auc")}
    known = {key: value for key, value in aucs.items() if isinstance(value, float)}
    if not known:
        return ["Not measured: kinds of images or fakes apart (the data set names no attribute of few values)."]
    worst = min(known, key=known.__getitem__)
    stem = worst.removesuffix("_auc")
    name = stem.removeprefix("attr_").replace("_", " ").replace("=", " ")
    counts = f"{m.get(f'{stem}_reals')} reals, {m.get(f'{stem}_fakes')} fakes; of one class, against all of the other"
    return [f"Of the attributes of the test images it does worst at {plain(name)}: AUC {figure(m, worst)} ({counts})."]


def _held_out(m: Metrics) -> list[str]:
    if not isinstance(m.get("held_out_worst_auc"), float):
        return []
    return [
        f"Trained without a kind of fake, it finds that kind at a mean AUC of {figure(m, 'held_out_mean_auc')}; worst is "
        f"{plain(m.get('held_out_worst'))}: {figure(m, 'held_out_worst_auc')}."
    ]


def _unlike(facts: CardFacts) -> list[str]:
    m = facts.metrics
    if not any("unlike" in part for part in facts.parts.values()):
        return ["It cannot tell whether an image is unlike those of its training: it has no index of them."]
    line = "It says of an image when it is unlike those of its training"
    if not isinstance(here := m.get("unlike_share"), float):
        return [f"{line}; how often it does was not measured."]
    elsewhere = [
        f"{percent(share)} of {plain(other['tested_on'])}"
        for other in facts.other_data()
        if isinstance(share := other.get("unlike_share"), float)
    ]
    ends = interval(m, "unlike_share")
    between = f" ({percent(ends[0])} to {percent(ends[1])})" if ends else ""
    return [f"{line}: {', '.join([f'{percent(here)}{between} of the test images', *elsewhere])}."]
