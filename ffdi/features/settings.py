"""How features are extracted: the section `extract` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExtractSettings:
    """Which engine extracts, with how many workers, into shards of how many rows, compressed how."""

    engine: Literal["local"] = "local"
    workers: Literal["auto"] | int = "auto"
    shard_rows: int = 4096
    compression: Literal["none", "bitshuffle-lz4"] = "none"
