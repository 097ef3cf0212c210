"""Rows as a layout lists them, and their ingestion."""

from pathlib import Path
from typing import Any

import pandas as pd

from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import Intake, ingest


def listing(*rows: tuple[str, int], group: str = "", given_split: str = "") -> pd.DataFrame:
    return pd.DataFrame([{"path": p, "label": y, "group": group, "given_split": given_split} for p, y in rows])


def run(listed: pd.DataFrame, root: Path, **changes: Any) -> Intake:
    return ingest(listed, ImageSource(root, changes.pop("max_pixels", 10**6)), **changes)
