"""What a run of the pipeline reported, and the scores behind it; figure_rules.py compares two of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.evaluation.headline import RESERVED_NAMES

MOST, MEAN = 0.2, 0.05  # of the standard deviation of a recipe's scores
MOST_FLOOR, MEAN_FLOOR = 0.005, 0.001
DIGEST_ROWS = 2000
DIGITS = 1e-6  # a digest has six of them
Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Figures:
    """What one run reported, by the name of its file: `metrics`, and by recipe what they were made from.

    `scores`: image_id, label, score, and a column for each fold (`fold_0`) and level (`jpeg-50`), of the test images.
    `oof`: label and score, out of fold. `away`: label and score on another data set, by `RECIPE_on_DATA`.
    `images`: image_id and the `attr_*` of every image.
    """

    metrics: Mapping[str, Metrics]
    scores: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    oof: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    away: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    images: pd.DataFrame | None = None

    @property
    def recipes(self) -> list[str]:
        return [name for name in self.metrics if name not in RESERVED_NAMES]


def read_figures(metrics: Path, *, plots: Path, models: Path, cross: Path, images: Path) -> Figures:
    """The figures in `metrics`, and what is there of the scores behind them."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(metrics.glob("*.json"))}
    recipes = [name for name in found if name not in RESERVED_NAMES]

    def tables(files: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
        return {name: pd.read_csv(file) for name, file in files.items() if file.exists()}

    attributes = None
    if images.exists():
        attributes = pd.read_csv(images, dtype=str, keep_default_na=False).filter(regex="^(image_id$|attr_)")
    return Figures(
        found,
        tables({name: plots / name / "test/scores.csv" for name in recipes}),
        tables({name: oof_file(models, name) for name in recipes}),
        tables({f.stem.removesuffix("-scores").replace("-on-", "_on_"): f for f in cross.glob("*-scores.csv")}),
        attributes,
    )


def oof_file(models: Path, name: str) -> Path:
    """Where the out-of-fold scores of a recipe are, or of an ensemble, whose folder lies beside that of the recipes."""
    ensemble = models.parent / "ensembles" / name / "oof.csv"
    return ensemble if ensemble.exists() else models / name / "oof.csv"


def digest(scores: pd.DataFrame) -> pd.DataFrame:
    """What git keeps of a recipe's scores: at most DIGEST_ROWS, a random sample, for an image_id is a hash."""
    return scores.filter(regex="^(image_id|label|score|fold_.*)$").sort_values("image_id").head(DIGEST_ROWS).round(6)


def score_differences(recorded: pd.DataFrame, made: pd.DataFrame) -> list[str]:
    """Whether the recorded test images have about the same scores now."""
    both = recorded.merge(made[["image_id", "label", "score"]], on="image_id", how="left", suffixes=("", "_now"))
    if (both["label"] != both["label_now"]).any():
        changed = int((both["label"] != both["label_now"]).sum())
        return [f"{changed} of {len(both)} test images are others now, or have another label"]
    moved, (most, mean) = (both["score"] - both["score_now"]).abs(), may_move(both["score"])
    if moved.max() <= most + DIGITS and moved.mean() <= mean + DIGITS:
        return []
    return [
        f"test scores differ by {moved.mean():.4f} on average and {moved.max():.4f} at most, over {len(both)} images; "
        f"another machine explains {mean:.4f} and {most:.4f}"
    ]


def may_move(scores: pd.Series) -> tuple[float, float]:
    """How far one of a recipe's scores may move, and all of them on average."""
    spread = float(scores.std(ddof=0))
    return max(MOST_FLOOR, MOST * spread), max(MEAN_FLOOR, MEAN * spread)
