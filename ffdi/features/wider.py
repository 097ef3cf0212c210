"""Shards that hold more of the same features: in the folder itself, or in that of another backbone beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ffdi.errors import ShardError
from ffdi.features.feature_spec import FeatureSpec, Keys
from ffdi.features.shard_index import INDEX, Index, read_index, unchanged_files
from ffdi.features.shard_place import LocalPlace
from ffdi.features.shard_task import Source


def indexes_at(folder: Path) -> Iterator[tuple[Path, Index]]:
    """The index of `folder` and those of the folders beside it, where they can be read."""
    beside = sorted(index.parent for index in folder.parent.glob(f"*/{INDEX}") if index.parent != folder)
    for place in (folder, *beside):
        with suppress(ShardError):
            yield place, read_index(place)


def known_spec(spec: FeatureSpec, folder: Path) -> FeatureSpec | None:
    """A spec without shape, with what the shards in `folder`, or those that hold more there or beside it, say of it."""
    for place, index in indexes_at(folder):
        if place == folder and (known := spec.of_same(index.spec)):
            return known
        if narrower := spec.of_wider(index.spec):
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
    found = [(place, index, spec.of_wider(index.spec)) for place, index in indexes_at(folder)]
    for place, index, narrower in sorted(found, key=lambda held: held[1].spec.row_bytes):
        if narrower is None:
            continue
        shards = {}
        for file in unchanged_files(place, index):
            source = Source(LocalPlace(place), file.name, index.spec, narrower[1])
            with suppress(ShardError), source.open() as shard:
                shards[source] = shard.keys
        yield WiderSet(place, index, shards)
