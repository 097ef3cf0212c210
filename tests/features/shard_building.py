"""Sets of shards whose features only their row decides, built by plan, writing and commit, for the tests of several files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ffdi.features.engines.local import write_shards
from ffdi.features.feature_spec import Features, FeatureSpec, Row
from ffdi.features.remote_shard_set import RemoteShardSet
from ffdi.features.shard_set import Goal, ShardSet

SPEC = FeatureSpec("tiny", "torchvision:x", "layer4", "ab" * 32, 64, (2, 2, 2), "float16", {"mean": [0.5]})
IDS = sorted(hashlib.sha256(bytes([i])).hexdigest() for i in range(12))
PLAN: list[Row] = [(image, view) for image in IDS for view in (0, 1)]
SHARD_ROWS = 5


class Killed(BaseException):
    """What no `except Exception` stops."""


class Computer:
    """Features that only their row and spec decide; counts what it computed; dies after `fuse` rows."""

    def __init__(self, spec: FeatureSpec = SPEC, fuse: int | None = None, error: BaseException | None = None) -> None:
        self.spec, self.fuse, self.error = spec, fuse, error or Killed()
        self.rows: list[Row] = []

    def __call__(self, missing: Sequence[Row]) -> Generator[Features, None, None]:
        for at in range(0, len(missing), 2):  # blocks of two rows
            if self.fuse is not None and at >= self.fuse:
                raise self.error
            self.rows += missing[at : at + 2]
            yield np.stack([feature(self.spec, row) for row in missing[at : at + 2]])


def feature(spec: FeatureSpec, row: Row) -> Features:
    digest = hashlib.sha256(f"{spec.fingerprint}{row}".encode()).digest()
    return np.frombuffer(digest[:8], np.uint8).astype(np.float16).reshape(2, 2, 2)


def build(
    folder: Path,
    goal: Goal,
    compute: Computer,
    *,
    made_by: Callable[[], Sequence[Any]] = tuple,
    reserve: Callable[[int], None] = lambda needed: None,
    url: str | None = None,
) -> None:
    """Plan, compute and write, commit: as an extraction does. `reserve` is told of the bytes that are to be written.

    With a `url` the shards go there, and `folder` points to it.
    """
    shards = RemoteShardSet(folder, goal, url) if url else ShardSet(folder, goal)
    if plan := shards.plan():
        reserve(plan.bytes)
        with closing(compute(plan.missing)) as blocks:
            entries = write_shards(plan.tasks, blocks)
        shards.commit(plan, entries, made_by() if plan.missing or plan.unnamed else ())


def run(folder: Path, plan: Sequence[Row] = PLAN, spec: FeatureSpec = SPEC, **options: Any) -> Computer:
    computer = Computer(spec, options.pop("fuse", None), options.pop("error", None))
    goal = Goal(
        spec, plan, options.pop("shard_rows", SHARD_ROWS), {"weights": "random"}, options.pop("compression", "none")
    )
    build(folder, goal, computer, **options)
    return computer


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def from_nothing(tmp: Path, plan: Sequence[Row] = PLAN, spec: FeatureSpec = SPEC) -> dict[str, bytes]:
    run(tmp / "from-nothing", plan, spec)
    return contents(tmp / "from-nothing")
