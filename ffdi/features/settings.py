"""The settings of extraction: section `extract` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ffdi.bounds import Positive


@dataclass(frozen=True)
class ExtractSettings:
    """How features are computed and stored; none of these settings changes a feature."""

    engine: Literal["local"] = "local"
    """What runs the tasks: `local` is this machine."""

    workers: Literal["auto"] | Positive = "auto"
    """The number of threads that decode and render images; `auto` takes one for each core."""

    shard_rows: Positive = 4096
    """The number of rows in a shard file."""

    compression: Literal["none", "bitshuffle-lz4"] = "none"
    """How shards are compressed, without loss."""
