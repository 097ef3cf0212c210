"""Tables of images to split, and the folds drawn of them."""

from typing import Any

import numpy as np
import pandas as pd

from ffdi.intake.settings import SplitSettings
from ffdi.intake.splitting.folds import assign_folds

NO_PAIRS = np.empty((0, 2), np.int64)


def table(labels: list[int], groups: list[str], given_split: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"id{i:03d}" for i in range(len(labels))],
            "path": [f"{i}.jpg" for i in range(len(labels))],
            "label": labels,
            "group": groups,
            "given_split": given_split or [""] * len(labels),
        }
    )


def assign(images: pd.DataFrame, pairs: Any = NO_PAIRS, **changes: Any) -> pd.DataFrame:
    settings_ = SplitSettings(**({"test_size": 0.25, "folds": 2} | changes))
    return assign_folds(images, np.asarray(pairs, np.int64).reshape(-1, 2), settings_)


def place(out: pd.DataFrame) -> pd.Series:
    return out["role"] + out["fold"]


def balanced(groups: int, each: int = 2) -> pd.DataFrame:
    """Every group has `each` images, real and fake by turns."""
    return table([i % 2 for i in range(groups * each)], [f"g{i // each:03d}" for i in range(groups * each)])


def counts(strata: Any, part: Any, parts: int) -> Any:
    """(strata, parts): images."""
    return np.array([np.bincount(part[strata == s], minlength=parts) for s in np.unique(strata)])
