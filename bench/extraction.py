"""Stage extract beside its peer and its parts: speed, bytes, what more images cost, memory at scale, compression.

All figures are medians over the runs of one call; ratios are taken pairwise, side by side. Writes Markdown tables to
bench/extraction.md, which is committed.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from page import machine, write_page
from PIL import Image
from synthetic_images import SyntheticImages
from torchvision import transforms

from ffdi.features.extract import ExtractionSummary, extract_features, plan_rows
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.image_views import ViewReader, locate_images
from ffdi.features.shard_index import read_index
from ffdi.features.shards import COMPRESSIONS, Shard, write_shard
from ffdi.features.store import FeatureStore
from ffdi.files import human_bytes
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import read_images
from ffdi.parallel import cpu_count, ordered_map
from ffdi.params.paths import unpacked_root
from ffdi.params.reading import read_params
from ffdi.stagekit.console import console

MAX_PIXELS = 50_000_000
PEER = """The peer works as the reproduced notebooks do: torchvision's transforms on one image at a time, the prefix in eager
PyTorch at batch 1 without eval(), one float32 file for each image and view. Prefix alone is ONNX Runtime on images in
memory, one thread a core."""
NETWORKS = {"mobilenet_v2": 1.0, "wide_resnet50_2": 0.2}  # backbone of params: share of the images that are timed


class Speed:
    """Rates of one backbone on the same images; each method takes an empty folder and gives views per second."""

    def __init__(self, images: pd.DataFrame, root: Path, prefix: Extractor) -> None:
        self.images, self.root, self.prefix = images, root, prefix
        self.files = locate_images(images, ImageSource(root, MAX_PIXELS))
        self.runtime = prefix.open()  # the graph is exported once: start-up
        self.module = prefix.module
        rows = plan_rows(list(images["image_id"]), ["train"] * len(images), prefix.backbone.views.count)
        self.blocks = [rows[at : at + 8] for at in range(0, len(rows), 8)]
        self.rows = rows
        self.bytes_a_view = 0.0  # as `ours` wrote them last

    def peer(self, out: Path) -> float:
        """The notebooks' way: they forgot eval(), so that BatchNorm computes statistics of each single image."""
        return self._one_by_one(out, training=True)

    def peer_in_eval_mode(self, out: Path) -> float:
        """The notebooks' way with that mistake mended."""
        return self._one_by_one(out, training=False)

    def _one_by_one(self, out: Path, *, training: bool) -> float:
        assert self.module is not None
        b, network = self.prefix.backbone, copy.deepcopy(self.module.prefix).train(training)
        see = transforms.Compose(
            [
                transforms.Resize((b.pixels.size, b.pixels.size)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.RandomAutocontrast(),
                transforms.RandomRotation(20),
                transforms.RandomEqualize(),
                transforms.ToTensor(),
                transforms.Normalize(b.pixels.mean, b.pixels.std),
            ]
        )
        some = self.rows[:: max(1, len(self.rows) // 150)]
        started = time.perf_counter()
        for image_id, view in some:
            with Image.open(self.root / self.files.files[image_id].path) as image:
                pixels = see(image.convert("RGB"))
            torch.save(network(pixels.unsqueeze(0)).flatten(), out / f"{image_id}_{view}.flatten")
        return len(some) / (time.perf_counter() - started)

    def ours(self, out: Path) -> float:
        """Stage extract's function from nothing, shards synced and hashed; opening the runtime is start-up."""
        done = run_extract(self.images, self.root, self.prefix, out / "features")
        self.bytes_a_view = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / done.rows
        return done.computed / done.seconds["work"]

    def prefix_alone(self, out: Path) -> float:
        """The runtime on images in memory, one thread a core, features thrown away."""
        size = self.prefix.backbone.pixels.size
        images = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
        started = time.perf_counter()
        for _ in ordered_map(lambda block: self.runtime.run(images[: len(block)]), self.blocks, cpu_count()):
            pass
        return len(self.rows) / (time.perf_counter() - started)

    def decode_alone(self, out: Path) -> float:
        """Reading, decoding, resizing and rendering the views, on every core."""
        read = ViewReader(self.files, self.prefix.backbone)
        started = time.perf_counter()
        views = sum(ordered_map(lambda rows: len(read(rows)), self.blocks, cpu_count()))
        return views / (time.perf_counter() - started)


def run_extract(images: pd.DataFrame, root: Path, prefix: Extractor, out: Path) -> ExtractionSummary:
    """All images as train images, in this process."""
    return extract_features(images.assign(role="train"), prefix, out, source=ImageSource(root, MAX_PIXELS))


def speed_table(params_file: Path, images_file: Path, weights: Path, runs: int) -> Iterator[str]:
    """Rows of the table of speeds and bytes."""
    params = read_params(params_file)
    images = read_images(images_file)
    columns = ("peer", "peer in eval mode", "ffdi", "/ peer", "/ peer in eval mode", "prefix alone", "/ prefix alone")
    yield f"| backbone | {' | '.join(columns)} | decode and views alone | bytes a view |"
    yield "| --- |" + " ---: |" * (len(columns) + 2)
    for name, share in NETWORKS.items():
        backbone = params.backbone(name)
        backbone = replace(backbone, views=replace(backbone.views, count=2))
        prefix = load_extractor(backbone, weights / f"{name}.safetensors")
        speed = Speed(images.head(int(share * len(images))), unpacked_root(params.data), prefix)
        ways = (speed.peer, speed.peer_in_eval_mode, speed.ours, speed.prefix_alone, speed.decode_alone)
        rates = [
            [in_fresh_folder(way) for way in ways]
            for _ in console(f"bench {name}").progress(range(runs), runs, unit="rounds")
        ]
        peer, mended, ours, alone, decode = (statistics.median(side) for side in zip(*rates, strict=True))
        over = [statistics.median(one[2] / one[way] for one in rates) for way in (0, 1, 3)]
        size = speed.bytes_a_view
        yield (
            f"| {name} `{backbone.cut}` | {peer:.1f} | {mended:.1f} | {ours:.1f} | **{over[0]:.1f}** | {over[1]:.1f} "
            f"| {alone:.1f} | **{over[2]:.0%}** | {decode:.0f} | {size:,.0f} (features alone {prefix.spec.row_bytes:,}) |"
        )


def in_fresh_folder(way: Callable[[Path], float]) -> float:
    """way(folder) in an empty folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return way(Path(folder))


def increment_table(weights: Path, count: int, runs: int) -> Iterator[str]:
    """Rows of the table of what more images, and nothing new, cost."""
    one, full, more, nothing = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        data = SyntheticImages(Path(folder), count, pixels=224, size=224, views=2, weights=weights)
        data.run(1, Path(folder) / "warm")  # exports the graph
        for number in console("bench increment").progress(range(runs), runs, unit="rounds"):
            whole, grown = Path(folder) / f"whole{number}", Path(folder) / f"grown{number}"
            one.append(data.run(1, Path(folder) / f"one{number}"))
            full.append(data.run(count, whole))
            data.run(count - count // 100, grown)
            more.append(data.run(count, grown))
            nothing.append(data.run(count, grown))
            same = [(p.name, p.read_bytes()) for p in sorted((whole / "data/features/x").iterdir())]
            assert same == [(p.name, p.read_bytes()) for p in sorted((grown / "data/features/x").iterdir())]
            shutil.rmtree(whole)
            shutil.rmtree(grown)
    share = statistics.median(
        (c["work"] - a["work"]) / (b["work"] - a["work"]) for a, b, c in zip(one, full, more, strict=True)
    )
    yield f"| of {count:,} images, 3 views each | |"
    yield "| --- | ---: |"
    yield f"| one image, from nothing: what is called start-up here | {statistics.median(r['work'] for r in one):.2f} s |"
    yield f"| all, from nothing | {statistics.median(r['work'] for r in full):.1f} s |"
    spent = statistics.median(r["work"] for r in more)
    yield f"| 1 % more images | {spent:.2f} s, beyond start-up **{share:.1%}** of the full run |"
    yield f"| 1 % more images, wall clock with imports | {statistics.median(r['wall'] for r in more):.1f} s |"
    yield f"| nothing new to do, wall clock, start-up included | **{statistics.median(r['wall'] for r in nothing):.1f} s** |"


def scale_table(weights: Path, counts: list[int], runs: int) -> Iterator[str]:
    """Rows of the table of cost per view and peak memory by the number of images."""
    yield "| images | time per view | of that at the fewest | peak memory |"
    yield "| ---: | ---: | ---: | ---: |"
    with tempfile.TemporaryDirectory() as folder:
        data = SyntheticImages(Path(folder), max(counts), pixels=64, size=64, views=0, weights=weights)
        data.run(1, Path(folder) / "warm")
        rounds = []
        for number in console("bench scale").progress(range(runs), runs, unit="rounds"):
            rounds.append([data.run(count, Path(folder) / f"{number}-{count}") for count in counts])
            for count in counts:
                shutil.rmtree(Path(folder) / f"{number}-{count}")
    for at, count in enumerate(counts):
        cost = statistics.median(one[at]["work"] / count for one in rounds)
        ratio = statistics.median(one[at]["work"] / count / (one[0]["work"] / counts[0]) for one in rounds)
        memory = max(one[at]["memory"] for one in rounds)
        yield f"| {count:,} | {cost * 1e3:.3f} ms | {ratio:.1%} | {human_bytes(memory)} |"


def compression_table(features: Path, runs: int) -> Iterator[str]:
    """Rows of the table of sizes and rates of each compression, on features that are there."""
    yield "| features | compression | bytes a row | of none | write | read in blocks of 256 | read row by row |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for folder in sorted(path.parent for path in features.glob("*/index.json")):
        spec, store = read_index(folder).spec, FeatureStore(folder)
        rows = store.rows[: int(2e8 // spec.row_bytes)]
        block = store.read(rows)
        size = len(rows) * spec.row_bytes / 1e6
        none = 0.0
        for compression in COMPRESSIONS:
            rates = []
            with tempfile.TemporaryDirectory() as temporary:
                file = Path(temporary) / "shard-00000.h5"
                for _ in range(runs):
                    marks = [time.perf_counter()]
                    write_shard(file, spec, rows, [block[at : at + 8] for at in range(0, len(rows), 8)], compression)
                    marks.append(time.perf_counter())
                    with Shard(file, spec) as shard:
                        for at in range(0, len(rows), 256):
                            shard.read(slice(at, at + 256))
                        marks.append(time.perf_counter())
                        for at in np.random.default_rng(0).permutation(len(rows)).tolist():
                            shard.read(slice(at, at + 1))
                        marks.append(time.perf_counter())
                    rates.append([size / seconds for seconds in np.diff(marks)])
                stored = file.stat().st_size / len(rows)
            none = none or stored
            write, read, single = (statistics.median(side) for side in zip(*rates, strict=True))
            yield (
                f"| {folder.name} | {compression} | {stored:,.0f} | {stored / none:.0%} | {write:.0f} MB/s "
                f"| {read:.0f} MB/s | {single:.0f} MB/s |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--images", type=Path, default=Path("data/images.csv"))
    parser.add_argument("--weights", type=Path, default=Path("data/weights"))
    parser.add_argument("--features", type=Path, default=Path("data/features"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--increment", type=int, default=2000, help="images, at 224 pixels")
    parser.add_argument("--scale", type=int, nargs="*", default=[2000, 200_000], help="images, at 64 pixels")
    parser.add_argument("--out", type=Path, default=Path("bench/extraction.md"))
    chosen = parser.parse_args()
    torch.set_num_threads(cpu_count())
    weights, runs = chosen.weights, chosen.runs
    sections = {
        "Speed (views/s)": speed_table(chosen.params, chosen.images, weights, runs),
        "More images": increment_table(weights / "mobilenet_v2.safetensors", chosen.increment, runs),
        "Scale (64x64 images)": scale_table(weights / "mobilenet_v2.safetensors", chosen.scale, runs),
        "Compression": compression_table(chosen.features, runs),
    }
    lines = ["# Extraction, measured by `make bench`", "", f"{machine()}. Medians of {runs} runs; ratios are paired."]
    write_page(chosen.out, [*lines, "", PEER], sections)


if __name__ == "__main__":
    main()
