"""The figures that DVC shows: a few of the many that a stage has found. The rest stands in metrics/details."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ffdi.files import write_json
from ffdi.metrics import Metrics

NOT_RECIPES = ("audit", "cross", "ladder", "summary")  # files of metrics/ that other stages write
OF_RECIPE = (
    *("auc", "auc_low", "auc_high", "accuracy", "balanced_accuracy", "ap", "tpr_at_fpr_1e_2"),
    *("eer", "ece", "threshold", "val_auc_mean", "val_auc_std", "n_test", "pretrained"),
)
OF_AUDIT = ("leaks", "warnings", "worst_probe", "worst_probe_auc")


def of_recipe(metrics: Metrics) -> Metrics:
    """metrics/RECIPE.json of what evaluate has found."""
    return _those(metrics, OF_RECIPE)


def of_audit(metrics: Metrics) -> Metrics:
    """metrics/audit.json: leaks, how many warnings, and the shortcut that tells most."""
    return _those(metrics, OF_AUDIT)


def of_ladder(metrics: Metrics) -> Metrics:
    """metrics/ladder.json: the rung that makes every mistake: what it reports, what is true, and the gap."""
    last = f"rung_{sum(key.endswith('_name') for key in metrics) - 1}"
    return _those(metrics, (f"{last}_{key}" for key in ("name", "reported_auc", "true_auc", "gap_auc")))


def of_pairs(metrics: Metrics) -> Metrics:
    """metrics/cross.json and metrics/summary.json: the AUC, or the difference of two, of each pair."""
    return _those(metrics, (key for key in metrics if key.endswith("_auc")))


def _those(metrics: Metrics, keys: Iterable[str]) -> Metrics:
    return {key: metrics[key] for key in keys}


def write_metrics(
    metrics: Metrics, out: Path, details: Path | None = None, *, headline: Callable[[Metrics], Metrics]
) -> None:
    """Write all of `metrics` to `details` (default: `out`'s name in the folder details beside it), the headline to `out`.

    A null has its `<key>_reason` in the details alone.
    """
    write_json(details or out.parent / "details" / out.name, metrics)
    write_json(out, headline(metrics))


def one_line(metrics: Metrics) -> str:
    """The figures of an evaluation on one line."""
    m = metrics
    if m["auc"] is None:
        return f"no AUC ({m['auc_reason']}); accuracy {m['accuracy']:.3f} on {m['n_test']} images"
    auc, accuracy = (
        f"{m[key]:.3f} "
        + ("without interval" if m[f"{key}_low"] is None else f"[{m[f'{key}_low']:.3f}, {m[f'{key}_high']:.3f}]")
        for key in ("auc", "accuracy")
    )
    return f"test AUC {auc}, accuracy {accuracy}, {m['n_test']} images"
