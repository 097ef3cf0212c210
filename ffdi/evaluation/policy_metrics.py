"""What a bundle's policy does on judged images: the false-positive rate, and with an abstain band what is left undecided."""

from __future__ import annotations

from ffdi.bootstrap import Array, Bootstrap, rate_interval
from ffdi.metrics import Metrics
from ffdi.tails.policy import Policy


def policy_metrics(policy: Policy, labels: Array, scores: Array, groups: Array, *, bootstrap: Bootstrap) -> Metrics:
    """The rule of the threshold, what was expected of it, and what came, beside `fpr` itself; NaN where it is undefined.

    The intervals of `fpr` and `decided_error` are over groups: see rate_interval.
    """
    verdicts, real = policy.verdicts(scores), labels == 0
    alarms = (scores >= policy.threshold)[real]
    out: Metrics = {"threshold_rule": str(policy.facts.get("rule", "youden"))}
    out["fpr_low"], out["fpr_high"] = rate_interval(alarms, groups[real], bootstrap=bootstrap)
    out |= {key: value for key, value in policy.facts.items() if key != "rule"}
    if policy.abstains:
        decided = verdicts != "undecided"
        wrong = (verdicts == "fake") != (labels == 1)
        out |= {"coverage": float(decided.mean()), "undecided": int((~decided).sum())}
        low, high = rate_interval(wrong[decided], groups[decided], bootstrap=bootstrap)
        error = float(wrong[decided].mean()) if decided.any() else float("nan")
        out |= {"decided_error": error, "decided_error_low": low, "decided_error_high": high}
    return out
