"""The parts of work on a cluster that need no cluster: which job is next, what a worker takes, whom it refuses."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
from conftest import Tiny
from s3_server import S3Server

from ffdi.bounds import Rule
from ffdi.console import Console
from ffdi.errors import FfdiError, InputError, ParamsError, ShardError
from ffdi.features.backbone import Backbone
from ffdi.features.engines.crew import share_of
from ffdi.features.engines.host import Host
from ffdi.features.engines.jobs import Failure, Jobs
from ffdi.features.engines.ray import Cluster
from ffdi.features.engines.same_machine import Machine, SharedWeights
from ffdi.features.engines.tally import Computed, ShardTally
from ffdi.features.extract import plan_rows
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.image_views import locate_images
from ffdi.features.settings import RaySettings
from ffdi.features.shard_set import Goal, ShardSet
from ffdi.files import sha256_file
from ffdi.intake.decoding.images import ImageSource
from ffdi.storage import Remote

GONE = InputError("x.jpg: gone")


def test_jobs_come_in_order_and_failed_ones_after_pauses_that_double() -> None:
    now = 0.0
    jobs = Jobs[str](2, retries=2, clock=lambda: now)
    assert [jobs.next(), jobs.next(), jobs.next()] == [0, 1, None]
    assert jobs.failed(0, "a", GONE)
    jobs.done(1, "one")
    assert jobs.next() is None and jobs.left == jobs.waiting == 1
    now = 1.0
    assert jobs.next() == 0 and jobs.failed(0, "b", GONE)
    now = 2.9
    assert jobs.next() is None
    now = 3.0
    assert jobs.next() == 0 and not jobs.failed(0, "c", GONE)
    assert jobs.left == 0 and jobs.results == {1: "one"} and jobs.failures == {0: Failure("c", GONE, 3)}


@pytest.mark.parametrize(
    ("nodes", "settings", "cpus", "gpus"),
    [
        ([{"CPU": 8.0}], RaySettings(), 1, 0),
        ([{"CPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}], RaySettings(), 4, 1),  # of the nodes with GPUs
        ([{"CPU": 16.0, "GPU": 4.0}], RaySettings(gpus_per_task=0.5), 2, 0.5),
        ([{"CPU": 16.0, "GPU": 4.0}], RaySettings(gpus_per_task=0), 1, 0),
        ([{"CPU": 16.0, "GPU": 4.0}], RaySettings(cpus_per_task=3), 3, 1),
    ],
)
def test_what_a_worker_takes(nodes: list[dict[str, float]], settings: RaySettings, cpus: float, gpus: float) -> None:
    assert share_of(nodes, settings) == {"num_cpus": cpus, "num_gpus": gpus}


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FfdiError, match=r"needs Ray: pip install 'ffdi\[ray\]'"):
        Cluster(RaySettings()).__enter__()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_a_cluster_that_does_not_answer_is_said_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__spec__=object(), is_initialized=lambda: False))
    with pytest.raises(ParamsError, match=r"127\.0\.0\.1:1.* cannot be reached \(.*refused\): start the cluster"):
        Cluster(RaySettings(address)).__enter__()


def test_a_cluster_that_has_gone_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = SimpleNamespace(get_ray_address_from_environment=lambda address, folder: "127.0.0.1:1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray._private.services", noted)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__spec__=object(), is_initialized=lambda: False))
    with pytest.raises(ParamsError, match=r"auto, which is 127\.0\.0\.1:1 by what Ray noted"):
        Cluster(RaySettings()).__enter__()


@pytest.mark.parametrize("address", ["localhost", "ray://", "head:port", "ray://user@head:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:

    rule: Any = get_type_hints(RaySettings, include_extras=True)["address"].__metadata__[0]
    assert isinstance(rule, Rule)
    with pytest.raises(ParamsError, match="none of auto, local"):
        rule.check(address)


def test_a_host_answers_with_errors_on_one_line() -> None:
    def work(item: str, tell: Callable[[Any], None]) -> str:
        tell("begun")
        return {"a": "A"}[item]

    host = Host(lambda: work, 0)
    assert host.open().error is None
    assert host.work(0, "a").result == "A"
    answer = host.work(1, "b")
    assert answer.told == ("begun",) and "KeyError: 'b' in " in str(answer.error) and "\n" not in str(answer.error)


class Task:
    name, missing = "shard-00000.h5", range(10)


def test_rows_are_counted_once_however_often_a_shard_is_tried() -> None:
    shown, notes = list[int](), list[str]()

    def progress(items: Any, total: int, *, unit: str, phase: str = "", note: Any) -> Any:
        for item in items:
            yield item
            shown.append(len(item))
            notes.append(note())

    tally, task = ShardTally(10, Console(progress=progress)), Task()
    for rows in (4, 8, 4, 8):  # the second try begins again
        tally.hear(task, Computed("host:1", rows))  # type: ignore[arg-type]
    tally.hear(task, Failure("host:1", GONE, 2))  # type: ignore[arg-type]
    tally.finish(task)  # type: ignore[arg-type]
    tally.close()
    assert shown == [4, 4, 2] and notes[-1].startswith("1 shards failed, host:1 ")


@pytest.fixture
def driver(
    tiny: Tiny, backbone: Callable[..., Backbone], weights: Path, tmp_path: Path
) -> Iterator[tuple[Extractor, Machine]]:
    """What the driver of an extraction has, and what it asks of a worker."""
    extractor = load_extractor(backbone(), weights)
    rows = plan_rows(list(tiny.rows["image_id"]), list(tiny.rows["role"]), 0)
    plan = ShardSet(tmp_path / "out", Goal(extractor.spec, rows, 16, {})).plan()
    assert plan is not None
    with Machine.here(extractor, plan.tasks, locate_images(tiny.rows, ImageSource(tiny.root, 10**6))) as machine:
        yield extractor, machine


def test_a_worker_that_sees_what_the_driver_sees_is_taken(driver: tuple[Extractor, Machine]) -> None:
    extractor, machine = driver
    assert machine.extractor_here(extractor).load == extractor.load


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e, m: (e, replace(m, mark=m.mark.with_name("other"))), "is not the folder of the driver here: mount"),
        (lambda e, m: (e, replace(m, image="gone.jpg")), r"gone\.jpg: the images of the driver are not seen here"),
        (
            lambda e, m: (e, replace(m, weights=replace(m.weights, file=Path("gone")))),
            "gone: the weights are not seen here",
        ),
        (lambda e, m: (e, replace(m, weights=replace(m.weights, file=m.mark))), "other weights than the driver's"),
        (
            lambda e, m: (replace(e, spec=replace(e.spec, policy={**e.spec.policy, "decode": "pillow-rgb-9"})), m),
            r"others than the driver's \(decode pillow-rgb-2, not pillow-rgb-9\)",
        ),
    ],
    ids=["other folder", "no images", "no weights", "other weights", "other code"],
)
def test_another_worker_is_refused(driver: tuple[Extractor, Machine], change: Any, said: str) -> None:
    extractor, machine = change(*driver)
    with pytest.raises(ShardError, match=said):
        machine.extractor_here(extractor)


def test_the_local_engine_imports_no_ray() -> None:
    code = "import sys, ffdi.features.extract, ffdi.features.engines.local; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.s3
def test_weights_come_from_the_url_where_the_file_is_not(
    s3: S3Server, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    shared = SharedWeights(weights, sha256_file(weights), f"{s3.url}/features/tiny")
    shared.share()
    shared.share()
    assert s3.stored() == [f"features/tiny/weights/{shared.sha256}.safetensors"]
    elsewhere = replace(shared, file=Path("gone"))
    Remote(s3.url).put_bytes(b"torn", s3.stored()[0])
    with pytest.raises(ShardError, match=r"weights/.*\.safetensors: other weights than its name says: delete it"):
        elsewhere.here()
    Remote(s3.url).put(weights, s3.stored()[0])
    assert elsewhere.here().read_bytes() == weights.read_bytes()
    assert shared.here() == weights
