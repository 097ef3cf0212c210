"""The public interface: ffdi.load and Detector.predict."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained, picture
from PIL import Image

import ffdi
from ffdi.deploy.detector import judgements_by
from ffdi.deploy.pictures import Picture, pictures_of
from ffdi.errors import InputError
from ffdi.features.feature_spec import Features
from ffdi.intake.decoding.images import RGB
from ffdi.tails.policy import Policy
from ffdi.tails.predict import predict_files
from ffdi.tails.scoring import BundleReader


def test_a_detector_scores_paths_arrays_and_images_alike(trained: Trained, tiny: Tiny) -> None:
    detector = ffdi.load(str(trained.model))
    files = [tiny.root / path for path in tiny.rows["path"].head(3)]
    table = detector.predict(files)
    assert list(table.columns) == ["path", "score", "verdict", "spread", "unlike", "reason"]
    scores = predict_files(detector.model, files, max_pixels=10**6, device=torch.device("cpu"))
    assert list(zip(table["path"], table["score"])) == [(str(file), score) for file, score in scores]
    assert list(table["verdict"]) == ["fake" if s >= detector.model.threshold else "real" for s in table["score"]]
    assert (table["spread"] > 0).all() and table["unlike"].dtype == "boolean" and table["reason"].isna().all()
    opened = [Image.open(file) for file in files]
    arrays = [np.asarray(image.convert("RGB")) for image in opened]
    for images in (opened, arrays, iter(arrays)):
        same = detector.predict(images)
        assert list(same["path"]) == ["0", "1", "2"]
        pd.testing.assert_frame_equal(same.drop(columns="path"), table.drop(columns="path"))
    for one in (str(files[0]), files[0], opened[0], arrays[0]):
        assert list(detector.predict(one)["score"]) == pytest.approx([table["score"][0]], abs=1e-6)


def test_a_pil_image_is_read_as_its_file_is(trained: Trained, tmp_path: Path) -> None:
    """Turned by its EXIF, with alpha, as a palette, as CMYK."""
    detector, rgb = ffdi.load(trained.model), picture(3, 90)
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(np.tile(np.arange(90, dtype=np.uint8) * 2, (90, 1))))
    rgb.save(tmp_path / "turned.png", exif=exif)
    alpha.save(tmp_path / "alpha.png")
    rgb.quantize(16).save(tmp_path / "palette.png", transparency=3)
    rgb.convert("CMYK").save(tmp_path / "cmyk.tif")
    rgb.convert("L").save(tmp_path / "grey.png")
    files = sorted(tmp_path.iterdir())
    scores = list(detector.predict(files)["score"])
    assert list(detector.predict(Image.open(file) for file in files)["score"]) == scores
    assert len(set(scores)) == len(files)


def test_what_cannot_be_scored_is_said(trained: Trained, tmp_path: Path) -> None:
    detector = ffdi.load(trained.model, max_pixels=100)
    (tmp_path / "a.jpg").write_text("text")
    table = detector.predict([tmp_path / "a.jpg", np.zeros((20, 20, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)])
    assert table["score"].isna().tolist() == [True, True, False]
    assert table["reason"].iloc[:2].tolist() == [
        "not an image format that Pillow knows",
        "20x20 is more than data.max_pixels = 100",
    ]
    assert table["verdict"].isna().tolist() == [True, True, False]
    with pytest.raises(InputError, match=r"image 1: not float64 of shape \(3, 9, 9\), but uint8 of shape \(height, w"):
        detector.predict([np.zeros((9, 9, 3), np.uint8), np.zeros((3, 9, 9))])  # type: ignore[list-item]
    with pytest.raises(InputError, match="a PIL image of mode F is not read: convert it to RGB"):
        detector.predict(Image.new("F", (9, 9)))
    assert detector.predict([]).columns.tolist() == table.columns.tolist()


def test_importing_ffdi_is_light_and_names_what_is_public() -> None:
    code = """
import sys, ffdi
assert not {"torch", "pandas", "numpy", "PIL", "click"} & set(sys.modules)
assert dir(ffdi) == ffdi.__all__ and ffdi.__version__ and issubclass(ffdi.FfdiError, Exception)
assert callable(ffdi.load) and ffdi.load.__module__ == ffdi.Detector.__module__ == "ffdi.deploy.detector"
assert not hasattr(ffdi, "other")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_share_what_they_read_and_a_generator_is_not_held(
    trained: Trained, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass of the prefix for two models of one backbone, and pictures are taken as they are needed."""
    runs: list[int] = []
    computed = BundleReader.__call__

    def counted(reader: BundleReader, pixels: RGB, names: Sequence[str]) -> Features:
        runs.append(len(names))
        return computed(reader, pixels, names)

    monkeypatch.setattr(BundleReader, "__call__", counted)
    files, taken = [tiny.root / path for path in tiny.rows["path"]] * 6, []

    def pictures() -> Iterator[Picture]:
        for file in files:
            taken.append(file)
            yield from pictures_of(file)

    detector = ffdi.load(trained.model)
    strict = replace(detector, model=replace(detector.model, policy=Policy(1.0)))
    rows = judgements_by([detector, strict], pictures())
    first = next(rows)
    assert 16 < len(taken) < 200 < len(files)
    judged = [first, *rows]
    assert sum(runs) == len(files) == len(judged)
    assert [a.score for a, _ in judged] == [b.score for _, b in judged]
    assert {b.verdict for _, b in judged} == {"real"} != {a.verdict for a, _ in judged}
    assert [row.reason for row in next(judgements_by([detector, strict], pictures_of(tiny.root / "none.jpg")))] == [
        "cannot be read: No such file or directory"
    ] * 2
