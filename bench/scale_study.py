"""What bench/scale.py simulates: the job, the machines, and the seconds of each part, measured or assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster_model import GB, Cluster, Costs, Job, Outcome, simulate

from ffdi.features.feature_spec import stored_bytes
from ffdi.features.keep import Keep, kept_shape
from ffdi.intake.decoding.read_ahead import READERS

IMAGES = 100_000_000
GPUS = (8, 32, 128, 512)
SHAPES = {"mobilenet_v2": (160, 7, 7), "wide_resnet50_2": (1024, 14, 14)}
# Images a second of the whole network on one RTX 3090, mixed precision, batch 1024, PyTorch 2.4: timm's
# results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv, of mobilenetv2_100 and wide_resnet50_2 at 224 pixels.
GPU_RATES = {"mobilenet_v2": 8629.73, "wide_resnet50_2": 1825.62}
MANY = 1e9  # more requests a second than anybody makes
GETS = 5500  # a second and prefix of a bucket, which Amazon's guide to S3 promises at least
START = 30.0  # seconds, assumed: a worker with torch and CUDA
SPREAD = 0.1  # of the time of a shard, assumed: without it workers keep step, and all upload at the same moment
CLUSTER = Cluster(
    workers=64,
    cores=8,
    node_rate=12.5 * GB,
    store_rate=25 * GB,
    get_rate=16 * GETS,
    latency=0.03,
    reads=READERS,
    # 419 unexpected interruptions in 54 days of 16,384 GPUs: The Llama 3 Herd of Models, arXiv 2407.21783, section 3.3.4
    hours_between_failures=54 * 24 * 16_384 / 8 / 419,
    slow_share=0.01,
    slow_factor=2,
)


@dataclass(frozen=True)
class Prices:
    """Of a GPU and hour with its share of a machine, of a TB and month, of a million requests; None: not said."""

    gpu_hour: float | None = None
    tb_month: float | None = None
    million_gets: float | None = None


@dataclass(frozen=True)
class Study:
    """What is simulated from the measured seconds in `found`."""

    found: Mapping[str, Any]
    prices: Prices = Prices()
    images: int = IMAGES
    cluster: Cluster = CLUSTER

    def costs(self, backbone: str, *, large: bool = False) -> Costs:
        """The measured seconds, and of the prefix those of a GPU."""
        parts, images = self.found[backbone], self.found["images"]
        decode = images["large_decode"] if large else parts["decode"]
        gpu = 1 / GPU_RATES[backbone]
        rest = {"plan": images["plan"], "task": self.found["task"], "start": START, "spread": SPREAD}
        return Costs(decode, parts["view"], gpu, parts["write"], parts["seal"], **rest)

    def job(self, backbone: str, views: int, *, keep: Keep = "all", dtype: str = "float16", large: bool = False) -> Job:
        size = self.found["images"]["large_bytes" if large else "bytes"]
        return Job(self.images, views, size, row_bytes(backbone, keep, dtype))

    def run(self, backbone: str, views: int, workers: int, *, large: bool = False, **changes: Any) -> Outcome:
        """On so many GPUs; `changes` are of the job, the costs or the cluster."""
        job, costs, cluster = self.job(backbone, views, large=large), self.costs(backbone, large=large), self.cluster
        for key, value in changes.items():
            job = replace(job, **{key: value}) if hasattr(job, key) else job
            costs = replace(costs, **{key: value}) if hasattr(costs, key) else costs
            cluster = replace(cluster, **{key: value}) if hasattr(cluster, key) else cluster
        return simulate(job, costs, replace(cluster, workers=workers))


def row_bytes(backbone: str, keep: Keep = "all", dtype: str = "float16") -> int:
    """Of one row's features."""
    return stored_bytes(kept_shape(SHAPES[backbone], keep, None), dtype)
