"""A small set of raw photos, and a detector that is a stub, for tests of the sets that stage faces makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import picture
from PIL import Image

from ffdi.faces import crop_set
from ffdi.faces.crop_set import CropSet, make_crop_set
from ffdi.faces.face import Box, Face
from ffdi.faces.settings import FacesSettings
from ffdi.intake.decoding.images import RGB


class StubDetector:
    """Finds one face in every picture that is not black: its middle. Counts what it is asked."""

    name, sha256, device_line = "stub", "5" * 64, "faces: a stub"

    def __init__(self) -> None:
        self.asked = 0

    def faces(self, pixels: RGB) -> list[Face]:
        self.asked += 1
        height, width, _ = pixels.shape
        box = Box(width * 0.25, height * 0.25, width * 0.75, height * 0.75)
        return [Face(box, 0.87654321)] if pixels.max() > 0 else []


def patched_detector(monkeypatch: pytest.MonkeyPatch) -> StubDetector:
    detector = StubDetector()
    monkeypatch.setattr(crop_set, "open_detector", lambda _: detector)
    return detector


def write_raw_set(tmp_path: Path) -> Path:
    """real/ and fake/ with two photos each, one of them black, and a file that is no photo."""
    for at, name in enumerate(("real/a.png", "real/b.png", "fake/c.png", "fake/d.png")):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(at, 64).save(tmp_path / "raw" / name)
    Image.new("RGB", (64, 48)).save(tmp_path / "raw" / "fake" / "d.png")
    (tmp_path / "raw" / "notes.txt").write_text("of the camera")
    return tmp_path / "raw"


def settings(**changes: Any) -> FacesSettings:
    return replace(FacesSettings(root=".", layout="imagefolder", size=32, max_rejected=0.3), **changes)


def made(raw: Path, **changes: Any) -> CropSet:
    return make_crop_set(raw, settings(**changes), raw.parent / "set", workers=2)


def files_of(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def labels(raw: Path) -> pd.DataFrame:
    return pd.read_csv(raw.parent / "set" / "labels.csv", dtype=str, keep_default_na=False)
