"""Shards that hold more of the same features: in the folder itself, or in that of another backbone beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ffdi.errors import ShardError
from ffdi.features.feature_spec import FeatureSpec, Keys
from ffdi.features.shard_index import INDEX, Index
from ffdi.features.shard_task import Source
from ffdi.features.stored_set import StoredSet, read_set


def sets_at(folder: Path) -> Iterator[tuple[Path, StoredSet]]:
    """The set of `folder` and those of the folders beside it, where their index can be read."""
    beside = sorted(index.parent for index in folder.parent.glob(f"*/{INDEX}") if index.parent != folder)
    for place in (folder, *beside):
        with suppress(ShardError):
            yield place, read_set(place)


def known_spec(spec: FeatureSpec, folder: Path) -> FeatureSpec | None:
    """A spec without shape, with what the shards in `folder`, or those that hold more there or beside it, say of it."""
    for place, stored in sets_at(folder):
        if place == folder and (known := spec.of_same(stored.index.spec)):
            return known
        if narrower := spec.of_wider(stored.index.spec):
            return narrower[0]
    return None


@dataclass(frozen=True)
class WiderSet:
    """The unchanged shards of a folder that hold more than is wanted, with their keys."""

    folder: Path
    index: Index
    shards: dict[Source, Keys]


def wider_sets(spec: FeatureSpec, folder: Path) -> Iterator[WiderSet]:
    """The sets in `folder` and beside it that hold more than `spec`, those with the smallest rows first."""
    found = [(place, stored, spec.of_wider(stored.index.spec)) for place, stored in sets_at(folder)]
    for place, stored, narrower in sorted(found, key=lambda held: held[1].index.spec.row_bytes):
        if narrower is not None:
            yield WiderSet(place, stored.index, stored.intact(narrower[1]))
