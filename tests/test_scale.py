"""bench/scale.py: the laws that its simulation keeps, and the figures of docs/scale.md, which it wrote."""

from __future__ import annotations

import importlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE / "bench"))
        yield importlib.import_module("cluster_model")


@pytest.fixture(scope="module")
def job(model: Any) -> Any:
    return model.Job(images=12_345, views=3, image_bytes=20_000, row_bytes=15_680, shard_rows=128)


@pytest.fixture(scope="module")
def costs(model: Any) -> Any:
    return model.Costs(
        decode=1e-3, view=5e-4, prefix=2e-3, write=5e-9, seal=5e-9, plan=1e-6, task=1e-3, start=3, spread=0.2
    )


def test_the_time_of_few_tasks_is_that_worked_out_by_hand(model: Any) -> None:
    """Four shards of 10 images on 2 workers: each worker computes two, and seals and uploads one after the other."""
    job = model.Job(images=40, views=1, image_bytes=100, row_bytes=1000, shard_rows=10)
    costs = model.Costs(decode=0.2, view=0.1, prefix=0.5, write=1e-5, seal=1e-4, plan=0.01, task=0.0, start=3.0)
    cluster = model.Cluster(workers=2, cores=1, store_rate=2000, node_rate=2000, workers_a_node=2)
    done = model.simulate(job, costs, cluster)
    computed = 10 * 0.5  # the prefix is slower than the one core's 0.3 s an image
    upload = 10 * 1000 / (2000 / 2)  # two flows share the line
    assert done.planning == pytest.approx(40 * 0.01)
    # A worker's second upload begins when its first one has ended and its second shard is computed and sealed.
    assert done.seconds == pytest.approx(0.4 + 3 + computed + (1 + upload) + (1 + upload))
    assert (done.bytes_in, done.bytes_out) == (40 * 100, 40 * 1000)


def test_a_line_that_is_shared_gives_each_flow_an_equal_part(model: Any) -> None:
    env = model.simpy.Environment()
    line, ends = model.Line(env, 10.0, 8.0, 2), dict[str, float]()

    def flow(name: str, begin: float, amount: float) -> Any:
        yield env.timeout(begin)
        yield line.flow(amount)
        ends[name] = env.now

    env.process(flow("alone, then shared", 0, 26))
    env.process(flow("later", 2, 10))
    env.run()
    # 16 pass alone at 8 a second; the rest and the other's 10 pass at 5 a second.
    assert ends == {"alone, then shared": pytest.approx(4), "later": pytest.approx(4)}


@pytest.mark.parametrize(("failing", "task"), [(math.inf, 0.001), (0.003, 0.001), (0.003, 0.1)])
def test_every_shard_is_committed_once_and_its_bytes_move(
    model: Any, job: Any, costs: Any, failing: float, task: float
) -> None:
    """Whatever fails, and also where workers wait for the driver, which needs 0.1 s for each task."""
    cluster = model.Cluster(
        workers=12,
        workers_a_node=2,
        cores=2,
        store_rate=1e8,
        hours_between_failures=failing,
        repair=2,
        slow_share=0.2,
        slow_factor=3,
    )
    done = model.simulate(job, replace(costs, task=task), cluster)
    assert set(done.done) == {1}
    assert len(done.done) == math.ceil(job.rows / 128)
    if math.isinf(failing):
        assert (done.repeated, done.bytes_out) == (0, pytest.approx(job.rows * job.row_bytes))
    else:
        assert done.repeated > 0
        assert done.bytes_out >= job.rows * job.row_bytes
    assert all(0 <= share <= 1 + 1e-9 for share in done.busy.values())


def test_no_worker_waits_while_there_is_work(model: Any, job: Any, costs: Any) -> None:
    """With equal tasks, a free driver and a fast store, the wall is that of the worker with the most tasks."""
    even, cluster = replace(costs, spread=0, task=0, write=0, seal=0), model.Cluster(workers=7, cores=4)
    whole = replace(job, images=128 * 100, views=1)
    task = 128 * even.prefix
    assert model.simulate(whole, even, cluster).seconds == pytest.approx(
        whole.rows * even.plan + even.start + math.ceil(100 / 7) * task
    )


def test_twice_the_workers_are_never_slower_nor_more_than_twice_as_fast(model: Any, job: Any, costs: Any) -> None:
    """On a full line they are 2 % slower at most, with 18 shards each: they share it, so all begin their first upload later."""
    for cluster in (
        model.Cluster(workers=1, cores=4),
        model.Cluster(workers=1, cores=1, prefix_on_cores=True),
        model.Cluster(workers=1, store_rate=2e7, node_rate=1e7, get_rate=4000, latency=0.03),
    ):
        walls = [model.simulate(job, costs, replace(cluster, workers=2**n)).seconds for n in range(5)]
        for few, many in itertools.pairwise(walls):
            assert few / 2 - 1 <= many <= few * 1.02


def test_the_seed_decides_the_outcome(model: Any, job: Any, costs: Any) -> None:
    cluster = model.Cluster(workers=5, hours_between_failures=0.005, repair=5, slow_share=0.3, slow_factor=2)
    first = model.Run(job, costs, cluster, 1).outcome()
    assert first == model.Run(job, costs, cluster, 1).outcome()
    assert first.seconds != model.Run(job, costs, cluster, 2).outcome().seconds


def test_the_page_has_what_the_script_writes_from_the_measured_seconds(model: Any) -> None:
    page = (HERE / "docs" / "scale.md").read_text(encoding="utf-8")
    found = json.loads((HERE / "bench" / "scale.json").read_text(encoding="utf-8"))
    tables, study = importlib.import_module("scale_tables"), importlib.import_module("scale_study").Study(found)
    for lines in (tables.inputs_table(study), tables.bytes_table(study)):
        assert "\n".join(lines) in page
    table = list(tables.hours_table(study, "mobilenet_v2", 1, (8,)))
    assert "\n".join(table) in page


def test_the_sizes_are_those_of_the_shards(model: Any) -> None:
    """A hundred million rows: 160 x 7 x 7 and 1024 x 14 x 14 numbers of two bytes; in eight bits a scale a channel more."""
    row_bytes = importlib.import_module("scale_study").row_bytes
    assert [row_bytes(one) * 10**8 for one in ("mobilenet_v2", "wide_resnet50_2")] == [
        1_568_000_000_000,
        40_140_800_000_000,
    ]
    assert row_bytes("mobilenet_v2", dtype="int8") == 160 * 7 * 7 + 4 * 160
    assert row_bytes("wide_resnet50_2", "mean") == 2048
