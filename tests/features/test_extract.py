"""Images to shards: what is stored, what is reused, and what an interrupted run leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, make_tiny, picture
from tiny_extraction import TinyExtraction, contents

from ffdi.errors import FfdiError, InputError, LockedError
from ffdi.features.backbone import Backbone, Views
from ffdi.features.compute import FeatureComputer
from ffdi.features.extract import extract_features, plan_rows
from ffdi.features.extractor import load_extractor
from ffdi.features.quantised import as_stored
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.features.views import render
from ffdi.intake.decoding.images import ImageSource, open_image, to_array
from ffdi.params.reading import read_params

STAGE = Path(__file__).parents[2] / "stages" / "extract.py"
Make = Callable[..., Backbone]


@pytest.fixture
def run(tiny: Tiny, backbone: Make, weights: Path, tmp_path: Path) -> TinyExtraction:
    return TinyExtraction(tiny, backbone, weights, tmp_path / "f")


def test_the_plan_is_sorted_and_has_the_clean_view_alone_of_test_images() -> None:
    a, b, c = ("0" * 63 + digit for digit in "123")
    planned = plan_rows([c, b, a], ["perturbed", "train", "test"], 2)
    assert planned == [(a, 0), (b, 0), (b, 1), (b, 2), (c, 1)]
    assert planned[1:3] == [(b, 0), (b, 1)] and planned[-1] == (c, 1) and plan_rows([], [], 2) == []


def test_a_row_is_the_prefix_of_its_view(
    run: TinyExtraction, tiny: Tiny, backbone: Make, weights: Path, tmp_path: Path
) -> None:
    run()
    store = FeatureStore(tmp_path / "f")
    store.verify()
    assert store.spec.shape == (160, 2, 2) and store.spec.dtype == "float16"
    assert store.index.provenance["weights"] == "random" and store.index.provenance["pretrained"] is False
    spec = backbone()
    prefix = load_extractor(spec, weights).module
    assert prefix is not None
    for row in tiny.rows.head(12).itertuples():
        image = open_image((tiny.root / row.path).read_bytes(), max_pixels=10**6)
        assert store.views(row.image_id) == ([0, 1] if row.role == "train" else [0])
        for view in store.views(row.image_id):
            square = spec.pixels.square(image)
            view_image = render(square, image_id=row.image_id, view=view, policy=spec.views.operations, seed=0)
            with torch.inference_mode():
                due = prefix(torch.from_numpy(to_array(view_image).copy())[None]).half().numpy()
            assert np.array_equal(store.read([(row.image_id, view)]), due)


def test_cut_input_stores_the_pixels(run: TinyExtraction, tiny: Tiny, tmp_path: Path) -> None:
    run(cut="input")
    store = FeatureStore(tmp_path / "f")
    assert store.spec.shape == (3, 64, 64) and store.spec.dtype == "uint8"
    row = tiny.rows.iloc[0]
    image = open_image((tiny.root / row["path"]).read_bytes(), max_pixels=10**6)
    assert np.array_equal(store.read([(row["image_id"], 0)])[0], to_array(image).transpose(2, 0, 1))


def test_int8_features_are_those_of_float16_rounded(run: TinyExtraction, tmp_path: Path) -> None:
    run(out=tmp_path / "half")
    run(out=tmp_path / "byte", dtype="int8")
    half, byte = FeatureStore(tmp_path / "half"), FeatureStore(tmp_path / "byte")
    assert np.array_equal(byte.read(byte.rows), as_stored(half.read(half.rows), "int8"))
    again = run(out=tmp_path / "byte", dtype="int8")
    assert again.computed == 0


def test_extraction_leaves_the_prefix_as_it_was(tiny: Tiny, backbone: Make, weights: Path, tmp_path: Path) -> None:
    prefix = load_extractor(backbone(), weights)
    assert prefix.module is not None
    before = {k: v.clone() for k, v in prefix.module.state_dict().items()}
    rows = tiny.rows.head(6)
    settings = ExtractSettings(workers=2, shard_rows=4)
    extract_features(rows, prefix, tmp_path / "f", source=ImageSource(tiny.root, 10**6), settings=settings)
    after = prefix.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not any(m.training for m in prefix.module.modules())


def test_the_bytes_do_not_depend_on_workers_nor_on_the_other_images(
    run: TinyExtraction, tiny: Tiny, tmp_path: Path
) -> None:
    run(workers=1, out=tmp_path / "one")
    run(workers=4, out=tmp_path / "four")
    assert contents(tmp_path / "one") == contents(tmp_path / "four")
    run(tiny.rows.iloc[3:4], out=tmp_path / "alone")
    alone = FeatureStore(tmp_path / "alone")
    rows = [(tiny.rows.iloc[3]["image_id"], 0)]
    assert alone.read(rows).tobytes() == FeatureStore(tmp_path / "one").read(rows).tobytes()


def with_roles(rows: pd.DataFrame, role: str) -> pd.DataFrame:
    return rows.assign(role=role)


@pytest.mark.parametrize(
    ("first", "then", "reused", "computed"),
    [
        pytest.param((10, "train", 1), (12, "train", 1), 20, 4, id="images added"),
        pytest.param((12, "train", 1), (10, "train", 1), 20, 0, id="images dropped"),
        pytest.param((12, "train", 0), (12, "train", 2), 12, 24, id="views added"),
        pytest.param((12, "train", 1), (12, "test", 1), 12, 0, id="all become test images"),
        pytest.param((12, "test", 1), (12, "train", 1), 12, 12, id="all become train images"),
    ],
)
def test_only_missing_rows_are_computed(
    first: tuple[int, str, int],
    then: tuple[int, str, int],
    reused: int,
    computed: int,
    run: TinyExtraction,
    tiny: Tiny,
    tmp_path: Path,
) -> None:
    for count, role, views in (first, then):
        done = run(with_roles(tiny.rows.head(count), role), views=Views(views, "seeds"))
    assert (done.reused, done.computed) == (reused, computed)
    count, role, views = then
    run(with_roles(tiny.rows.head(count), role), views=Views(views, "seeds"), out=tmp_path / "from-nothing")
    assert contents(tmp_path / "f") == contents(tmp_path / "from-nothing")


@pytest.mark.parametrize(
    "change",
    [
        {"views": Views(1, "seeds", seed=1)},
        {"mean": (0.4, 0.5, 0.5)},
        {"dtype": "float32"},
        {"cut": "features.15"},
        {"views": Views(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_param_that_changes_features_rebuilds_them_all(change: dict[str, Any], run: TinyExtraction) -> None:
    total = run().rows
    assert run().computed == 0
    assert run(**change).computed == total


def test_a_lost_index_is_written_again_without_computing_a_row(run: TinyExtraction, tmp_path: Path) -> None:
    run()
    before = contents(tmp_path / "f")
    (tmp_path / "f" / "index.json").unlink()
    assert run().computed == 0
    assert contents(tmp_path / "f") == before  # what computes rows here is named as their maker


@pytest.fixture
def changeable(tmp_path: Path) -> Tiny:
    """A data set whose files the test may change."""
    return make_tiny(tmp_path / "own", count=12, groups=6, folds=2)


def test_an_image_that_changed_since_ingest_is_an_error_naming_it(run: TinyExtraction, changeable: Tiny) -> None:
    picture(99).save(changeable.root / "0003.jpg")
    with pytest.raises(InputError, match=r"0003\.jpg: changed since it was ingested"):
        run(changeable.rows, root=changeable.root)


def test_an_image_that_is_gone_is_an_error_naming_it(run: TinyExtraction, changeable: Tiny) -> None:
    (changeable.root / "0003.jpg").unlink()
    with pytest.raises(InputError, match=r"0003\.jpg: cannot be read: No such file"):
        run(changeable.rows, root=changeable.root)


def test_the_time_by_part_is_told(run: TinyExtraction) -> None:
    seconds = run().seconds
    assert set(seconds) == {"start", "decode", "views", "prefix", "write", "work"}
    assert all(spent > 0 for spent in seconds.values())
    assert set(run().seconds) == {"start", "work", "write"}  # nothing to do


def test_a_disk_that_is_too_small_is_refused_before_the_first_image(
    run: TinyExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 20_000, 20_000))
    monkeypatch.setattr(FeatureComputer, "__init__", lambda *a, **k: pytest.fail("an image was read"))
    with pytest.raises(FfdiError, match=r"needs 2\d(\.\d)? kB, the disk has 20 kB free"):
        run()


def test_nothing_is_asked_of_the_disk_when_nothing_is_missing(
    run: TinyExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0))
    assert run().computed == 0


def test_a_second_writer_is_refused_naming_the_first(run: TinyExtraction, tmp_path: Path) -> None:
    hold = (
        "import sys, pathlib, ffdi.files as f\n"
        "with f.sole_writer(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "f")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=rf"PID {holder.pid}\)"):
            run()
    finally:
        holder.kill()
        holder.communicate()
    assert run().computed > 0  # a lock of the dead holds no one


PARAMS = """
data: {{root: {root}}}
backbones:
  tiny:
    network: torchvision:mobilenet_v2
    weights: random
    cut: features.16
    image_size: 64
    views: {{count: 3, policy: seeds}}
    runtime: torch
