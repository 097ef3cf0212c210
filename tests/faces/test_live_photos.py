"""The two files of a live photo are one group of crops."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import picture
from made_videos import encode
from raw_sets import labels, made, patched_detector, write_raw_set


def test_a_photo_and_its_film_are_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched_detector(monkeypatch)
    raw = write_raw_set(tmp_path)
    encode(raw / "real/A.MP4", [picture(at, 64) for at in range(3)])
    made(raw, frames=2)
    groups = labels(raw).groupby("source")["group"].unique()
    assert groups["real/A.MP4"].tolist() == groups["real/a.png"].tolist() == ["real/A"]
    assert groups["real/b.png"].tolist() == ["real/b.png"]
