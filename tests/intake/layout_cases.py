"""Files on disk in a layout, and the rows that are read of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from ffdi.intake.listing.layouts import Listing, read_layout
from ffdi.intake.listing.walk import NOT_LISTED
from ffdi.intake.settings import DataSettings


def read(root: Path, layout: str, **changes: Any) -> tuple[pd.DataFrame, int]:
    """The rows, and how many images are on disk but not listed."""
    listing: Listing = read_layout(root, DataSettings(".", layout, **changes))
    return listing.rows, sum(reason.startswith(NOT_LISTED) for _, reason in listing.skipped)


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def table(root: Path, data: str | bytes, name: str = "labels.csv") -> Path:
    (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def records(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    return rows.to_dict("records")


@dataclass(frozen=True)
class RawSettings(DataSettings):
    """Settings of a section that reads videos as well."""

    videos: ClassVar[bool] = True


def raw(root: Path, layout: str, *, videos: bool = True, **changes: Any) -> Listing:
    """What a layout lists of photos, and of videos where those are read."""
    return read_layout(root, (RawSettings if videos else DataSettings)(".", layout, **changes))
