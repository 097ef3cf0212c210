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

    `changes` are of the settings of the extraction, or else of the backbone.
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
        console: Console = Console(),
        load: Callable[..., Any] = load_extractor,
        **changes: Any,
    ) -> ExtractionSummary:
        of_settings = {name: changes.pop(name) for name in ("engine", "workers", "store") if name in changes}
        return extract_features(
            self.tiny.rows.head(12) if rows is None else rows,
            load(self.backbone(**changes), self.weights),
            out or self.out,
            source=ImageSource(root or self.tiny.root, 10**6),
            settings=ExtractSettings(**{"workers": 2, "shard_rows": 7} | of_settings),
            console=console,
        )


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file in a folder of features."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}
