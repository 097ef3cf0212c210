"""The tables of a bundle, csv or Parquet: the scores out of fold, and the images of the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.intake.table_files.names import found_table
from ffdi.intake.tables import read_table
from ffdi.tails.record import seen_file


def read_oof(folder: Path) -> pd.DataFrame:
    """The out-of-fold scores of a bundle: image_id, fold, label, logit, score. load_bundle checks the file's hash."""
    table = read_table(found_table(folder / "oof"), ("image_id", "fold", "label", "logit", "score"))
    typed: pd.DataFrame = table.astype({"fold": int, "label": int, "logit": float, "score": float})
    return typed


def read_seen(folder: Path, record: Mapping[str, Any]) -> pd.DataFrame:
    """image_id and phash of every image that the model of a bundle.json was trained on."""
    return read_table(folder / seen_file(record), ("image_id", "phash"))
