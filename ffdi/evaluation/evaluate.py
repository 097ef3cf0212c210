"""Bundle + test shards -> metrics/details/NAME.json and the tables of its plots."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap, auc_interval
from ffdi.errors import FfdiError, InputError
from ffdi.evaluation import below_chance
from ffdi.evaluation.attributes import attribute_metrics, by_attribute
from ffdi.evaluation.cost import cost
from ffdi.evaluation.robustness import VIEW
from ffdi.features.store import FeatureStore
from ffdi.features.views import parse_level
from ffdi.intake.tables import write_table
from ffdi.metrics import Metrics, auc, evaluate_scores, explain_nulls, reliability, roc_points
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.bundle import Bundle, mean_score
from ffdi.tails.checkpoint import Scores


@dataclass(frozen=True)
class Evaluation:
    """`metrics` is metrics/details/NAME.json; `plots` maps a table's name (roc, pr, confusion, ...) to its rows."""

    metrics: Metrics
    plots: Mapping[str, pd.DataFrame]

    def write_plots(self, folder: Path) -> None:
        """One csv a plot; tables of a former run that are not made now are deleted."""
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.csv"):
            if stale.stem not in self.plots:
                stale.unlink()
        for name, table in self.plots.items():
            write_table(folder / f"{name}.csv", table)


def evaluate(
    bundle: Bundle,
    store: FeatureStore,
    rows: pd.DataFrame,
    *,
    bootstrap: Bootstrap,
    memory_gb: float,
    device: torch.device,
    perturbed: Mapping[str, FeatureStore] | None = None,
    oof: pd.DataFrame | None = None,
    timed: MutableMapping[str, float] | None = None,
) -> Evaluation:
    """Score the test rows of `rows` (images.csv joined with folds.csv) once, with the bundle's frozen threshold.

    `perturbed` has the features of the same test rows by level of perturbed_features, `oof` is the bundle's oof.csv;
    `timed` is told the seconds that all tails took for `images` test images, which are no part of the metrics. Raises
    InputError when there are no test rows, ShardError when the shards are of other features.
    """
    bundle.refuse_other_features(store.spec)
    test = test_rows(rows)
    ids, labels = list(test["image_id"]), test["label"].to_numpy()
    before = state_hash(bundle)

    def loaded(features: FeatureStore, view: int) -> FeatureTable:
        return load_table(features, ids, list(labels), views=view, memory_gb=memory_gb, device=device)

    table, started = loaded(store, 0), time.perf_counter()
    by_fold = bundle.fold_scores(table, device)
    if timed is not None:
        timed.update({"tails": time.perf_counter() - started, "images": len(ids)})
    levels = [(level, bundle.scores(loaded(own, VIEW), device)) for level, own in (perturbed or {}).items()]
    if state_hash(bundle) != before:
        raise FfdiError("evaluation changed the model: a defect of ffdi")
    judged = judge(bundle, test, by_fold, bootstrap=bootstrap)
    options: dict[str, Any] = {"threshold": bundle.threshold, "bootstrap": bootstrap}
    rows_of = [[level, *parse_level(level)[:2], *_figures(test, scores, **options)] for level, scores in levels]
    sweep = pd.DataFrame(rows_of, columns=["level", "kind", "strength", *AUC_COLUMNS])
    figures = {
        f"robustness_{row['level'].replace('-', '_').replace('.', '_')}_{figure}": row[figure]
        for row in sweep.to_dict("records")
        for figure in AUC_COLUMNS
    }
    if oof is not None:
        figures |= validation(oof, rows, bootstrap=bootstrap)
    metrics = judged.metrics | explain_nulls(figures, "one class, or one group") | cost(bundle, store.spec)
    by_level = pd.DataFrame(dict(levels), index=ids)
    scores = judged.plots["scores"].join(by_level, on="image_id")
    return Evaluation(below_chance.mark(metrics), {**judged.plots, "scores": scores, "robustness": sweep})


def validation(oof: pd.DataFrame, rows: pd.DataFrame, *, bootstrap: Bootstrap) -> dict[str, float]:
    """`fold_K_val_auc` with its interval over groups, of oof.csv's scores; NaN where undefined.

    A fold whose labels are turned round against the rest is seen here and nowhere else.
    """
    known = oof.merge(rows[["image_id", "group"]], on="image_id")
    out: dict[str, float] = {}
    for fold, own in known.groupby("fold"):
        labels, scores = own["label"].to_numpy(), own["score"].to_numpy()
        low, high = auc_interval(labels, scores, own["group"].to_numpy(str), bootstrap=bootstrap)
        key = f"fold_{fold}_val_auc"
        out |= {key: auc(labels, scores), f"{key}_low": low, f"{key}_high": high}
    return out


