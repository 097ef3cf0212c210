"""A Ray cluster on loopback that the tests of a process share. See the fixture `ray_cluster`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from workers import group_of

from ffdi.features.engines import crew, jobs

HERE = Path(__file__).parent  # workers import the modules of the tests
OBJECT_STORE = 80_000_000  # bytes, about the least that Ray takes: nothing large may go through it


@contextmanager
def _cluster() -> Iterator[Any]:
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }  # Ray reads them when it is imported
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster
    from ray.job_config import JobConfig

    node = {
        "num_cpus": 2,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
        "node_ip_address": "127.0.0.1",
    }
    not_needed = {"include_log_monitor": False, "no_monitor": True}  # two processes
    cluster = Cluster(initialize_head=True, head_node_args=node | not_needed)
    modules = JobConfig(_py_driver_sys_path=[str(folder) for folder in (HERE, *HERE.iterdir()) if folder.is_dir()])
    ray.init(address=cluster.address, job_config=modules, logging_level="error", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


_running = ExitStack()  # the cluster, from the first test that asks for it to the last test of its group
_clusters: list[Any] = []


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster of one node with two CPUs, to which this process is connected; a test may add nodes and remove them.

    It is a ray.cluster_utils.Cluster: `address` is where another process connects. All tests of the group share it;
    a file that uses it has a name that ends in ray.py. It ends with them: idle, it would take 4 % of a core.
    """
    for module in (crew, jobs):  # how long a pause is, the tests of Jobs see
        monkeypatch.setattr(module, "pause_after", lambda tries, first=0.0: 0.05)
    if not _clusters:
        _clusters.append(_running.enter_context(_cluster()))
    deadline = time.monotonic() + 30
    while workers_of(_clusters[0]):  # of the test before: a signal for a worker of this one could hit them
        assert time.monotonic() < deadline, "workers of an earlier test go on"
        time.sleep(0.02)
    return _clusters[0]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid):
        _clusters.clear()
        _running.close()


def workers_of(cluster: Any) -> list[int]:
    """The PIDs of the workers of ffdi on the first node of a cluster."""
    raylet = cluster.head_node.all_processes["raylet"][0].process.pid
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may just have ended
            _, _, after_name = stat.read_text().rpartition(")")
            title = (stat.parent / "cmdline").read_bytes()
            if int(after_name.split()[1]) == raylet and title.startswith(b"ray::Host"):
                found.append(int(stat.parent.name))
    return sorted(found)
