"""Shards in a folder next to shards in a bucket on loopback: seconds to write, plan, open and read, and requests.

The server is moto's in a process of its own, which keeps everything in memory: 1 GB of features is enough for it.

python -m bench.shards_at_url --shards 8 --rows 4096
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ffdi.features.engines.local import write_shards
from ffdi.features.feature_spec import Features, FeatureSpec, Row
from ffdi.features.remote_shard_set import RemoteShardSet
from ffdi.features.shard_set import Goal, ShardSet
from ffdi.features.store import FeatureStore

SHAPE = (160, 7, 7)  # MobileNetV2's at 224 pixels


@contextmanager
def bucket() -> Iterator[str]:
    """The URL of an empty bucket; the environment names its server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    names = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= names | {"AWS_ENDPOINT_URL": endpoint}
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{endpoint}/features", method="PUT"))
                break
            except OSError:
                time.sleep(0.1)
        yield "s3://features"
    finally:
        server.terminate()
        server.wait()


def goal(shards: int, rows: int) -> Goal:
    """So many shards of rows with views 0 and 1."""
    images = sorted(hashlib.sha256(str(image).encode()).hexdigest() for image in range(shards * rows // 2))
    spec = FeatureSpec("bench", "torchvision:mobilenet_v2", "features.16", "ab" * 32, 224, SHAPE, "float16", {})
    return Goal(spec, [(image, view) for image in images for view in (0, 1)], rows, {"weights": "random"})


def computed(rows: Sequence[Row]) -> Iterator[Features]:
    """Features that no compression makes small, as fast as they can be copied."""
    block = np.random.default_rng(0).normal(size=(256, *SHAPE)).astype(np.float16)
    for start in range(0, len(rows), 256):
        yield block[: min(256, len(rows) - start)]


def timed(step: Callable[[], object]) -> float:
    """The seconds of a step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def seconds(place: str, wanted: Goal, folder: Path) -> dict[str, float]:
    """Of each step, for shards in the folder or at the URL `place`."""

    def shards() -> ShardSet | RemoteShardSet:
        return RemoteShardSet(folder, wanted, f"{place}/bench") if place else ShardSet(folder, wanted)

    def write() -> None:
        writer = shards()
        plan = writer.plan()
        assert plan is not None
        writer.commit(plan, write_shards(plan.tasks, computed(plan.missing)), ())

    def read() -> None:
        store = FeatureStore(folder)
        for start in range(0, len(wanted.rows), wanted.shard_rows):
            store.read(wanted.rows[start : start + wanted.shard_rows])

    steps = {"write": write, "plan again": lambda: shards().plan(), "open": lambda: FeatureStore(folder)}
    return {name: timed(step) for name, step in (steps | {"read": read, "read again": read}).items()}


def main() -> None:
    """Print both as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rows", type=int, default=4096, help="of a shard")
    chosen = parser.parse_args()
    wanted = goal(chosen.shards, chosen.rows)
    size = len(wanted.rows) * wanted.spec.row_bytes
    print(f"{chosen.shards} shards of {size / chosen.shards / 1e6:.0f} MB, {size / 1e6:.0f} MB in all\n")
    with tempfile.TemporaryDirectory() as temporary, bucket() as url:
        os.environ["FFDI_CACHE"] = f"{temporary}/cache"
        found = {kind: seconds(place, wanted, Path(temporary) / kind) for kind, place in (("folder", ""), ("s3", url))}
    print("| step | folder, s | bucket on loopback, s | bucket, MB/s |\n| --- | ---: | ---: | ---: |")
    for step, spent in found["s3"].items():
        rate = "" if step in ("plan again", "open") else f"{size / spent / 1e6:.0f}"
        print(f"| {step} | {found['folder'][step]:.2f} | {spent:.2f} | {rate} |")


if __name__ == "__main__":
    main()
