"""The settings of an ensemble: section `ensembles` of params.yaml. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ffdi.bounds import Rule
from ffdi.errors import ParamsError
from ffdi.tails.policy_settings import Abstain, PolicySettings, ThresholdRule

Weighting = Literal["equal", "fitted"]


def _several(recipes: tuple[str, ...]) -> None:
    if len(recipes) < 2 or len(set(recipes)) < len(recipes):
        raise ParamsError("name two recipes or more, each once")


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings:
    """An entry of `ensembles` in params.yaml."""

    name: str
    """The name of the entry."""

    recipes: Annotated[tuple[str, ...], Rule(_several)]
    """The recipes whose scores are joined: the members."""

    weights: Weighting = "equal"
    """`equal`: the mean logit of the members; `fitted`: weights of 0 or more, by logistic regression on out-of-fold scores:
    see [training.md](training.md)."""

    threshold: ThresholdRule = ThresholdRule()
    """How the threshold is chosen on the ensemble's out-of-fold scores."""

    abstain: Abstain | None = None
    """As `recipes.NAME.abstain`, for the ensemble's scores."""

    @property
    def policy(self) -> PolicySettings:
        """How a score becomes a verdict."""
        return PolicySettings(self.threshold, self.abstain)
