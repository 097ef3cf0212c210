"""What the rules of a threshold choose it by, on out-of-fold scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def goodness(rule: str, labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], threshold: float) -> float:
    """The more the better: with rule accuracy the accuracy, else the true-positive less the false-positive rate."""
    called = scores >= threshold
    if rule == "accuracy":
        return float((called == labels).mean())
    return float(called[labels == 1].mean() - called[labels == 0].mean())
