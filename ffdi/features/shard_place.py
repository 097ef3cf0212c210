"""Where the shards of a set lie: in a folder of this machine, or at a URL that many machines share.

A place is plain data that can be handed to another process. A shard is written to its `draft`, a file of the machine that
computes it, and `publish` makes it one of the place's. `fetch` gives a file of this machine that can be opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ffdi.errors import ShardError
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.shard_index import ShardEntry
from ffdi.features.shards import Shard
from ffdi.files import sha256_file, synced


class Place(Protocol):
    """What a place of shards can do. `key` says what a shard holds: see ShardTask.key."""

    def draft(self, name: str) -> Path:
        """Where to write the shard `name` before it is published: a path of this machine."""

    def publish(self, name: str, key: str, rows: int) -> ShardEntry:
        """The entry of the shard, written as its draft, in the index, once its bytes are safe in this place."""

    def find(self, name: str, key: str, rows: int) -> ShardEntry | None:
        """The entry of a shard that somebody has published under this key already; None where that is not known."""

    def fetch(self, name: str) -> Path:
        """A file of this machine with the bytes of a published shard. It may be deleted at any time: see open_shard."""

    def where(self, name: str) -> str:
        """How messages name a shard of this place."""


@dataclass(frozen=True)
class LocalPlace:
    """A folder of this machine, or of one that all machines mount."""

    folder: Path

    def draft(self, name: str) -> Path:
        """The shard's own path: write_shard writes under a temporary name."""
        return self.folder / name

    def publish(self, name: str, key: str, rows: int) -> ShardEntry:
        """The bytes are flushed to the disk before they are hashed."""
        return {"name": name, "rows": rows, "sha256": sha256_file(synced(self.folder / name))}

    def find(self, name: str, key: str, rows: int) -> ShardEntry | None:
        """None: the files of a folder must be read to know what they hold."""
        return None

    def fetch(self, name: str) -> Path:
        """The file itself."""
        return self.folder / name

    def where(self, name: str) -> str:
        """The path."""
        return str(self.folder / name)


def open_shard(place: Place, name: str, spec: FeatureSpec) -> Shard:
    """A published shard, opened. What was fetched may be deleted before it is open; afterwards it stays readable."""
    tries = 5
    while True:
        file = place.fetch(name)
        try:
            return Shard(file, spec, place.where(name))
        except ShardError:
            tries -= 1
            if file.exists() or not tries:
                raise
