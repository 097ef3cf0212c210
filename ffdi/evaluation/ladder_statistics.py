"""The figures of the ladder: means over the seeds, intervals, and the flat keys of metrics/details/ladder.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.bootstrap import Bootstrap, auc_interval, seeds_interval
from ffdi.evaluation.experiment import RungResult
from ffdi.evaluation.headline import rung_count
from ffdi.metrics import Metrics, auc, explain_nulls


def ladder_metrics(
    runs: Mapping[str, Sequence[RungResult]],
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    *,
    bootstrap: Bootstrap,
) -> Metrics:
    """`rung_N_*` for each rung of `runs`, which has the results of every seed by the rung's name.

    `labels` and `groups` (N,) are those of the test images. All figures are means over the seeds. `_low` and `_high` are
    of the test set (bootstrap over groups), `_seeds_low` and `_seeds_high` of the seeds. None with a reason when the test
    set has one class.
    """
    out: Metrics = {}
    for number, (name, results) in enumerate(runs.items()):
        scores = np.stack([result.test_scores for result in results])
        low, high = auc_interval(labels, scores, groups, bootstrap=bootstrap)
        true = np.array([auc(labels, of_seed) for of_seed in scores])
        reported = np.array([result.reported_auc for result in results])
        reported_mean, true_mean = float(np.mean(reported)), float(np.mean(true))
        metrics: Metrics = {
            "name": name,
            "reported_auc": reported_mean,
            "true_auc": true_mean,
            "true_auc_low": low,
            "true_auc_high": high,
            "gap_auc": reported_mean - true_mean,
            "gap_auc_low": reported_mean - high,
            "gap_auc_high": reported_mean - low,
            "reported_accuracy": float(np.mean([result.reported_accuracy for result in results])),
            "true_accuracy": float(((scores >= 0.5) == labels).mean()),
        }
        if len(results) > 1:
            for figure, values in (("reported", reported), ("true", true), ("gap", reported - true)):
                ends = seeds_interval(values)
                metrics |= {
                    f"{figure}_auc_seeds_{end}": value for end, value in zip(("low", "high"), ends, strict=True)
                }
        out |= {f"rung_{number}_{key}": value for key, value in metrics.items()}
    return explain_nulls(out, "the test set has one class")


def ladder_plot(metrics: Metrics) -> pd.DataFrame:
    """The rows of ladder.csv: the reported and the true AUC of every rung; NaN where it is undefined."""
    rows: list[dict[str, Any]] = []
    for number in range(rung_count(metrics)):
        for figure in ("reported", "true"):
            value = metrics[f"rung_{number}_{figure}_auc"]
            rung = f"{number} {metrics[f'rung_{number}_name']}"
            rows.append({"rung": rung, "figure": figure, "auc": np.nan if value is None else value})
    return pd.DataFrame(rows)


def ladder_lines(metrics: Metrics) -> list[str]:
    """A line for each rung: what it reports, and what is true."""
    lines = []
    for number in range(rung_count(metrics)):
        values = (metrics[f"rung_{number}_{figure}_auc"] for figure in ("reported", "true"))
        reported, true = (f"{value:.3f}" if isinstance(value, float) else "none" for value in values)
        lines.append(f"ladder {number}: reported AUC {reported}, true {true}: {metrics[f'rung_{number}_name']}")
    return lines
