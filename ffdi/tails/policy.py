"""A score becomes a verdict: the threshold, and the band of scores that are left undecided.

policy = fit_policy(labels, scores, groups, PolicySettings(ThresholdRule("fpr", 0.01)), Bootstrap(2000))
policy.verdicts(scores)                 # (N,) "real", "fake" or "undecided"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.bootstrap import Array, Bootstrap
from ffdi.metrics import best_threshold
from ffdi.tails.policy_settings import PolicySettings


@dataclass(frozen=True)
class Policy:
    """An image is called fake when its score is at least `threshold`. With an abstain band it is called fake from `high`
    on, real below `low`, and is undecided between them.

    `facts` says how the policy was set, and what is expected of it: the entry `policy` of bundle.json, empty for the
    default rule without a band.
    """

    threshold: float
    low: float | None = None
    high: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def abstains(self) -> bool:
        """Whether there is a band of undecided scores."""
        return self.low is not None

    def verdicts(self, scores: Array) -> npt.NDArray[np.str_]:
        """(N,) `real`, `fake` or `undecided`."""
        low = self.threshold if self.low is None else self.low
        high = self.threshold if self.high is None else self.high
        return np.where(scores >= high, "fake", np.where(scores < low, "real", "undecided"))

    @property
    def record(self) -> dict[str, Any]:
        """The entries of bundle.json: `threshold`, and `policy` where it is not the default."""
        return {"threshold": self.threshold, **({"policy": dict(self.facts)} if self.facts else {})}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Policy:
        """The policy of a bundle.json."""
        facts = record.get("policy", {})
        return cls(record["threshold"], facts.get("abstain_low"), facts.get("abstain_high"), facts)


def fit_policy(labels: Array, scores: Array, groups: Array, settings: PolicySettings, bootstrap: Bootstrap) -> Policy:
    """The policy of (N,) out-of-fold scores; `groups` (N,) are those of the images."""
    return Policy(best_threshold(labels, scores))
