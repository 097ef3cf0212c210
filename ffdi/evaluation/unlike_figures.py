"""How many images lie beyond the limit of a model's training, see TrainingIndex."""

from __future__ import annotations

import numpy as np

from ffdi.bootstrap import Array, Bootstrap, rate_interval
from ffdi.metrics import Metrics
from ffdi.tails.checkpoint import Scores

NO_INDEX = "the model has no index of its training: train it again"
KEYS = tuple(f"unlike_share{kind}{end}" for kind in ("", "_real", "_fake") for end in ("", "_low", "_high"))


def unlike_metrics(distance: Scores | None, labels: Array, groups: Array, *, bootstrap: Bootstrap) -> Metrics:
    """`unlike_share` of (N,) images whose `distance` is above 1, with its interval over groups; of reals and of fakes.

    Nulls, with their reason, where no distance is known; NaN where there are no such images, or one group.
    """
    if distance is None:
        return dict.fromkeys(KEYS) | {f"{key}_reason": NO_INDEX for key in KEYS}
    out: Metrics = {}
    for kind, chosen in (("", labels == labels), ("_real", labels == 0), ("_fake", labels == 1)):
        beyond, key = distance[chosen] > 1, f"unlike_share{kind}"
        ends = rate_interval(beyond, groups[chosen], bootstrap=bootstrap) if len(beyond) else (np.nan, np.nan)
        out |= {key: share(distance[chosen]), f"{key}_low": ends[0], f"{key}_high": ends[1]}
    return out


def share(distance: Scores | None) -> float:
    """The share of images beyond the limit; NaN of none, and where no distance is known."""
    return float("nan") if distance is None or not len(distance) else float((distance > 1).mean())
