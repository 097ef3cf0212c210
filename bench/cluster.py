"""Extraction on a Ray cluster of this machine beside the local engine: what Ray costs, and what a second worker gives.

Each round runs all ways on the same images, side by side; figures are medians over the rounds, ratios medians of ratios
within a round. The bytes of all runs are compared. Takes less than five minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
from pathlib import Path

from page import machine
from synthetic_images import SyntheticImages

from ffdi.features.engines.ray import Cluster
from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.settings import OWN_CLUSTER, ExtractSettings, RaySettings
from ffdi.intake.decoding.images import ImageSource
from ffdi.parallel import cpu_count
from ffdi.params.reading import read_params
from ffdi.stagekit.console import console

SHARD_ROWS = 256


def ways(cores: int) -> dict[str, ExtractSettings]:
    """The settings of each way; the first two use all cores, one process each."""

    def on_ray(workers: int, cpus: int) -> ExtractSettings:
        ray = RaySettings(OWN_CLUSTER, cpus_per_task=cpus, max_in_flight=workers)
        return ExtractSettings("ray", shard_rows=SHARD_ROWS, ray=ray)

    return {
        f"local, {cores} threads": ExtractSettings(shard_rows=SHARD_ROWS),
        f"Ray, 1 worker of {cores} threads": on_ray(1, cores),
        "Ray, 1 worker of 1 thread": on_ray(1, 1),
        "Ray, 2 workers of 1 thread": on_ray(2, 1),
    }


def run(data: SyntheticImages, extractor: Extractor, settings: ExtractSettings) -> tuple[ExtractionSummary, str]:
    """What an extraction from nothing did, and a hash of all its files."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "features"
        source = ImageSource(data.folder / "images", 50_000_000)
        done = extract_features(data.images.assign(role="train"), extractor, out, source=source, settings=settings)
        digest = hashlib.sha256()
        for file in sorted(out.iterdir()):
            digest.update(file.name.encode() + file.read_bytes())
    return done, digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("data/weights/mobilenet_v2.safetensors"))
    parser.add_argument("--images", type=int, default=1000, help="at 224 pixels, with 3 views each")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    settings = ways(cpu_count())
    with tempfile.TemporaryDirectory() as folder, Cluster(RaySettings(OWN_CLUSTER)):
        data = SyntheticImages(Path(folder), chosen.images, pixels=224, size=224, views=2, weights=chosen.weights)
        extractor = load_extractor(read_params(data.folder / "params.yaml").backbone("mobilenet_v2"), chosen.weights)
        extractor.open()  # exports the graph
        rounds = []
        for _ in console("bench cluster").progress(range(chosen.runs), chosen.runs, unit="rounds"):
            done = [run(data, extractor, way) for way in settings.values()]
            assert len({digest for _, digest in done}) == 1, "the ways differ in their bytes"
            rounds.append([summary.seconds for summary, _ in done])
    print(f"{machine()}. {chosen.images * 3} rows in shards of {SHARD_ROWS}; medians of {chosen.runs} rounds.\n")
    print("| | start | work | views/s |\n| --- | ---: | ---: | ---: |")
    for at, name in enumerate(settings):
        start, work = (statistics.median(one[at][part] for one in rounds) for part in ("start", "work"))
        print(f"| {name} | {start:.1f} s | {work:.1f} s | {chosen.images * 3 / work:.0f} |")
    overhead = statistics.median(one[1]["work"] / one[0]["work"] for one in rounds) - 1
    gain = statistics.median(one[2]["work"] / one[3]["work"] for one in rounds)
    print(
        f"\nRay over local with the same threads: {overhead:+.1%} of the work. Two workers over one: {gain:.2f} times."
    )


if __name__ == "__main__":
    main()