recipes:
  tiny: {{backbone: tiny}}
split: {{embedding: tiny}}
ladder: {{recipe: tiny, backbone: tiny}}
extract: {{shard_rows: 16, workers: 1}}
"""


def test_a_killed_stage_resumes_and_ends_in_the_same_bytes(tiny: Tiny, weights: Path, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS.format(root=tiny.root))
    out = tmp_path / "data" / "features" / "tiny"
    command = [sys.executable, str(STAGE), "--params", str(params), "--backbone", "tiny", "--out", str(out)]
    command += ["--images", str(tiny.images_file), "--folds", str(tiny.folds_file), "--weights", str(weights)]
    command += ["--timings", str(tmp_path / "timings")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    stage = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "next" / "shard-00001.h5").exists():
        assert stage.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    stage.send_signal(signal.SIGKILL)
    assert stage.wait() == -signal.SIGKILL
    assert not (out / "index.json").exists()
    written = sorted((out / "next").glob("shard-*.h5"))
    assert len(written) >= 2

    rerun = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stderr
    assert f"{16 * len(written)} reused" in rerun.stderr
    unbroken = tmp_path / "unbroken"
    read = read_params(params)
    extract_features(
        tiny.rows,
        load_extractor(replace(read.backbone("tiny"), name="tiny"), weights),
        unbroken,
        source=ImageSource(tiny.root, 10**6),
        settings=ExtractSettings(workers=2, shard_rows=16),
    )
    assert contents(out) == contents(unbroken)
