"""A recipe on test images that were compressed, shrunk, blurred, ...: views of the engine, cached like all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ffdi.console import Console
from ffdi.features.backbone import Views
from ffdi.features.extract import extract_features
from ffdi.features.extractor import Extractor
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.features.views import as_written, parse_level
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.bundle import Bundle

VIEW = 1  # the view that is perturbed; view 0 is clean in every shard


def perturbed_prefix(prefix: Extractor, level: str) -> Extractor:
    """The same prefix on views that have one perturbation, drawn from the image alone where it is random."""
    operations = parse_level(level)[2]
    views = {"views": [dict(operation) for operation in operations], "view_seed": 0}
    return replace(
        prefix,
        backbone=replace(prefix.backbone, views=Views(VIEW, as_written(operations), seed=0)),
        spec=replace(prefix.spec, policy=dict(prefix.spec.policy) | views),
    )


def perturbed_features(
    bundle: Bundle,
    spec: FeatureSpec,
    test: pd.DataFrame,
    levels: Sequence[str],
    *,
    root: Path,
    out: Path,
    shard_rows: int,
    workers: int | None,
    max_pixels: int,
    progress: Callable[[Iterable[str], int], Iterable[str]] = lambda levels, total: levels,
    say: Callable[[str], None] = lambda line: None,
) -> Mapping[str, FeatureStore]:
    """The features of every test image at each level, in `out`/LEVEL; a row that is there is never computed again.

    `spec` is that of the clean features, which must be the bundle's; a level's is the same but for its views, so what
    the spec names computes it, whatever else this machine has. Levels that are in `out` and not in `levels` are kept:
    another recipe may be judged by them. Raises as `extract` does, and ShardError where what the spec names cannot run.
    """
    bundle.refuse_other_features(spec)
    clean = bundle.extractor(spec)
    told: set[str] = set()

    def tell(line: str) -> None:  # once, though each level meets it
        if line not in told:
            told.add(line)
            say(f"robustness: {line}")

    for level in progress(levels, len(levels)):
        extract_features(
            test.assign(role="perturbed"),
            perturbed_prefix(clean, level),
            out / level,
            source=ImageSource(root, max_pixels),
            settings=ExtractSettings(workers=workers or "auto", shard_rows=shard_rows),
            console=Console(alert=tell),
        )
    return {level: FeatureStore(out / level) for level in levels}
