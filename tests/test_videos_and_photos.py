"""From raw videos and photos in folders to figures per video, and from that model to a verdict on one more video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_videos import scene, write_video
from project import Project
from ruamel.yaml import YAML

PEOPLE = 7
PARAMS = """
demo: {identities: 6}
faces: {wild: {layout: auto, frames: 3, size: 64, max_rejected: 0.1}}
data: {root: data/faces/wild, layout: csv}
split: {embedding: tiny, folds: 2, test_size: 0.3, phash_bits: 0}
audit: {fail: true, find_copies: false, phash_bits: 0}
seed: 0
extract: {workers: 2}
backbones:
  tiny: {network: "torchvision:mobilenet_v2", weights: random, cut: features.16, image_size: 64, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
recipes: {tiny: {backbone: tiny, head: {kind: linear}, epochs: 2, batch_size: 12}}
train: {memory_gb: 1}
evaluate: {bootstrap: 100, attributes: null, robustness: [], unit: attr_video, unit_score: mean}
ladder: {recipe: tiny, backbone: tiny}
"""


def write_raw(root: Path) -> None:
    """real/ and fake/ with a video of each person and photos of others, one video without anyone, and a note."""
    for seed in range(PEOPLE):
        for fake in (False, True):
            folder = root / ("fake" if fake else "real")
            write_video(folder / f"{seed:03d}.mp4", seed=seed, fake=fake, frames=6)
            if seed < 2:
                scene(seed=seed, fake=fake, size=(240, 240), side=200).picture.save(folder / f"photo{seed}.jpg")
    write_video(root / "real" / "empty.mp4", people=0, frames=6)
    (root / "notes.txt").write_text("of the camera")


@pytest.mark.slow
def test_raw_videos_and_photos_become_a_model_that_judges_one_more_video(
    tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    write_raw(tmp_path / "raw")
    params: dict[str, Any] = YAML(typ="safe", pure=True).load(PARAMS)
    params["faces"]["wild"]["root"] = str(tmp_path / "raw")
    project = Project(tmp_path / "ffdi", params, warm_environment)
    project.run("git", "init", "-q")
    project.commit("start")
    said = project.run("dvc", "repro", "evaluate@tiny")

    videos, photos = 2 * PEOPLE, 4
    counts = f"{photos} photos and {videos + 1} videos ({3 * (videos + 1)} frames, 3 of them without a face)"
    assert f"faces wild: {counts}: {3 * videos + photos} faces in {videos + photos} tracks" in said
    assert "passed over: 1 without an image's suffix (1 .txt)" in said
    assert (
        f"ingest: {3 * videos + photos} images ({(3 * videos + photos) // 2} fake), 0 listed twice and merged" in said
    )
    folds = project.folder / "data" / "folds.csv"
    images = pd.read_csv(project.folder / "data" / "images.csv", dtype=str, keep_default_na=False)
    joined = images.merge(pd.read_csv(folds, dtype=str, keep_default_na=False), on="image_id")
    frames = joined[joined["attr_video"] != ""]
    sides = frames.groupby("attr_video")[["role", "fold"]].nunique()
    assert len(sides) == videos and (sides == 1).all().all()  # no video on two sides

    metrics = project.metrics("tiny")
    test = frames[frames["role"] == "test"]
    photos_in_test = int(((joined["attr_video"] == "") & (joined["role"] == "test")).sum())
    assert metrics["unit_count"] == test["attr_video"].nunique() + photos_in_test
    assert 0 <= float(str(metrics["unit_auc"])) <= 1 and metrics["unit"] == "video" and metrics["unit_images_max"] == 3
    assert not [key for key in metrics if key.startswith(("attr_", "unit_attr_"))]  # where a crop is from says nothing

    project.commit("evaluated")
    assert project.run("git", "status", "--short") == ""
    assert "up to date" in project.run("dvc", "status", "faces@wild", "root", "ingest")
    write_video(tmp_path / "raw" / "real" / "one_more.mp4", seed=PEOPLE, frames=6)
    raw = [str(tmp_path / "raw" / "real" / name) for name in ("one_more.mp4", "photo0.jpg", "empty.mp4")]
    said = project.run("ffdi", "predict", "--model", "data/models/tiny", "--out", "judged.csv", *raw, check=False)
    assert "1 without a face" in said or "no face" in said
    judged = pd.read_csv(project.folder / "judged.csv")
    assert list(judged["path"]) == [raw[0], raw[0], raw[1], raw[1], raw[2]]  # a row of the file, and one of its face
    assert judged["frames"].tolist()[:4] == [3, 3, 1, 1] and judged["score"].notna().tolist() == [True] * 4 + [False]
    box = joined.loc[joined["attr_source"] == "real/photo0.jpg", "attr_box"].item()
    assert judged["box"][3] == box  # the face that was cropped for the training
    again = project.run("dvc", "repro", "faces@wild")
    assert f"; {videos + 1 + photos} searched before; 1 rejected (1 no face)" in again
