"""Extraction on a Ray cluster has the bytes of one on this machine, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Tiny
from tiny_extraction import contents

from ffdi.console import Console
from ffdi.features.backbone import Backbone
from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.settings import ExtractSettings, RaySettings
from ffdi.intake.decoding.images import ImageSource

pytestmark = pytest.mark.ray


class Extraction:
    """extraction(engine, out) extracts the tiny set in shards of 16 rows."""

    def __init__(self, tiny: Tiny, backbone: Backbone, weights: Path) -> None:
        self.tiny, self.backbone, self.weights = tiny, backbone, weights
        self.root = tiny.root
        self.lines: list[str] = []

    def __call__(self, engine: Any, out: Path, **ray: Any) -> ExtractionSummary:
        return extract_features(
            self.tiny.rows,
            load_extractor(self.backbone, self.weights),
            out,
            source=ImageSource(self.root, 10**6),
            settings=ExtractSettings(engine=engine, shard_rows=16, ray=RaySettings(**ray)),
            console=Console(say=self.lines.append),
        )


@pytest.fixture
def extraction(tiny: Tiny, backbone: Callable[..., Backbone], weights: Path) -> Extraction:
    return Extraction(tiny, backbone(), weights)


def test_one_and_two_workers_give_the_bytes_of_the_local_engine(
    ray_cluster: Any, extraction: Extraction, tmp_path: Path
) -> None:
    extraction("local", tmp_path / "here")
    for workers in (1, 2):
        out = tmp_path / f"ray{workers}"
        done = extraction("ray", out, max_in_flight=workers)
        assert done.computed == done.rows > 48 and done.seconds["prefix"] > 0
        assert contents(out) == contents(tmp_path / "here")
    assert extraction("ray", out).computed == 0
