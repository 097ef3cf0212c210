"""Stage extract is killed or interrupted at random moments; a rerun ends with the bytes of an uninterrupted run."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from conftest import Tiny, make_tiny

from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.settings import ExtractSettings
from ffdi.intake.decoding.images import ImageSource
from ffdi.params.reading import read_params

STAGE = Path(__file__).parents[2] / "stages" / "extract.py"
SHARD_ROWS = 16
PARAMS = """
data: {{root: {root}}}
backbones:
  pixels:                       # the empty prefix: all that is slow here is start-up
    network: torchvision:mobilenet_v2
    weights: random
    cut: input
    image_size: 96
    views: {{count: 4, policy: seeds}}
recipes: {{pixels: {{backbone: pixels}}}}
split: {{embedding: pixels}}
ladder: {{recipe: pixels, backbone: pixels}}
extract: {{shard_rows: {shard_rows}, workers: 2}}
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@dataclass(frozen=True)
class Bench:
    """A data set and what an unbroken run makes of it, and of two thirds of its images."""

    tiny: Tiny
    params: Path
    weights: Path
    expected: dict[str, bytes]
    before: Path  # features of two thirds of the images
    seconds: float  # from the first sign of work to the end, from nothing

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """Stage extract on the whole data set."""
        command = [sys.executable, str(STAGE), "--params", str(self.params), "--backbone", "pixels", "--out", str(out)]
        command += ["--images", str(self.tiny.images_file), "--folds", str(self.tiny.folds_file)]
        command += ["--weights", str(self.weights), "--timings", str(self.params.with_name("timings"))]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c)

    def finish(self, out: Path) -> ExtractionSummary:
        """The same in this process."""
        return unbroken(self.tiny.rows, self.tiny.root, self.params, self.weights, out)


def unbroken(rows: pd.DataFrame, root: Path, params: Path, weights: Path, out: Path) -> ExtractionSummary:
    return extract_features(
        rows,
        load_extractor(read_params(params).backbone("pixels"), weights),
        out,
        source=ImageSource(root, 10**6),
        settings=ExtractSettings(workers=2, shard_rows=SHARD_ROWS),
    )


def hear_ctrl_c() -> None:
    """What a shell starts in the background ignores it, and so would the stages that the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_work(stage: subprocess.Popen[bytes], out: Path) -> float:
    """Until the new generation's folder is there; returns the moment."""
    deadline = time.monotonic() + 60
    while not (out / "next").exists():
        assert stage.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    return time.monotonic()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Bench:
    folder = tmp_path_factory.mktemp("kills")
    tiny = make_tiny(folder, count=90, groups=45)
    params = folder / "params.yaml"
    params.write_text(PARAMS.format(root=tiny.root, shard_rows=SHARD_ROWS))
    unbroken(tiny.rows, tiny.root, params, weights, folder / "whole")
    few = tiny.rows[[number % 3 > 0 for number in range(len(tiny.rows))]]
    unbroken(few, tiny.root, params, weights, folder / "before")
    made = Bench(tiny, params, weights, contents(folder / "whole"), folder / "before", 0.0)
    stage = made.start(folder / "timed")
    started = wait_for_work(stage, folder / "timed")
    assert stage.wait() == 0 and contents(folder / "timed") == made.expected
    return Bench(**(made.__dict__ | {"seconds": time.monotonic() - started}))


@pytest.mark.parametrize("wanted", [5, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("extending", [False, True], ids=["from nothing", "extending"])
def test_kills_at_random_moments_end_in_the_bytes_of_an_unbroken_run(
    extending: bool, wanted: int, bench: Bench, tmp_path: Path
) -> None:
    rng = random.Random(int(extending))
    kills = reused = 0
    for attempt in range(4 * wanted):
        out = tmp_path / str(attempt) / "features"
        if extending:
            shutil.copytree(bench.before, out)
        stage = bench.start(out)
        moment = wait_for_work(stage, out) + rng.uniform(0, bench.seconds)
        time.sleep(max(0.0, moment - time.monotonic()))
        stage.kill()
        kills += stage.wait() == -signal.SIGKILL
        there = len(list(out.rglob("shard-*.h5")))
        done = bench.finish(out)
        assert contents(out) == bench.expected
        if not extending:  # every shard that was whole is used again: one was in hand at most
            assert done.reused >= SHARD_ROWS * there - SHARD_ROWS + 1 or done.computed == 0
        reused += done.reused
        if kills == wanted:
            break
    assert kills == wanted and reused > 0


def test_repeated_kills_make_headway_and_end_in_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "features"
    shutil.copytree(bench.before, out)
    rng = random.Random(2)
    for _ in range(5):
        stage = bench.start(out)
        time.sleep(0.4 + rng.uniform(0, bench.seconds))  # start-up may be hit, too
        stage.kill()
        stage.wait()
    bench.finish(out)
    assert contents(out) == bench.expected


def test_ctrl_c_ends_soon_without_half_a_shard_and_the_rerun_resumes(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "features"
    stage = bench.start(out)
    while not (out / "next" / "shard-00002.h5").exists():
        assert stage.poll() is None
        time.sleep(0.001)
    stage.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert stage.wait(timeout=30) == 130
    assert time.monotonic() - started < 10
    assert stage.stderr is not None and b"Traceback" not in stage.stderr.read()
    assert not (out / "index.json").exists() and not list(out.rglob("*.tmp"))
    assert bench.finish(out).reused >= 3 * SHARD_ROWS
    assert contents(out) == bench.expected


def test_a_stage_that_outlives_dvc_refuses_a_second_writer(bench: Bench, tmp_path: Path) -> None:
    """What a killed `dvc repro` leaves is a stage that goes on writing; the next `dvc repro` starts another."""
    out = tmp_path / "features"
    orphan = bench.start(out)
    wait_for_work(orphan, out)
    orphan.send_signal(signal.SIGSTOP)
    second = bench.start(out)
    stderr = second.communicate(timeout=60)[1].decode()
    orphan.send_signal(signal.SIGCONT)
    assert second.returncode == 1 and f"PID {orphan.pid}" in stderr and "Traceback" not in stderr
    assert orphan.wait(timeout=60) == 0
    assert contents(out) == bench.expected
