"""Which tables are Parquet: those whose name ends so. Loads no pandas."""

from __future__ import annotations

from pathlib import Path

from ffdi.errors import InputError

CSV, PARQUET = ".csv", ".parquet"


def is_parquet(file: Path) -> bool:
    """Whether a table of this name is Parquet; any other is csv."""
    return file.suffix.lower() == PARQUET


def found_table(place: Path) -> Path:
    """The table at `place`, a path without an ending: the csv, or the Parquet file where that is the one that is there.

    Raises InputError where both are there: one is left from before `data.tables` changed.
    """
    files = [place.with_name(place.name + ending) for ending in (CSV, PARQUET)]
    if all(file.exists() for file in files):
        raise InputError(f"{files[0]} and {files[1].name}: both are there: delete the one of an earlier run")
    return files[1] if files[1].exists() else files[0]
