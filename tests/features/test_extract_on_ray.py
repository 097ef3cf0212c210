"""Extraction on a Ray cluster has the bytes of one on this machine, whatever fails meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HERE, Tiny
from ray_cluster import workers_of
from s3_server import S3Server
from tiny_extraction import contents

from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.features.backbone import Backbone
from ffdi.features.engines.loading import load_for_engine
from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.settings import ExtractSettings, RaySettings
from ffdi.features.shard_index import read_index
from ffdi.intake.decoding.images import ImageSource

pytestmark = pytest.mark.ray
SHARD_ROWS = 8


class Extraction:
    """extraction("ray", out) extracts the tiny set; `at_first_rows` is called once a worker has computed some."""

    def __init__(self, tiny: Tiny, backbone: Backbone, weights: Path) -> None:
        self.tiny, self.backbone, self.weights = tiny, backbone, weights
        self.root = tiny.root
        self.store: str | None = None
        self.lines: list[str] = []
        self.at_first_rows: Callable[[], object] = lambda: None

    def __call__(self, engine: Any, out: Path, **ray: Any) -> ExtractionSummary:
        return extract_features(
            self.tiny.rows,
            load_extractor(self.backbone, self.weights),
            out,
            source=ImageSource(self.root, 10**6),
            settings=ExtractSettings(engine=engine, shard_rows=SHARD_ROWS, store=self.store, ray=RaySettings(**ray)),
            console=Console(say=self.lines.append, progress=self._progress),
        )

    def _progress(self, items: Iterable[Any], total: int, **_: Any) -> Iterator[Any]:
        for number, item in enumerate(items):
            yield item
            if number == 0:
                self.at_first_rows()


@pytest.fixture
def extraction(tiny: Tiny, backbone: Callable[..., Backbone], weights: Path) -> Extraction:
    return Extraction(tiny, backbone(cut="input"), weights)


@pytest.fixture
def due(extraction: Extraction, tmp_path: Path) -> dict[str, bytes]:
    """The bytes of the local engine."""
    extraction("local", tmp_path / "local")
    return contents(tmp_path / "local")


def test_one_and_two_workers_give_the_bytes_of_the_local_engine(
    ray_cluster: Any, tiny: Tiny, backbone: Callable[..., Backbone], weights: Path, tmp_path: Path
) -> None:
    extraction = Extraction(tiny, backbone(), weights)
    extraction("local", tmp_path / "here")
    for workers in (1, 2):
        out = tmp_path / f"ray{workers}"
        done = extraction("ray", out, max_in_flight=workers)
        assert done.computed == done.rows > 48 and done.seconds["prefix"] > 0 <= done.seconds["write"]
        assert contents(out) == contents(tmp_path / "here")
    assert extraction("ray", out).computed == 0


def test_a_killed_worker_and_a_full_object_store_change_no_byte(
    ray_cluster: Any, extraction: Extraction, due: dict[str, bytes], tmp_path: Path
) -> None:
    """Features do not go through the object store, so it may be full."""
    import ray

    filler = ray.put(np.zeros(70_000_000, np.uint8))
    extraction.at_first_rows = lambda: os.kill(workers_of(ray_cluster)[0], signal.SIGKILL)
    done = extraction("ray", tmp_path / "out")
    del filler
    assert done.computed == done.rows
    assert any("its process or its node died" in line for line in extraction.lines)
    assert contents(tmp_path / "out") == due


def test_a_node_that_goes_and_a_straggler_change_no_byte(
    ray_cluster: Any, extraction: Extraction, due: dict[str, bytes], tmp_path: Path
) -> None:
    node = ray_cluster.add_node(num_cpus=1, object_store_memory=80_000_000, node_ip_address="127.0.0.1")

    def at_first_rows() -> None:
        straggler = workers_of(ray_cluster)[0]
        os.kill(straggler, signal.SIGSTOP)
        threading.Timer(1, os.kill, (straggler, signal.SIGCONT)).start()
        ray_cluster.remove_node(node)

    extraction.at_first_rows = at_first_rows
    extraction("ray", tmp_path / "out")
    assert any("the worker was lost" in line for line in extraction.lines)
    assert contents(tmp_path / "out") == due


def test_a_shard_that_fails_is_named_and_the_next_run_computes_it_alone(
    ray_cluster: Any, extraction: Extraction, due: dict[str, bytes], tmp_path: Path
) -> None:
    root, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(extraction.tiny.root, root)
    extraction.root = root
    gone = root / "0007.jpg"
    kept = gone.read_bytes()
    gone.unlink()
    with pytest.raises(
        InputError, match=r"^shard-\d+\.h5: failed 2 times, at last on \S+:\d+: .*0007\.jpg: cannot be read"
    ):
        extraction("ray", out, retries=1, max_in_flight=1)
    assert not (out / "index.json").exists()
    gone.write_bytes(kept)
    done = extraction("ray", out, max_in_flight=1)
    assert 0 < done.computed <= 2 * SHARD_ROWS < done.rows
    assert contents(out) == due


def test_ctrl_c_ends_the_workers_and_the_next_run_goes_on(
    ray_cluster: Any, extraction: Extraction, due: dict[str, bytes], tmp_path: Path
) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    extraction.at_first_rows = press
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        extraction("ray", out)
    deadline = time.monotonic() + 20
    while workers_of(ray_cluster):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (out / "index.json").exists()
    extraction.at_first_rows = lambda: None
    assert extraction("ray", out, max_in_flight=1).reused > 0
    assert contents(out) == due


@pytest.mark.s3
def test_workers_take_parts_of_a_gpu_and_upload_their_shards(
    ray_cluster: Any, s3: S3Server, extraction: Extraction, due: dict[str, bytes], tmp_path: Path
) -> None:
    """Ray believes that the node has a GPU; only its workers have the environment of the bucket."""
    node = ray_cluster.add_node(
        num_cpus=2, num_gpus=1, object_store_memory=80_000_000, node_ip_address="127.0.0.1", include_dashboard=False
    )
    ray_cluster.wait_for_nodes()
    try:
        settings = ExtractSettings("ray", ray=RaySettings(gpus_per_task=0.5))
        extractor = load_for_engine(extraction.backbone, extraction.weights, tmp_path / "out", settings, Console())
        assert extractor.spec == load_extractor(extraction.backbone, extraction.weights).spec
        extraction.store = f"{s3.url}/features"
        extraction("ray", tmp_path / "out", gpus_per_task=0.5)
    finally:
        ray_cluster.remove_node(node)
    assert any("each worker takes 1 CPUs and 0.5 GPUs" in line for line in extraction.lines)
    names = [entry["name"] for entry in read_index(tmp_path / "local").shards]
    there = {key.rsplit("/", 1)[-1] for key in s3.stored() if key.endswith(".h5")}
    assert there == {f"{hashlib.sha256(due[name]).hexdigest()}.h5" for name in names}


PARAMS = """
data: {{root: {root}}}
backbones: {{pixels: {{network: "torchvision:mobilenet_v2", weights: random, cut: input, image_size: 64}}}}
recipes: {{pixels: {{backbone: pixels}}}}
split: {{embedding: pixels}}
ladder: {{recipe: pixels, backbone: pixels}}
extract: {{engine: ray, shard_rows: 4, ray: {{address: "{address}", max_in_flight: 1}}}}
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_where_it_was(
    ray_cluster: Any, tiny: Tiny, weights: Path, tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS.format(root=tiny.root, address=ray_cluster.address))

    environment = os.environ | warm_environment
    warm = shutil.which("python", path=warm_environment["PATH"])
    assert warm

    def stage(python: str, out: Path, *options: str) -> subprocess.Popen[bytes]:
        files = {
            "images": tiny.images_file,
            "folds": tiny.folds_file,
            "weights": weights,
            "out": out,
            "timings": tmp_path,
        }
        named = [word for name, file in files.items() for word in (f"--{name}", str(file))]
        command = [python, str(HERE / "stages/extract.py"), "--backbone", "pixels", *named, *options]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)

    local = stage(warm, tmp_path / "local", "--engine", "local")
    out = tmp_path / "out"
    killed = stage(sys.executable, out)
    while not list(out.glob("next/shard-*.h5")):
        assert killed.poll() is None
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    assert not (out / "index.json").exists()
    again = stage(warm, out)
    said = again.communicate(timeout=120)[1].decode()
    assert again.returncode == 0 and "reused" in said and " 0 reused" not in said
    assert local.wait(timeout=120) == 0
    assert contents(out) == contents(tmp_path / "local")
