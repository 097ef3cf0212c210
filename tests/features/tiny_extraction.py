"""Extractions of the tiny data set, as the tests of several files run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from conftest import Tiny

from ffdi.console import Console
from ffdi.features.backbone import Backbone
from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.settings import ExtractSettings
from ffdi.intake.decoding.images import ImageSource


@dataclass(frozen=True)
class TinyExtraction:
    """extraction(rows, dtype="float32", ...) extracts rows of the tiny set, by default its first twelve, into `out`.

    Options that are named below are those of the extraction; all others change the backbone.
    """

    tiny: Tiny
    backbone: Callable[..., Backbone]
    weights: Path
    out: Path

    def __call__(
        self,
        rows: pd.DataFrame | None = None,
        *,
        root: Path | None = None,
        out: Path | None = None,
        workers: int = 2,
        store: str | None = None,
        console: Console = Console(),
        load: Callable[..., Any] = load_extractor,
        **changes: Any,
    ) -> ExtractionSummary:
        return extract_features(
            self.tiny.rows.head(12) if rows is None else rows,
            load(self.backbone(**changes), self.weights),
            out or self.out,
            source=ImageSource(root or self.tiny.root, 10**6),
            settings=ExtractSettings(workers=workers, shard_rows=7, store=store),
            console=console,
        )


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file in a folder of features."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}
