"""The commands of ingest, split and audit alone, on data outside the checkout and from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import picture
from PIL import Image

STAGES = Path(__file__).parents[2] / "stages"
PARAMS = """
data: {{root: {root}, layout: imagefolder, group: '_g(?P<group>\\d+)'}}
split: {{embedding: b, folds: 3, test_size: 0.25, find_copies: {find_copies}}}
evaluate: {{bootstrap: 100}}
backbones: {{b: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}}}}
recipes: {{r: {{backbone: b}}}}
ladder: {{recipe: r, backbone: b}}
"""


WARM: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def _start_stages_in_warm_python(warm_environment: dict[str, str]) -> None:
    WARM.update(warm_environment)


def textured(seed: int) -> Image.Image:
    """A picture with enough in it to be told from every other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return Image.blend(picture(seed, 96), Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC), 0.4)


def run(stage: str, *options: str, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        ["python", str(STAGES / f"{stage}.py"), *options],
        cwd=cwd,
        env=os.environ | WARM | {"PYTHONPATH": str(STAGES.parent)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """faces/Original and faces/Fake, 40 pictures in 20 groups and three odd files; params beside them."""
    for i in range(40):
        folder = tmp_path / "faces" / ("Fake" if i % 2 else "Original")
        folder.mkdir(parents=True, exist_ok=True)
        textured(i).save(folder / f"pic {i}_g{i // 2}.jpg", quality=92)
    (tmp_path / "params.yaml").write_text(PARAMS.format(root=tmp_path / "faces", find_copies="true"))
    return tmp_path


def outputs(work: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in (work / "data").iterdir()}


def test_the_bare_commands(work: Path) -> None:
    said = run("ingest", cwd=work).splitlines()
    assert "ingest: 40 images (20 fake)" in said[-3]
    assert said[-2:] == [
        "ingest: fake is folder 'Fake' (20 images), such as Fake/pic 11_g5.jpg, Fake/pic 13_g6.jpg, Fake/pic 15_g7.jpg",
        "ingest: real is folder 'Original' (20 images), such as Original/pic 0_g0.jpg, Original/pic 10_g5.jpg, "
        "Original/pic 12_g6.jpg",
    ]
    said = run("split", "--plots", "plots", cwd=work)
    assert "split: test: 5 real, 5 fake, 5 groups" in said and "0 clusters of near-duplicates" in said
    balance = pd.read_csv(work / "plots" / "balance.csv")
    assert list(balance.columns) == ["place", "class", "images"] and balance["images"].sum() == 40
    said = run("audit", "--findings", "data/audit_findings.csv", "--ok", "data/audit.ok", cwd=work)
    assert "audit: 0 leaks in 40 images and 20 groups" in said
    assert json.loads((work / "metrics" / "audit.json").read_text())["leaks"] == 0

    first = outputs(work)
    shutil.rmtree(work / "data")
    options = {
        "ingest": ["--out", "data/images.csv", "--rejected", "data/rejected.csv"],
        "split": ["--images", "data/images.csv", "--out", "data/folds.csv"],
        "audit": [
            *("--images", "data/images.csv", "--folds", "data/folds.csv", "--out", "metrics/audit.json"),
            *("--findings", "data/audit_findings.csv", "--ok", "data/audit.ok"),
        ],
    }
    archive = shutil.make_archive(str(work / "packed"), "zip", work / "faces")
    for stage, more in options.items():  # every path said, and the data set as an archive
        run(stage, "--params", "params.yaml", "--root", archive, *more, cwd=work)
    assert outputs(work) == first


def test_a_copy_is_joined_or_stops_the_audit(work: Path) -> None:
    textured(3).crop((4, 4, 94, 94)).resize((96, 96)).save(work / "faces" / "Fake" / "x_g99.jpg", quality=80)
    run("ingest", cwd=work)
    said = run("split", cwd=work)
    assert "split:   " in said and "pic 3_g1.jpg" in said and "x_g99.jpg" in said  # which
    run("audit", cwd=work)

    parted = pd.read_csv(work / "data" / "folds.csv", dtype=str, keep_default_na=False)
    paths = pd.read_csv(work / "data" / "images.csv", index_col="image_id")["path"]
    copy = parted["image_id"].map(paths) == "Fake/x_g99.jpg"
    fold = parted["fold"][parted["image_id"].map(paths) == "Fake/pic 3_g1.jpg"].iloc[0]
    parted.loc[copy, ["group", "cluster", "role", "fold"]] = ["99", "alone", "train", "0" if fold != "0" else "1"]
    parted.to_csv(work / "data" / "folds.csv", index=False)
    (work / "params.yaml").write_text(PARAMS.format(root=work / "faces", find_copies="false"))
    said = run("audit", "--findings", "found.csv", "--ok", "audit.ok", cwd=work, code=1)
    last = said.strip().splitlines()[-1]
    assert "augmented_copy_across_border" in last and last.endswith("; split.find_copies: true would join 1 of them")
    found = pd.read_csv(work / "found.csv")
    assert {"Fake/x_g99.jpg", "Fake/pic 3_g1.jpg"} == {*found["path_a"], *found["path_b"]}
    assert not (work / "audit.ok").exists()


def test_what_is_wrong_with_the_folder_is_said_on_one_line(work: Path) -> None:
    (work / "faces" / "Other").mkdir()
    textured(1).save(work / "faces" / "Other" / "a.jpg")
    said = run("ingest", cwd=work, code=1)
    assert "folder 'Other': not in data.classes (real, fake and their usual synonyms)" in said
    assert len(said.strip().splitlines()) == 1 and not (work / "data").exists()
