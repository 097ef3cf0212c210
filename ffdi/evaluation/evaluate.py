"""Bundle + test shards -> metrics/NAME.json and the tables of its plots."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ffdi.errors import FfdiError, InputError
from ffdi.features.store import FeatureStore
from ffdi.intake.tables import write_table
from ffdi.metrics import Metrics, evaluate_scores, explain_nulls, reliability, roc_points
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import Bundle, modules_of


@dataclass(frozen=True)
class Evaluation:
    """`metrics` is metrics/NAME.json; `plots` maps a table's name (roc, pr, confusion, ...) to its rows."""

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
    resamples: int,
    seed: int,
    memory_gb: float,
    device: torch.device,
) -> Evaluation:
    """Score the test rows of `rows` (images.csv joined with folds.csv) once, with the bundle's frozen threshold.

    Raises InputError when there are no test rows, ShardError when the shards are of other features.
    """
    bundle.refuse_other_features(store.spec)
    test = rows[rows["role"] == "test"]
    if test.empty:
        raise InputError("folds.csv has no test rows: nothing to evaluate")
    labels = test["label"].to_numpy()
    table = load_table(store, list(test["image_id"]), list(labels), views=False, memory_gb=memory_gb, device=device)
    before = state_hash(bundle)
    scores = bundle.scores(table, device)
    if state_hash(bundle) != before:
        raise FfdiError("evaluation changed the model: a defect of ffdi")
    metrics = evaluate_scores(
        labels, scores, test["group"].to_numpy(str), threshold=bundle.threshold, resamples=resamples, seed=seed
    )
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
        "synthesised": int(provenance.get("synthesised", 0)),
    }
    return Evaluation(explain_nulls(metrics, "one class in the test set"), _plots(test, scores, bundle.threshold))


def state_hash(bundle: Bundle) -> str:
    """sha256 over every parameter and buffer of a bundle."""
    digest = hashlib.sha256()
    for module in modules_of(bundle):
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _plots(test: pd.DataFrame, scores: np.ndarray, threshold: float) -> dict[str, pd.DataFrame]:
    from sklearn.metrics import precision_recall_curve

    labels = test["label"].to_numpy()
    names = np.array(["real", "fake"])
    predicted = (scores >= threshold).astype(int)
    order = np.lexsort((test["image_id"], -scores))
    plots = {
        "confusion": pd.DataFrame({"actual": names[labels], "predicted": names[predicted]}),
        "calibration": pd.DataFrame(reliability(labels, scores), columns=["score", "fakes", "images"]),
        "scores": pd.DataFrame({"image_id": test["image_id"], "label": labels, "score": scores}).iloc[order],
        "roc": pd.DataFrame(
            columns=["fpr", "tpr", "threshold"]
        ),  # without rows where a class is missing: DVC wants the file
        "pr": pd.DataFrame(columns=["recall", "precision"]),
    }
    if len(np.unique(labels)) == 2:
        fpr, tpr, at = roc_points(labels, scores)
        precision, recall, _ = precision_recall_curve(labels, scores)
        plots["roc"] = pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": at})
        plots["pr"] = pd.DataFrame({"recall": recall[::-1], "precision": precision[::-1]})
    return plots
