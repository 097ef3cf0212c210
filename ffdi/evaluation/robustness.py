"""Features of test images that were compressed, shrunk, blurred, ..., as a bundle is judged on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from ffdi.console import Console
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.perturbed import PerturbationSweep, extract_perturbed, views_of
from ffdi.features.store import FeatureStore
from ffdi.tails.bundle import Bundle


def perturbed_features(
    bundle: Bundle, spec: FeatureSpec, test: pd.DataFrame, sweep: PerturbationSweep, console: Console = Console()
) -> Mapping[str, FeatureStore]:
    """The features of every test image at each level, and at the bundle's `tta` of the clean and of each perturbed
    image (`hflip`, `jpeg-30+hflip`): see extract_perturbed.

    `spec` is that of the clean features, which must be the bundle's: ShardError.
    """
    bundle.refuse_other_features(spec)
    tta = bundle.tta
    seen = [*tta, *(chain for level in sweep.levels for chain in (level, *views_of(level, tta)))]
    said = replace(console, alert=lambda line: console.say(f"robustness: {line}"))
    return extract_perturbed(bundle.extractor(spec), test, replace(sweep, levels=list(dict.fromkeys(seen))), said)
