"""A set of shards becomes another one without ever losing a reusable row.

The new generation is written aside (`next/`) and swapped in when it is whole: its index is the commit point, and a
swap that was cut off is finished by the next run. What a killed run left in `next/` is reused, shard by shard, or row
by row from `salvage/` when the plan has changed since.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ffdi.errors import ShardError
from ffdi.features.shards import INDEX, Features, Index, Row, Shard, Spec, read_index, shard_name, write_shard
from ffdi.files import sha256_file

Compute = Callable[[Sequence[Row]], Iterator[Features]]


def build(
    folder: Path,
    spec: Spec,
    plan: Sequence[Row],
    shard_rows: int,
    provenance: dict[str, Any],
    compute: Compute,
    reserve: Callable[[int], None] = lambda needed: None,
) -> tuple[int, int]:
    """Make `folder` hold exactly the rows of `plan`; returns (reused, computed) rows. Hold the folder's lock.

    `compute` gets all missing rows at once, in order, and yields their features in blocks in that order. The bytes
    are those of a run from nothing. `reserve` is told beforehand how many bytes this run will write, and may refuse.
    """
    parts = [plan[i : i + shard_rows] for i in range(0, len(plan), shard_rows)]
    following, salvage = folder / "next", folder / "salvage"
    folder.mkdir(parents=True, exist_ok=True)
    _finish_swap(folder, following)
    if _is_current(folder, spec, parts, provenance):
        _tidy(folder, read_index(folder))
        return len(plan), 0

    following.mkdir(exist_ok=True)
    done = _keep_matching(folder, following, salvage, spec, parts)
    old = [file for file in (*_sound_shards(folder), *_shard_files(salvage)) if _reads(file, spec)]
    source = {row: (file, at) for file in old for at, row in enumerate(_rows(file, spec))}
    waiting = [number for number in range(len(parts)) if number not in done]
    reserve(sum(len(parts[number]) for number in waiting) * spec.row_bytes)
    missing = [row for number in waiting for row in parts[number] if row not in source]
    fresh = _one_by_one(compute(missing)) if missing else iter(())
    for number in waiting:
        write_shard(following / shard_name(number), spec, parts[number], _blocks(parts[number], source, spec, fresh))
    entries = tuple(
        {"name": shard_name(n), "rows": len(part), "sha256": sha256_file(following / shard_name(n))}
        for n, part in enumerate(parts)
    )
    Index(spec, provenance, entries).write(following)
    _finish_swap(folder, following)
    return len(plan) - len(missing), len(missing)


def _is_current(folder: Path, spec: Spec, parts: Sequence[Sequence[Row]], provenance: dict[str, Any]) -> bool:
    """Whether the folder already holds the plan, every byte of it."""
    try:
        index = read_index(folder)
    except ShardError:
        return False
    if index.spec != spec or index.provenance != provenance or len(index.shards) != len(parts):
        return False
    return all(
        _is_sound(folder, entry) and _rows(folder / entry["name"], spec) == list(part)
        for entry, part in zip(index.shards, parts, strict=True)
    )


def _is_sound(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a shard has the bytes that the index says; asked before HDF5 opens it."""
    file = folder / entry["name"]
    return file.exists() and sha256_file(file) == str(entry["sha256"])


def _sound_shards(folder: Path) -> list[Path]:
    """The shards of the present generation that are unharmed; all, unchecked, where there is no index."""
    try:
        entries = read_index(folder).shards
    except ShardError:
        return _shard_files(folder)
    return [folder / entry["name"] for entry in entries if _is_sound(folder, entry)]


def _keep_matching(
    folder: Path, following: Path, salvage: Path, spec: Spec, parts: Sequence[Sequence[Row]]
) -> set[int]:
    """The shards of next/ that the plan can use as they are; all others move to salvage/, for their rows."""
    done = set()
    for file in sorted(following.glob("shard-*.h5")):
        number = int(file.stem.removeprefix("shard-"))
        if number < len(parts) and _rows(file, spec) == list(parts[number]) and _reads(file, spec):
            done.add(number)
        else:
            salvage.mkdir(exist_ok=True)
            os.replace(file, salvage / f"{len(list(salvage.iterdir())):05d}-{file.name}")
    return done


def _blocks(
    rows: Sequence[Row], source: dict[Row, tuple[Path, int]], spec: Spec, fresh: Iterator[Features]
) -> Iterator[Features]:
    """Features of `rows`, one row a block, from old shards where they are there, else from `fresh`."""
    held: tuple[Path, Shard] | None = None
    try:
        for row in rows:
            if row not in source:
                yield next(fresh)
                continue
            file, at = source[row]
            if held is None or held[0] != file:
                if held:
                    held[1].__exit__()
                held = (file, Shard(file, spec))
            yield held[1].read(slice(at, at + 1))
    finally:
        if held:
            held[1].__exit__()


def _one_by_one(blocks: Iterator[Features]) -> Iterator[Features]:
    for block in blocks:
        for at in range(len(block)):
            yield block[at : at + 1]


def _finish_swap(folder: Path, following: Path) -> None:
    """Move a whole next generation into place; the final index comes last, so a reader never sees a mixture as whole."""
    if not (following / INDEX).exists():
        return
    index = read_index(following)
    (folder / INDEX).unlink(missing_ok=True)
    for entry in index.shards:
        if (following / entry["name"]).exists():
            os.replace(following / entry["name"], folder / entry["name"])
    os.replace(following / INDEX, folder / INDEX)
    _tidy(folder, index)


def _tidy(folder: Path, index: Index) -> None:
    """Delete what the index does not name: shards of former plans, salvage, temporary files."""
    named = {INDEX, *(entry["name"] for entry in index.shards)}
    for path in folder.iterdir():
        if path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _shard_files(*folders: Path) -> list[Path]:
    return sorted(file for folder in folders for file in folder.glob("*shard-*.h5"))


def _rows(file: Path, spec: Spec) -> list[Row]:
    """The rows of a shard of this spec; none when it is damaged or of other features."""
    try:
        with Shard(file, spec) as shard:
            return shard.rows
    except ShardError:
        return []


def _reads(file: Path, spec: Spec) -> bool:
    """Whether every checksum of a shard is right."""
    try:
        with Shard(file, spec) as shard:
            for start in range(0, len(shard.rows), 1024):
                shard.read(slice(start, start + 1024))
    except ShardError:
        return False
    return True
