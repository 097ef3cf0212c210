"""The pictures of the report: they are shown as the network sees them."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conftest import picture
from PIL import Image

from ffdi.evaluation.wrong_images import SIDE, HeatMaps, thumbnails
from ffdi.features.preprocessing import Preprocessing
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.decoding.resizing import Resize


def test_a_heat_map_lies_on_what_the_network_sees(tmp_path: Path) -> None:
    photo = picture(0, 300).crop((0, 0, 300, 150))
    photo.save(tmp_path / "a.png")
    worst = pd.DataFrame(
        {"image_id": ["a"], "path": ["a.png"], "name": ["a.png"], "label": [1], "called": [0], "score": [0.1]}
    )

    def shown(how: Resize) -> Any:
        heat = HeatMaps({"a": np.ones((7, 7))}, pixels=Preprocessing(224, resize=how))
        (row,) = thumbnails(worst, ImageSource(tmp_path), heat)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(row["source"].partition(",")[2]))), np.float64)

    for how in (Resize(), Resize("shorter_side", "bicubic", 0.9), Resize("letterbox")):
        due = np.asarray(replace(Preprocessing(resize=how), size=SIDE).square(photo), np.float64)
        assert np.abs(shown(how) - due).mean() < 3  # a JPEG
    assert np.abs(shown(Resize()) - shown(Resize("shorter_side"))).mean() > 10
