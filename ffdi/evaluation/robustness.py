"""Features of test images that were compressed, shrunk, blurred, ...: the same views and caches as of any extraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ffdi.console import Console, Say
from ffdi.features.backbone import Views
from ffdi.features.extract import extract_features
from ffdi.features.extractor import Extractor
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.features.views import as_written, parse_level
from ffdi.intake.decoding.images import ImageSource
from ffdi.tails.bundle import Bundle

VIEW = 1  # the number of the perturbed view: view 0 is the clean one in every shard


@dataclass(frozen=True)
class PerturbationSweep:
    """How the test images are perturbed, one level after the other, and the folder where the features are cached."""

    levels: Sequence[str]
    folder: Path
    source: ImageSource
    settings: ExtractSettings = ExtractSettings()


def perturbed_features(
    bundle: Bundle, spec: FeatureSpec, test: pd.DataFrame, sweep: PerturbationSweep, console: Console = Console()
) -> Mapping[str, FeatureStore]:
    """The features of every test image at each level, in a folder of that name; existing rows are not computed again.

    `spec` is that of the clean features, which must be the bundle's. The spec of a level differs in its views alone, so
    the runtime that the spec names computes it, even if this machine has another one. Levels in the folder that are not
    in the sweep are kept: the sweep of another recipe may use them. Raises as extract_features does, and ShardError when
    the runtime that the spec names cannot run here.
    """
    bundle.refuse_other_features(spec)
    clean = bundle.extractor(spec)
    once = Console(alert=_once(lambda line: console.say(f"robustness: {line}")))
    for level in console.progress(sweep.levels, len(sweep.levels), unit="levels"):
        extract_features(
            test.assign(role="perturbed"),
            perturbed_extractor(clean, level),
            sweep.folder / level,
            source=sweep.source,
            settings=replace(sweep.settings, compression="none"),
            console=once,
        )
    return {level: FeatureStore(sweep.folder / level) for level in sweep.levels}


def perturbed_extractor(extractor: Extractor, level: str) -> Extractor:
    """The same extractor on views that have one perturbation; its random part depends on the image alone."""
    operations = parse_level(level)[2]
    views = {"views": [dict(operation) for operation in operations], "view_seed": 0}
    return replace(
        extractor,
        backbone=replace(extractor.backbone, views=Views(VIEW, as_written(operations), seed=0)),
        spec=replace(extractor.spec, policy=dict(extractor.spec.policy) | views),
    )


def _once(say: Say) -> Say:
    """Say each line once, though every level of a sweep gives the same warnings."""
    lines = set[str]()

    def say_new(line: str) -> None:
        if line not in lines:
            lines.add(line)
            say(line)

    return say_new
