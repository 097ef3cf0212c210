"""The linear classifier of the probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.intake.groups import drawn_order


def linear_classifier() -> Any:
    """A logistic regression on standardised features.

    Its classes are balanced: without that, a fold's share of fakes would shift its scores and with them the pooled AUC.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"))


def cross_validated_scores(
    features: npt.NDArray[Any], label: npt.NDArray[np.int64], group: npt.NDArray[np.str_]
) -> npt.NDArray[np.float64] | None:
    """(N,) out-of-fold scores, by group, of (N, D) features; None when there are too few groups or one class."""
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    folds = min(5, *(len(np.unique(group[label == c])) for c in (0, 1)))
    if folds < 2:
        return None
    cv, groups, model = StratifiedGroupKFold(folds), drawn_order(group, 0), linear_classifier()
    return np.asarray(cross_val_predict(model, features, label, groups=groups, cv=cv, method="decision_function"))
