"""The few metrics of a stage that DVC shows and compares. All of them are in metrics/details."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ffdi.files import write_json
from ffdi.metrics import Metrics

RESERVED_NAMES = (
    "audit",
    "cross",
    "ladder",
    "plots",
    "protocol",
    "summary",
)  # of metrics/: no recipe may have such a name
OF_RECIPE = (
    *("auc", "auc_low", "auc_high", "accuracy", "balanced_accuracy", "ap", "tpr_at_fpr_1e_2"),
    *("eer", "ece", "threshold", "val_auc_mean", "val_auc_std", "n_test", "pretrained"),
)
OF_UNITS = ("unit_auc", "unit_auc_low", "unit_auc_high", "unit_accuracy", "unit_val_auc_mean", "unit_count")
OF_AUDIT = ("leaks", "warnings", "worst_probe", "worst_probe_auc")


def of_recipe(metrics: Metrics) -> Metrics:
    """metrics/RECIPE.json, of the metrics of evaluate; with the figures of units and of held-out values where there are any."""
    units = [key for key in OF_UNITS if key in metrics]
    held = [key for key in metrics if key.startswith("held_out") and not key.endswith(("_reason", "_reals", "_fakes"))]
    return _selected(metrics, (*OF_RECIPE, *units, *held))


def of_audit(metrics: Metrics) -> Metrics:
    """metrics/audit.json: the number of leaks and of warnings, and the probe with the highest AUC."""
    return _selected(metrics, OF_AUDIT)


def of_ladder(metrics: Metrics) -> Metrics:
    """metrics/ladder.json: reported AUC, true AUC and gap of the last rung, which makes every mistake."""
    last = f"rung_{rung_count(metrics) - 1}"
    return _selected(metrics, (f"{last}_{key}" for key in ("name", "reported_auc", "true_auc", "gap_auc")))


def rung_count(metrics: Metrics) -> int:
    """The number of rungs in metrics of the ladder."""
    return sum(key.endswith("_name") for key in metrics)


def of_pairs(metrics: Metrics) -> Metrics:
    """metrics/cross.json and metrics/summary.json: the AUC, or the difference of two, of each pair."""
    return _selected(metrics, (key for key in metrics if key.endswith("_auc")))


def of_protocol(metrics: Metrics) -> Metrics:
    """metrics/protocol/RECIPE.json: all but the reasons of nulls."""
    return _selected(metrics, (key for key in metrics if not key.endswith("_reason")))


def _selected(metrics: Metrics, keys: Iterable[str]) -> Metrics:
    return {key: metrics[key] for key in keys}


def write_metrics(
    metrics: Metrics, out: Path, details: Path | None = None, *, headline: Callable[[Metrics], Metrics]
) -> None:
    """Write all of `metrics` to `details`, by default the file of that name in details/ beside `out`; the headline to `out`.

    Only the details have the `<key>_reason` of a null.
    """
    write_json(details or out.parent / "details" / out.name, metrics)
    write_json(out, headline(metrics))


def one_line(metrics: Metrics) -> str:
    """The AUC and accuracy of an evaluation on one line."""
    m = metrics
    if m["auc"] is None:
        return f"no AUC ({m['auc_reason']}); accuracy {m['accuracy']:.3f} on {m['n_test']} images"
    auc, accuracy = (
        f"{m[key]:.3f} "
        + ("without interval" if m[f"{key}_low"] is None else f"[{m[f'{key}_low']:.3f}, {m[f'{key}_high']:.3f}]")
        for key in ("auc", "accuracy")
    )
    return f"test AUC {auc}, accuracy {accuracy}, {m['n_test']} images"
