"""Models that were trained on crops of faces, made of one that was not: bundle.json says how they were cropped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffdi.faces.detectors.detector import open_detector
from ffdi.faces.settings import CropSettings
from ffdi.files import write_json
from ffdi.tails.record import record_hash

SETTINGS = CropSettings(size=64, frames=3)


def crops_of(settings: CropSettings = SETTINGS, **detector: str) -> dict[str, Any]:
    """What crops.json says of a set that stage faces made."""
    found = {"name": "centerface", "sha256": open_detector(CropSettings()).sha256} | detector
    return {"settings": settings.recorded(), "detector": found}


def face_model(model: Path, folder: Path, crops: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A copy of a model whose images were cropped so; `settings` are changes of SETTINGS."""
    shutil.copytree(model, folder)
    file = folder / "bundle.json"
    record = json.loads(file.read_text())
    record["provenance"]["crops"] = crops or crops_of(replace(SETTINGS, **settings))
    write_json(file, record | {"facts_sha256": record_hash(record)})
    return folder
