"""A small set of shards on disk: its spec, rows and features, for the tests of several files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ffdi.features.feature_spec import FeatureSpec, Row
from ffdi.features.shard_index import Index, shard_name
from ffdi.features.shards import write_shard
from ffdi.files import sha256_file

SPEC = FeatureSpec(
    "tiny", "torchvision:mobilenet_v2", "features.16", "ab" * 32, 64, (2, 3, 3), "float16", {"mean": [0.5]}
)
ROWS: list[Row] = sorted((hashlib.sha256(bytes([i])).hexdigest(), view) for i in range(5) for view in (0, 1))
FEATURES = np.random.default_rng(0).normal(size=(10, 2, 3, 3)).astype(np.float16)


def make_store(folder: Path, per_shard: int = 4) -> Path:
    """FEATURES as shards of `per_shard` rows with their index."""
    entries = []
    for number, at in enumerate(range(0, len(ROWS), per_shard)):
        file = folder / shard_name(number)
        write_shard(file, SPEC, ROWS[at : at + per_shard], [FEATURES[at : at + per_shard]])
        entries.append({"name": file.name, "rows": len(ROWS[at : at + per_shard]), "sha256": sha256_file(file)})
    Index(SPEC, {"weights": "random"}, tuple(entries)).write(folder)
    return folder
