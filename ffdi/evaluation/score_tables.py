"""Labels and scores of a test set -> the tables that DVC plots and the report draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ffdi.evaluation.units import UNIT
from ffdi.metrics import reliability, roc_points
from ffdi.tails.model import ModelScores

SCORES = "scores"  # the table with a row an image


def score_tables(
    test: pd.DataFrame, of_model: ModelScores, threshold: float, units: Sequence[str] = ()
) -> dict[str, pd.DataFrame]:
    """The tables confusion, calibration, scores, roc and pr by name. `of_model` has the scores of the rows of `test`, `units`
    the unit of each, where units are judged: a column of the scores."""
    from sklearn.metrics import precision_recall_curve

    scores, labels = of_model.mean, test["label"].to_numpy()
    names = np.array(["real", "fake"])
    predicted = (scores >= threshold).astype(int)
    order = np.lexsort((test["image_id"], -scores))
    plots = {
        "confusion": pd.DataFrame({"actual": names[labels], "predicted": names[predicted]}),
        "calibration": pd.DataFrame(reliability(labels, scores), columns=["score", "fakes", "images"]),
        SCORES: pd.DataFrame(
            {"image_id": test["image_id"], "label": labels, "score": scores}
            | {f"fold_{fold}": alone for fold, alone in of_model.by_fold.items()}
            | ({UNIT: units} if len(units) else {})
        ).iloc[order],
        # They have no rows when a class is missing, because DVC needs the file.
        "roc": pd.DataFrame(columns=["fpr", "tpr", "threshold"]),
        "pr": pd.DataFrame(columns=["recall", "precision"]),
    }
    if len(np.unique(labels)) == 2:
        fpr, tpr, at = roc_points(labels, scores)
        precision, recall, _ = precision_recall_curve(labels, scores)
        plots["roc"] = pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": at})
        plots["pr"] = pd.DataFrame({"recall": recall[::-1], "precision": precision[::-1]})
    return plots
