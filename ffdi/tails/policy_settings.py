"""The settings of a recipe, or of an ensemble, on how a score becomes a verdict. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Lt

from ffdi.errors import ParamsError


@dataclass(frozen=True)
class ThresholdRule:
    """How the threshold is chosen on out-of-fold scores."""

    rule: Literal["youden", "accuracy", "fpr"] = "youden"
    """`youden`: the highest balanced accuracy; `accuracy`: the highest accuracy; `fpr`: the most fakes found while the
    expected share of reals that are called fake is at most `at`."""

    at: Annotated[float, Gt(0.0), Lt(1.0)] = 0.01
    """Rule fpr: the false-positive rate."""

    def check_written(self, written: Collection[str]) -> None:
        """Raise ParamsError for a key that the file has and that has no effect on the rule."""
        if self.rule != "fpr" and "at" in written:
            raise ParamsError(f"at has no effect on rule {self.rule}: leave it out, or set rule: fpr")


@dataclass(frozen=True)
class Abstain:
    """Between two thresholds the verdict is `undecided`."""

    error: Annotated[float, Gt(0.0), Lt(0.5)] = 0.05
    """The largest share of wrong verdicts among the decided out-of-fold scores."""


@dataclass(frozen=True)
class PolicySettings:
    """Both together, as a recipe or an ensemble has them."""

    threshold: ThresholdRule = ThresholdRule()
    abstain: Abstain | None = None
