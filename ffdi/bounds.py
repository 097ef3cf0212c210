"""Bounds that many settings share, read from a field's type by whatever validates params.yaml."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[int, Ge(1)]
NonNegative = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]
FractionBelow1 = Annotated[float, Ge(0.0), Lt(1.0)]
PositiveFloat = Annotated[float, Gt(0.0)]
NonNegativeFloat = Annotated[float, Ge(0.0)]
