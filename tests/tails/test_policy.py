"""What a policy calls real, fake and undecided, and how it is set on out-of-fold scores."""

from __future__ import annotations

import numpy as np

from ffdi.tails.policy import Policy

SCORES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def test_a_threshold_alone_decides_every_image() -> None:
    policy = Policy(0.5)
    assert policy.verdicts(SCORES).tolist() == ["real", "real", "fake", "fake", "fake"]
    assert Policy.of_record(policy.record) == policy and list(policy.record) == ["threshold"]


def test_scores_within_the_band_are_undecided() -> None:
    """The low end belongs to the band, the high end to the fakes, as the threshold does."""
    policy = Policy(0.5, 0.3, 0.7, {"abstain_low": 0.3, "abstain_high": 0.7})
    assert policy.verdicts(SCORES).tolist() == ["real", "undecided", "undecided", "fake", "fake"]
    assert Policy.of_record(policy.record) == policy
