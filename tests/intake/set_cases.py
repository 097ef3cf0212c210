"""Small data sets, and several of them read as one, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import picture

from ffdi.intake.ingest import IngestedDataSet, IntakeFiles, ingest_data_set
from ffdi.intake.settings import DataSettings, SetSettings
from ffdi.params.paths import image_source


def read_all(data: DataSettings, out: Path, **more: Any) -> IngestedDataSet:
    files = IntakeFiles(*(out / f"{name}.csv" for name in ("images", "rejected", "skipped")))
    return ingest_data_set(image_source(data), data, files, **more)


def two(first: Path, second: Path, **keys: Any) -> DataSettings:
    return DataSettings((SetSettings(root=str(first)), SetSettings(root=str(second))), max_rejected=0.5, **keys)


def csv_set(root: Path, first: int, count: int, **columns: str) -> Path:
    """`count` pictures from number `first` on, alternately real and fake, in pairs of one group."""
    root.mkdir(parents=True)
    rows = [",".join(("path", "label", "group", *columns))]
    for i in range(count):
        picture(first + i, 64, bool(i % 2)).save(root / f"{i:02d}.jpg", quality=92)
        rows.append(",".join((f"{i:02d}.jpg", str(i % 2), f"g{i // 2}", *columns.values())))
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root
