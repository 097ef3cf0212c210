"""index.json: which shards a folder holds. It is written last, so a set of shards counts once its index is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from ffdi.errors import ShardError
from ffdi.features.feature_spec import FORMAT_VERSION, FeatureSpec
from ffdi.files import sha256_file, write_json
from ffdi.parallel import cpu_count, ordered_map

INDEX = "index.json"
Maker = Mapping[str, Any]  # what computed rows: the runtime's name, versions and batch


class ShardEntry(TypedDict):
    """One shard in the index."""

    name: str
    rows: int
    sha256: str


def shard_name(number: int) -> str:
    """shard-00000.h5, shard-00001.h5, ..."""
    return f"shard-{number:05d}.h5"


@dataclass(frozen=True)
class Index:
    """The shards of a folder, what features they hold, from which weights, and what computed them (`made_by`)."""

    spec: FeatureSpec
    provenance: Mapping[str, Any]
    shards: tuple[ShardEntry, ...]
    compression: str = "none"
    made_by: tuple[Maker, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows the shards have in all."""
        return sum(int(entry["rows"]) for entry in self.shards)

    def to_dict(self) -> dict[str, Any]:
        """What index.json says."""
        head = {"format_version": FORMAT_VERSION, "fingerprint": self.spec.fingerprint, "rows": self.rows}
        return head | asdict(self) | {"spec": self.spec.to_dict()}

    def write(self, folder: Path) -> None:
        """Write it as `folder`/index.json."""
        write_json(folder / INDEX, self.to_dict())


def read_index(folder: Path) -> Index:
    """The index of a folder of shards; ShardError when it is missing or not of this format."""
    try:
        text = (folder / INDEX).read_bytes()
    except FileNotFoundError:
        raise ShardError(f"{folder / INDEX}: missing: run the extract stage first") from None
    except OSError as error:
        raise ShardError(f"{folder / INDEX}: not an index of shards ({error}): run extract again") from error
    return parse_index(text, str(folder / INDEX))


def parse_index(text: bytes, where: str) -> Index:
    """An index of its JSON text; ShardError, which names `where` it is, when it is not of this format."""
    try:
        raw = json.loads(text.decode("utf-8"))
        if raw["format_version"] != FORMAT_VERSION:
            raise ShardError(f"{where}: format {raw['format_version']}, not {FORMAT_VERSION}: run extract again")
        spec = FeatureSpec.from_dict(raw["spec"])
        index = Index(spec, raw["provenance"], tuple(raw["shards"]), raw["compression"], tuple(raw["made_by"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{where}: not an index of shards ({error}): run extract again") from error
    if raw.get("fingerprint") != index.spec.fingerprint:
        raise ShardError(
            f"{where}: fingerprint {raw.get('fingerprint')} is not that of its own spec: run extract again"
        )
    return index


def unchanged_shards(folder: Path, shards: Sequence[ShardEntry]) -> list[bool]:
    """Whether each file is there with the bytes that the index says. Ask before HDF5 opens it."""

    def is_unchanged(entry: ShardEntry) -> bool:
        file = folder / str(entry["name"])
        return file.exists() and sha256_file(file) == str(entry["sha256"])

    return list(ordered_map(is_unchanged, shards, cpu_count()))
