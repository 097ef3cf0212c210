"""A task is plain data: another process performs it alone, and the set has the bytes of a run on this machine."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Tiny
from shard_building import PLAN, SPEC, Computer
from tiny_extraction import TinyExtraction, contents

from ffdi.errors import ParamsError
from ffdi.features.backbone import Backbone
from ffdi.features.engines.engine import choose_engine
from ffdi.features.extract import plan_rows
from ffdi.features.extractor import load_extractor
from ffdi.features.image_views import locate_images
from ffdi.features.shard_index import read_index
from ffdi.features.shard_set import Goal, ShardSet
from ffdi.features.shard_task import BlockReader, find_shard, run_shard
from ffdi.intake.decoding.images import ImageSource

WORKER = """
import json, pickle, sys
from ffdi.features.compute import FeatureComputer
from ffdi.features.shard_task import BlockReader, seal, write_task

for task, extractor, images in pickle.load(sys.stdin.buffer):
    computer = FeatureComputer(extractor, images)
    write_task(task, BlockReader(computer.blocks(task.missing)))
    print(json.dumps({"entry": seal(task), "made_by": computer.runtime.made_by}))
"""


def test_another_process_can_perform_the_tasks(
    tiny: Tiny, backbone: Callable[..., Backbone], weights: Path, tmp_path: Path
) -> None:
    run = TinyExtraction(tiny, backbone, weights, tmp_path / "here")
    run(tiny.rows.head(12))
    run(tiny.rows.iloc[3:9], out=tmp_path / "elsewhere")  # some rows are there and are copied
    rows, extractor = tiny.rows.head(12), load_extractor(backbone(), weights)
    goal = Goal(
        extractor.spec,
        plan_rows(list(rows["image_id"]), list(rows["role"]), backbone().views.count),
        7,
        read_index(tmp_path / "here").provenance,
    )
    shards, images = ShardSet(tmp_path / "elsewhere", goal), locate_images(rows, ImageSource(tiny.root, 10**6))
    plan = shards.plan()
    assert plan is not None and 0 < len(plan.missing) < len(goal.rows)
    sent = pickle.dumps([(task, extractor, images.of(task.missing)) for task in plan.tasks])
    done = subprocess.run([sys.executable, "-c", WORKER], input=sent, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    results = [json.loads(line) for line in done.stdout.splitlines()]
    shards.commit(plan, [result["entry"] for result in results], [maker for r in results for maker in r["made_by"]])
    assert contents(tmp_path / "elsewhere") == contents(tmp_path / "here")


def test_a_loaded_network_stays_where_it_was_loaded(backbone: Callable[..., Backbone], weights: Path) -> None:
    extractor = load_extractor(backbone(), weights)
    before = len(pickle.dumps(extractor))
    assert extractor.module is not None and extractor.module is extractor.load()
    assert len(pickle.dumps(extractor)) == before < 10_000


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"extract\.engine 'slurm' is not one of local, ray"):
        choose_engine("slurm")


def test_a_retry_finds_a_shard_that_is_whole_and_no_other(tmp_path: Path) -> None:
    """A worker that died may have written its shard, or have been writing it."""
    plan = ShardSet(tmp_path / "out", Goal(SPEC, PLAN, 100, {})).plan()
    assert plan is not None
    [task] = plan.tasks
    assert find_shard(task) is None
    with ThreadPoolExecutor(1) as sealing:
        entry = run_shard(task, BlockReader(Computer()(task.missing)), sealing).result()
    assert find_shard(task) == entry
    assert find_shard(replace(task, compression="bitshuffle-lz4")) is None
    assert find_shard(replace(task, rows=PLAN[:-1])) is None
    file = task.place.draft(task.name)
    body = bytearray(file.read_bytes())
    body[-20] ^= 1  # in the features, which HDF5 reads with their checksum
    file.write_bytes(body)
    assert find_shard(task) is None
