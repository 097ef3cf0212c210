"""May two sets of figures be those of one commit on two types of machine?

Another processor, number of threads or GPU adds up in another order, so the last bits of sums differ. Training carries
them on, and where two epochs are about as good it may keep the other one: a test score moves a little. From that and
from nothing else follows what may differ here:

- A recipe's test scores, P(fake): one by MOST of their spread (standard deviation), on average by MEAN of it; scores
  that hardly spread, for the recipe has learned nothing, by MOST_FLOOR and MEAN_FLOOR.
- What depends on the order of the scores alone (AUC, AP, points of the ROC curve): by RANK, or by the pairs of images
  so close that they can change places when each moves as far as the scores did.
- The threshold: to one that is as good on the out-of-fold scores, but for those that near to either.
- What is counted at a threshold (accuracy, recall, ...): by the images that near to it.
- The ends of an abstain band, what is expected of a policy, and what the band decides: by BAND, for another band may be
  about as wide.
- The ends of an interval: by a multiple of its middle, for a draw may hold a group several times.
- A p-value: by P_VALUE and a tenth of itself; a verdict may turn where its p-value is that near to the level. Above
  NO_MATTER it says no more than that no difference is shown.
- Figures of units of images: as those of images, with the units' scores; of a few units, by two of them.
- The share of images unlike the training: by RANK, or by UNLIKE images.
- Counts, names, reasons: not at all; but the hash of random weights, whose BatchNorm is calibrated by sums, and the
  epochs of a refit, which follow those of the folds.

docs/reproducing.md says how the bounds were chosen.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from figures import MOST_FLOOR, Figures, Metrics
from samples import ELSEWHERE, Sample, Samples
from threshold_rules import goodness

from ffdi.evaluation.below_chance import keys_below
from ffdi.features.levels import parse_level
from ffdi.metrics import FPR_POINTS, class_metrics, roc_points

RANK = 0.01
P_VALUE = 0.02
LEVEL = 0.05  # of the comparison's verdicts
NO_MATTER = 0.1
WEIGHT = 0.1  # of a member of an ensemble
UNLIKE = 4  # images, of those about at the limit of what is unlike the training
BAND = 0.05  # of the images, or of the scores
OF_A_POLICY = (
    *("abstain_low", "abstain_high", "coverage", "undecided", "decided_error"),
    *("expected_fpr", "expected_coverage", "expected_error"),
)
COUNTED = tuple(class_metrics(1, 1, 1, 1))  # accuracy, balanced_accuracy, precision, ...


def figure_differences(
    recorded: Mapping[str, Metrics], made: Figures, scores: Mapping[str, pd.DataFrame] | None = None
) -> list[str]:
    """A line for each recorded figure that the scores of `made` could not have given; `scores`: digests of those then."""
    lines = [f"{name}: only in one of the two" for name in sorted(set(recorded) ^ set(made.metrics))]
    for name in sorted(set(recorded) & set(made.metrics)):
        lines += [f"{name}: {line}" for line in _of_file(FigureRule(name, recorded, made, scores or {}))]
    return lines


def _of_file(rule: FigureRule) -> Iterator[str]:
    old, new = rule.old, rule.new
    for key in sorted(set(old) | set(new)):
        base = key.removesuffix("_reason")
        if key.startswith("below_chance"):  # follows from intervals of the same file, each of which has its own rule
            if not (_marked(old) and _marked(new)):
                yield f"{key}: recorded {old.get(key)!r}, now {new.get(key)!r}"
        elif key not in old or key not in new:
            if not (key.endswith("_reason") and rule.may_be_null(base)):
                yield f"{key}: only in one of the two"
        elif old[key] != new[key]:
            if isinstance(old[key], float) and isinstance(new[key], float):
                low, high = rule.bounds(key)
                if not low - 1e-9 <= old[key] <= high + 1e-9:
                    yield f"{key}: recorded {old[key]:.6g}, now {new[key]:.6g}; may be {low:.6g} to {high:.6g}"
            elif not (rule.may_turn(key) or (None in (old[key], new[key]) and rule.may_be_null(key))):
                yield f"{key}: recorded {old[key]!r}, now {new[key]!r}"


def _marked(metrics: Metrics) -> bool:
    """Whether a file says of its AUCs below chance what its own intervals say."""
    found = keys_below(dict(metrics))
    return metrics.get("below_chance") == len(found) and metrics.get("below_chance_at", "") == ", ".join(found)


class FigureRule:
    """What each figure of one file may have been, as its scores now are."""

    def __init__(
        self, name: str, recorded: Mapping[str, Metrics], made: Figures, digests: Mapping[str, pd.DataFrame]
    ) -> None:
        self.name, self.recorded, self.made, self.samples = name, recorded, made, Samples(name, made, digests)
        self.old, self.new = recorded[name], made.metrics[name]

    def bounds(self, key: str) -> tuple[float, float]:
        """The least and the largest value that the recorded figure may have."""
        value, plain = self.new[key], key.removeprefix("unit_")
        if plain in OF_A_POLICY:
            slack = BAND * (self.new["n_test" if plain == key else "unit_count"] if plain == "undecided" else 1)
            return value - slack, value + slack
        if ends := re.fullmatch(r"(.+)_(low|high)", key):
            middle = self.new.get(ends[1])
            if not isinstance(middle, float):
                return value, value
            low, high = self.bounds(ends[1])
            slack = (4 if self._counted(ends[1]) else 2) * max(middle - low, high - middle)
            return value - slack, value + slack
        if key.endswith("_p_corrected"):
            slack = P_VALUE + 0.1 * value
            return min(value - slack, NO_MATTER), 1.0 if value > NO_MATTER else value + slack
        if key == "threshold":
            return self._thresholds()
        sample = self.samples.of(key)
        if (figure := self._counted(key)) and sample is not None and not key.startswith("unit_attr_"):
            found = [f for f in self._possible(key, sample, figure) if f is not None]
            return (min(found), max(found)) if found else (value, value)
        slack = self._slack(key, sample)
        return value - slack, value + slack

    def may_be_null(self, key: str) -> bool:
        """Whether images near the threshold decide that a ratio is one of none."""
        sample, plain = self.samples.of(key), key.removeprefix("unit_")
        return plain in COUNTED and sample is not None and None in self._possible(key, sample, plain)

    def may_turn(self, key: str) -> bool:
        """Whether a verdict, the name of what is worst, a number of epochs, or the hash of random weights may be another
        one."""
        if key == "refit_epochs":  # other epochs of the folds may be about as good
            return True
        if key == "weights_sha256":
            return not (self.old["pretrained"] or self.new["pretrained"])
        if key in ("held_out_worst", "worst_level"):
            return self._is_about_the_lowest(key)
        p = f"{key.removesuffix('_verdict')}_p_corrected"
        return key.endswith("_verdict") and all(
            isinstance(m.get(p), float) and abs(m[p] - LEVEL) <= P_VALUE + 0.1 * LEVEL for m in (self.old, self.new)
        )

    def _is_about_the_lowest(self, key: str) -> bool:
        """Whether what was the worst then has an AUC that could be the lowest now."""
        named = str(self.old[key])
        of_it, lowest = f"held_out_{named}_auc", "held_out_worst_auc"
        if key == "worst_level":
            of_it, lowest = f"robustness_{parse_level(named).key}_auc", "worst_auc"
        mine, least = self.new.get(of_it), self.new.get(lowest)
        if not (isinstance(mine, float) and isinstance(least, float)):
            return False
        return mine - least <= 2 * self._slack(lowest, self.samples.of(lowest))

    @staticmethod
    def _counted(key: str) -> str:
        """Which of COUNTED a figure is; fold_0_accuracy is an accuracy."""
        return next((figure for figure in COUNTED if key == figure or key.endswith(f"_{figure}")), "")

    def _slack(self, key: str, sample: Sample | None) -> float:
        if self.name == "ladder":  # it keeps no scores: its models are trained and judged within it
            return 2 * RANK
        if self.name == "summary":
            compared = re.fullmatch(r"(.+)_minus_(.+?)(_robust|_unit)?_auc", key)
            of_figure = {"_robust": self.samples.perturbed, "_unit": self.samples.units, None: self.samples.of_recipe}
            of = of_figure[compared[3] if compared else None]
            own = [of(name) for name in compared.groups()[:2]] if compared else []
            return sum(max(RANK, sample.swaps()) for sample in own if sample is not None)
        if key.startswith("unit_attr_"):  # a few units, whose scores are known only together with all others
            counts = [self.new.get(re.sub("_(auc|accuracy)$", end, key)) for end in ("_reals", "_fakes")]
            return max(2 * RANK, 2 / max(sum(int(count or 0) for count in counts), 1))
        key = key.removeprefix("unit_")
        if re.search("unlike_share(_real|_fake)?$", key):
            count = self.new.get(key.replace("unlike_share", "n_test")) or self.new["n_test"]  # cross has several
            return max(RANK, UNLIKE / int(count))
        if key.startswith(("weight_", "stack_bias")):
            return WEIGHT
        if key in ("temperature", "calibration_agreement", "calibration_contraction"):
            return 0.1 * float(self.new[key])
        if sample is not None and key == "brier":
            return 2 * sample.reach
        if key == "refit_minus_folds_auc":
            both = [self.samples.whole, self.samples.of("folds_auc")]
            return sum(max(RANK, of_one.swaps()) for of_one in both if of_one is not None)
        if sample is not None and key.removeprefix("folds_").startswith("ece"):
            # an image that changes its bin leaves one and enters one
            edges = np.abs(sample.scores * 10 - np.round(sample.scores * 10)) <= 10 * sample.reach
            return 2 * sample.reach + 2 * float(edges.mean())
        if sample is not None and (key == "eer" or key.removesuffix("_at_most") in FPR_POINTS):
            return self._slack_on_the_curve(key, sample)
        if re.search(r"(^|_)(auc|ap)(_|$)", key):
            return max(RANK, sample.swaps() if sample is not None else 0.0)
        return 2 * RANK if self._counted(key) else 0.0  # no scores of these images are kept

    def _slack_on_the_curve(self, key: str, sample: Sample) -> float:
        """A point of the ROC curve is counted at a threshold of its own: the images near that may be on its other side."""
        fpr, tpr, at = roc_points(sample.labels, sample.scores)
        rate = FPR_POINTS.get(key.removesuffix("_at_most"))
        point = (
            int(np.argmin(np.abs(fpr - (1 - tpr)))) if rate is None else int(np.flatnonzero(fpr <= rate + 1e-12)[-1])
        )
        near = np.abs(sample.scores - at[point]) <= 2 * sample.reach
        share = max(float(near[sample.labels == label].mean()) for label in (0, 1))
        return max(RANK, share)

    def _possible(self, key: str, sample: Sample, figure: str) -> list[float | None]:
        """The figure with every near image on the one side of the threshold and on the other."""
        recipe = key.partition("_on_")[0] if self.name == "cross" else self.name
        at = [float(m[recipe]["threshold"]) for m in (self.recorded, self.made.metrics) if recipe in m]
        hit, s = sample.labels == 1, sample.scores
        sure = s > max(at) + sample.reach
        near = (s >= min(at) - sample.reach) & ~sure
        fakes, reals = int(hit.sum()), int((~hit).sum())
        found = []
        for tp, fp in itertools.product(
            (int((sure & hit).sum()), int(((sure | near) & hit).sum())),
            (int((sure & ~hit).sum()), int(((sure | near) & ~hit).sum())),
        ):
            value = class_metrics(tp, fakes - tp, fp, reals - fp)[figure]
            found.append(None if value is None else float(value))
        return found

    def _thresholds(self) -> tuple[float, float]:
        """The recorded threshold itself where it is as good as the one now, else no farther than a score has moved."""
        old, new = float(self.old["threshold"]), float(self.new["threshold"])
        reach = self.samples.reach(self.name) if self.name in self.made.scores else MOST_FLOOR
        oof = self.made.oof.get(self.name)
        if oof is not None:
            labels, scores = oof["label"].to_numpy(), oof["score"].to_numpy()
            near = np.minimum(np.abs(scores - old), np.abs(scores - new)) <= ELSEWHERE * reach
            uncertain = sum(float(near[labels == label].mean()) for label in (0, 1))
            rule = str(self.new.get("threshold_rule", "youden"))
            lost = goodness(rule, labels, scores, new) - goodness(rule, labels, scores, old)
            if rule != "fpr" and lost <= uncertain:  # one real's score sets that of rule fpr
                return min(old, new - reach), max(old, new + reach)
        return new - reach, new + reach
