"""The backbone of params.yaml: all that decides a feature but the bytes of the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

INPUT = "input"  # the cut of an empty prefix


@dataclass(frozen=True)
class Backbone:
    """All that decides a feature but the weights' bytes; the fields are those of params.yaml."""

    name: str
    network: str
    weights: str
    cut: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    view_count: int
    view_policy: tuple[dict[str, Any], ...]
    view_seed: int
    dtype: str
    runtime: str
    precision: str
    compile: bool = False
    decoder: str = "pillow"
    memory_format: str = "contiguous"

    @property
    def has_prefix(self) -> bool:
        """Whether a prefix computes its features; `cut: input` has none: its features are the pixels."""
        return self.cut != INPUT

    @property
    def feature_dtype(self) -> str:
        """The dtype of its features as they are stored; pixels are uint8."""
        return self.dtype if self.has_prefix else "uint8"

    def facts(self) -> dict[str, Any]:
        """Its fields, without what came later and stands at what it was before."""
        fields = asdict(self)
        if self.memory_format == "contiguous":
            del fields["memory_format"]
        return fields
