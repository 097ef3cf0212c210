"""The tables of docs/scale.md that bench/scale.py simulates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cluster_model import GB, Cluster, Outcome
from scale_study import GETS, GPU_RATES, GPUS, IMAGES, MANY, SHAPES, SPREAD, START, Study, row_bytes

from ffdi.features.keep import Grid, Keep


def terabytes(size: float) -> str:
    """Three digits."""
    return f"{size / 1e12:.3g} TB" if size >= 1e12 else f"{size / 1e9:.3g} GB"


def inputs_table(study: Study) -> Iterator[str]:
    """What the simulation knows, and from where."""
    images, cluster = study.found["images"], study.cluster
    yield f"Measured here: {study.found['machine']}, at a load of {study.found['load']:.1f}."
    yield ""
    yield "| measured here, of one core | mobilenet_v2 | wide_resnet50_2 |"
    yield "| --- | ---: | ---: |"
    names = {"decode": "read and decode an image, ms", "view": "render a view, ms", "prefix": "prefix of a row, ms"}
    for part, name in names.items():
        yield f"| {name} | {' | '.join(f'{study.found[one][part] * 1e3:.2f}' for one in SHAPES)} |"
    for part, name in {"write": "write a shard, MB/s", "seal": "sync, hash and read a shard, MB/s"}.items():
        yield f"| {name} | {' | '.join(f'{1e-6 / study.found[one][part]:,.0f}' for one in SHAPES)} |"
    size, large = images["bytes"] / 1e3, images["large_bytes"] / 1e3
    yield f"| an image of the demo (256 pixels); one of 1024 pixels, kB | {size:.1f}; {large:.0f} | the same |"
    yield f"| decode one of 1024 pixels, ms | {images['large_decode'] * 1e3:.2f} | the same |"
    task = study.found["task"] * 1e3
    yield f"| the driver: plan a row, us; a task, ms | {images['plan'] * 1e6:.2f}; {task:.2f} | the same |"
    yield ""
    yield "| not measured here | value | from |"
    yield "| --- | --- | --- |"
    rates = ", ".join(f"{rate:,.0f} {name}" for name, rate in GPU_RATES.items())
    yield f"| rows/s of a GPU | {rates} | timm's benchmark of whole networks on an RTX 3090, mixed precision |"
    yield f"| cores a GPU, GPUs a machine | {cluster.cores}, {cluster.workers_a_node} | assumed |"
    yield f"| network of a machine, store, in either direction | {cluster.node_rate / GB}, {cluster.store_rate / GB} GB/s | assumed |"
    yield f"| requests of the store | {cluster.get_rate:,}/s | 16 prefixes at S3's 5,500/s |"
    yield f"| answer of the store; requests of a worker at a time | {cluster.latency * 1e3:.0f} ms; {cluster.reads} | assumed; ffdi's |"
    yield (
        f"| a machine fails | every {cluster.hours_between_failures:,.0f} hours, {cluster.repair / 60:.0f} minutes "
        "| interruptions of Llama 3's training, arXiv 2407.21783; assumed |"
    )
    yield f"| slow workers | {cluster.slow_share:.0%}, {cluster.slow_factor} times as slow | assumed |"
    yield f"| start of a worker | {START:.0f} s | assumed |"
    yield f"| the time of a shard varies by | {SPREAD:.0%} | assumed |"


def bytes_table(study: Study) -> Iterator[str]:
    """What each choice of keep and dtype makes of the features of all images."""
    yield "| features of 100,000,000 images | bytes a row | 1 row an image | 3 rows (`views: {count: 2}`) |"
    yield "| --- | ---: | ---: | ---: |"
    kinds: list[tuple[str, Keep, str]] = [("all", "all", "float16"), ("all, dtype: int8", "all", "int8")]
    kinds += [("{grid: 3}", Grid(3), "float16"), ("mean", "mean", "float16")]
    for backbone in SHAPES:
        for name, keep, dtype in kinds:
            size = row_bytes(backbone, keep, dtype)
            yield (
                f"| {backbone}, keep: {name} | {size:,} | {terabytes(size * study.images)} "
                f"| {terabytes(3 * size * study.images)} |"
            )


def hours_row(study: Study, backbone: str, views: int, gpus: int, base: float | None) -> tuple[str, Outcome]:
    """A line of the table of hours; `base` is the GPU-hours of the fewest GPUs."""
    done = study.run(backbone, views, gpus)
    hours = done.seconds / 3600
    rate = study.images * views / done.seconds
    efficiency = 1.0 if base is None else base / (hours * gpus)
    money = ""
    if study.prices.gpu_hour is not None:
        money = f" | {hours * gpus * study.prices.gpu_hour:,.0f}"
    return (
        f"| {gpus} | {hours:.2f} | {done.planning / 3600:.2f} | {hours * gpus:,.0f} | {efficiency:.0%} | {rate:,.0f} | {done.bottleneck} "
        f"{done.busy[done.bottleneck]:.0%} | {terabytes(done.bytes_out)}{money} |",
        done,
    )


def hours_table(study: Study, backbone: str, views: int, gpus: tuple[int, ...] = GPUS) -> Iterator[str]:
    """Hours by the number of GPUs."""
    money = " | money" if study.prices.gpu_hour is not None else ""
    yield f"| GPUs | hours | of these the plan | GPU-hours | efficiency | rows/s | busiest | written{money} |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |" + " ---: |" * bool(money)
    base = None
    for count in gpus:
        line, done = hours_row(study, backbone, views, count, base)
        base = base or done.seconds / 3600 * count
        yield line


def changes(study: Study) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """What is changed, one thing at a time: backbone, rows an image, and the change."""
    small, wide = "mobilenet_v2", "wide_resnet50_2"
    slow_store = {"store_rate": 5 * GB}
    return {
        f"{small}, 3 rows an image": (small, 3, {}),
        "... 2 cores a GPU": (small, 3, {"cores": 2}),
        "... 32 cores a GPU": (small, 3, {"cores": 32}),
        "... images of 1024 pixels": (small, 3, {"large": True}),
        "... all images under one prefix of the bucket": (small, 3, {"get_rate": GETS}),
        "... as many prefixes as one likes": (small, 3, {"get_rate": MANY}),
        "... 8 requests at a time": (small, 3, {"reads": 8}),
        "... a store of 1 GB/s": (small, 3, {"store_rate": GB}),
        f"{wide}, 3 rows an image": (wide, 3, {}),
        "... a machine fails every 4 hours": (wide, 3, {"hours_between_failures": 4}),
        "... a tenth of the workers at half speed": (wide, 3, {"slow_share": 0.1}),
        "... a shard is sealed four times as fast": (wide, 3, {"seal": study.found[wide]["seal"] / 4}),
        "... a store of 5 GB/s": (wide, 3, slow_store),
        "... a store of 5 GB/s, dtype: int8": (wide, 3, slow_store | {"row_bytes": row_bytes(wide, dtype="int8")}),
        "... a store of 5 GB/s, keep: mean": (wide, 3, slow_store | {"row_bytes": row_bytes(wide, "mean")}),
    }


def widest(study: Study) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """What is changed where nothing but the driver is left to limit it."""
    small = "mobilenet_v2"
    free = {"get_rate": MANY, "store_rate": 1000 * GB, "cores": 32}
    return {
        f"{small}, 3 rows an image": (small, 3, {}),
        "... as many prefixes as one likes, 32 cores a GPU, a store of 1 TB/s": (small, 3, free),
        "... the same, the plan of a row ten times as fast": (
            small,
            3,
            free | {"plan": study.found["images"]["plan"] / 10},
        ),
    }


def changes_table(study: Study, gpus: int, rows: Mapping[str, tuple[str, int, dict[str, Any]]]) -> Iterator[str]:
    """Where the bottleneck moves when one of `rows` changes."""
    yield f"| on {gpus} GPUs | hours | busiest | next | repeated shards |"
    yield "| --- | ---: | --- | --- | ---: |"
    for name, (backbone, views, change) in rows.items():
        done = study.run(backbone, views, gpus, **change)
        first, second = sorted(done.busy, key=lambda part: -done.busy[part])[:2]
        shares = f"{first} {done.busy[first]:.0%} | {second} {done.busy[second]:.0%}"
        yield f"| {name} | {done.seconds / 3600:.2f} | {shares} | {done.repeated} |"


def one_machine_table(study: Study) -> Iterator[str]:
    """Hours on one machine: cores alone, one GPU, eight GPUs."""
    yield "| images, 3 rows each | 2 cores, no GPU | 1 GPU, 8 cores | 8 GPUs, 64 cores |"
    yield "| --- | ---: | ---: | ---: |"
    for backbone in SHAPES:
        cores = study.found[backbone]["prefix"]
        for images in (120_000, 4_000_000, IMAGES):
            alone = replace(study, images=images, cluster=Cluster(workers=1, cores=8))  # files on its own disk
            few = alone.run(backbone, 3, 1, cores=2, prefix_on_cores=True, prefix=cores)
            hours = [few, *(alone.run(backbone, 3, gpus) for gpus in (1, 8))]
            yield f"| {images:,}, {backbone} | {' | '.join(f'{done.seconds / 3600:,.2f}' for done in hours)} |"


def sections(study: Study) -> Iterator[str]:
    """The simulated part of docs/scale.md."""
    yield from ("### Bytes", "")
    yield from bytes_table(study)
    for backbone in SHAPES:
        for views in (1, 3):
            yield from ("", f"### {backbone}, {views} row{'s' if views > 1 else ''} an image", "")
            yield from hours_table(study, backbone, views)
    yield from ("", "### What limits it", "")
    yield from changes_table(study, 64, changes(study))
    yield ""
    yield from changes_table(study, 512, widest(study))
