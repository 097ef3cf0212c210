"""AUCs whose whole interval lies below .5, and the most likely reason for each.

A model that has learned nothing has an AUC of about .5. A model that is wrong more often than by chance has learned well,
but the labels mean opposite things in two places: two well-known tables have 1 = real.
"""

from __future__ import annotations

from ffdi.metrics import Metrics

TURNED = "the whole interval lies below .5"


def mark(metrics: Metrics) -> Metrics:
    """`metrics` with `below_chance`, how many AUCs lie below chance, and if there are any, their keys in `below_chance_at`."""
    keys = keys_below(metrics)
    where: Metrics = {"below_chance_at": ", ".join(keys)} if keys else {}
    return metrics | {"below_chance": len(keys)} | where


def explain(metrics: Metrics) -> list[str]:
    """A sentence for each kind of AUC below chance among a recipe's `metrics`, the most important first.

    When the whole test set lies below chance, so do most of its parts, and one sentence stands for all of them.
    """
    below = keys_below(metrics)
    out = []
    folds = [key for key in below if key.startswith("fold_") and key.endswith("_val_auc")]
    if "auc" in below:
        where = f"on {metrics['tested_on']}" if "tested_on" in metrics else "on the test set"
        out.append(
            f"{auc_and_interval(metrics, 'auc')} {where}: {TURNED}, so its labels are most likely turned round (1 = real?): "
            "set data.classes to what they mean, such as {'0': 1, '1': 0}"
        )
    if folds:
        out.append(
            f"{_named(metrics, folds)}: {TURNED}, so the labels of that part of the training images are most likely turned "
            "round against the rest"
        )
    if "auc" in below:
        return out
    tails = [key for key in below if key.startswith("fold_") and key not in folds]
    if tails:
        out.append(
            f"{_named(metrics, tails)} on the test set: {TURNED}, so what that fold trained on is most likely turned round"
        )
    if together := [key for key in below if key.startswith("unit_") and not key.startswith("unit_fold_")]:
        out.append(
            f"{_named(metrics, together)}: {TURNED}, though images alone are not: check what {metrics['unit']} holds"
        )
    if held_out := [key for key in below if key.startswith("held_out_")]:
        out.append(
            f"{_named(metrics, held_out)}: {TURNED}, so fakes that it never saw look more real to it than real ones"
        )
    if handled := [key for key in below if key.startswith(("robustness_", "robust_", "worst_"))]:
        out.append(
            f"{_named(metrics, handled)}: {TURNED}, so images that were handled so most likely get the opposite verdict"
        )
    if parts := [key for key in below if key.startswith("attr_")]:
        out.append(f"{_named(metrics, parts)}: {TURNED}, so the labels of these images are most likely turned round")
    return out


def keys_below(metrics: Metrics) -> list[str]:
    """The keys of AUCs whose interval's high end is below .5."""
    ends = [key for key in metrics if key.endswith("auc_high")]
    return [key.removesuffix("_high") for key in ends if isinstance(end := metrics[key], float) and end < 0.5]


def _named(metrics: Metrics, keys: list[str], most: int = 3) -> str:
    named = "; ".join(f"{key.removesuffix('_auc')}: {auc_and_interval(metrics, key)}" for key in keys[:most])
    return named + (f" and {len(keys) - most} more" if len(keys) > most else "")


def auc_and_interval(metrics: Metrics, key: str) -> str:
    """The AUC of a key and its interval, such as `AUC 0.912 [0.874, 0.943]`."""
    return f"AUC {metrics[key]:.3f} [{metrics[f'{key}_low']:.3f}, {metrics[f'{key}_high']:.3f}]"