def test_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of role test; InputError when there are none."""
    test: pd.DataFrame = rows[rows["role"] == "test"]
    if test.empty:
        raise InputError("folds.csv has no test rows: nothing to evaluate")
    return test


def judge(bundle: Bundle, test: pd.DataFrame, by_fold: Mapping[int, Scores], *, bootstrap: Bootstrap) -> Evaluation:
    """What the scores of each fold's tail on `test` are worth: of all folds together, of each alone, by attribute."""
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    scores = mean_score(by_fold)
    options: dict[str, Any] = {"threshold": bundle.threshold, "bootstrap": bootstrap}
    metrics = evaluate_scores(labels, scores, groups, **options)
    rows = [[fold, *_figures(test, own, **options)] for fold, own in by_fold.items()]
    alone = pd.DataFrame(rows, columns=["fold", *AUC_COLUMNS])
    for row in alone.to_dict("records"):
        metrics |= {f"fold_{row['fold']}_{name}": row[name] for name in AUC_COLUMNS}
    folds = list(bundle.facts["val_auc"].values())
    metrics |= {"val_auc_mean": float(np.mean(folds)), "val_auc_std": None}
    if len(folds) > 1:
        metrics["val_auc_std"] = float(np.std(folds, ddof=1))
    else:
        metrics["val_auc_std_reason"] = "one fold has no spread"
    provenance = bundle.facts["provenance"]
    metrics |= {
        "temperature": bundle.temperature,
        "folds": len(folds),
        "network": bundle.backbone.network,
        "cut": bundle.backbone.cut,
        "pretrained": bool(provenance["pretrained"]),
        "weights": str(provenance["weights"]),
        "weights_sha256": str(provenance["weights_sha256"]),
        "trained_on": str(provenance["data"]),
        "synthesised": int(provenance["synthesised"]),
    }
    attributes = by_attribute(test, scores, **options)
    metrics |= attribute_metrics(test, attributes)
    plots = _plots(test, scores, by_fold, bundle.threshold) | {"folds": alone, "attributes": attributes}
    return Evaluation(explain_nulls(metrics, "one class, or one group, in the test set"), plots)


AUC_COLUMNS = ["auc", "auc_low", "auc_high", "accuracy"]


def _figures(test: pd.DataFrame, scores: Scores, *, threshold: float, bootstrap: Bootstrap) -> list[float]:
    """AUC_COLUMNS of one set of scores: NaN where undefined; the threshold is the frozen one."""
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    low, high = auc_interval(labels, scores, groups, bootstrap=bootstrap)
    return [auc(labels, scores), low, high, float(((scores >= threshold) == labels).mean())]


def state_hash(bundle: Bundle) -> str:
    """sha256 over every parameter and buffer of a bundle."""
    digest = hashlib.sha256()
    for module in bundle.modules():
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _plots(
    test: pd.DataFrame, scores: Scores, by_fold: Mapping[int, Scores], threshold: float
) -> dict[str, pd.DataFrame]:
    from sklearn.metrics import precision_recall_curve

    labels = test["label"].to_numpy()
    names = np.array(["real", "fake"])
    predicted = (scores >= threshold).astype(int)
    order = np.lexsort((test["image_id"], -scores))
    plots = {
        "confusion": pd.DataFrame({"actual": names[labels], "predicted": names[predicted]}),
        "calibration": pd.DataFrame(reliability(labels, scores), columns=["score", "fakes", "images"]),
        "scores": pd.DataFrame(
            {"image_id": test["image_id"], "label": labels, "score": scores}
            | {f"fold_{fold}": alone for fold, alone in by_fold.items()}
        ).iloc[order],
        # Without rows where a class is missing: DVC wants the file.
        "roc": pd.DataFrame(columns=["fpr", "tpr", "threshold"]),
        "pr": pd.DataFrame(columns=["recall", "precision"]),
    }
    if len(np.unique(labels)) == 2:
        fpr, tpr, at = roc_points(labels, scores)
        precision, recall, _ = precision_recall_curve(labels, scores)
        plots["roc"] = pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": at})
        plots["pr"] = pd.DataFrame({"recall": recall[::-1], "precision": precision[::-1]})
    return plots
