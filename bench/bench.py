"""Views per second of stage extract beside its peer, on the same images in the same run.

The peer works as the reproduced notebooks do: one image at a time, decoded by Pillow, the prefix in eager torch, one
float32 file for each image and view. Prints a Markdown table; speeds are medians over the runs, ratios are paired.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from ffdi.features.extract import Prefix, extract, load_prefix, plan_rows, view_images
from ffdi.intake.tables import read_images
from ffdi.parallel import cpu_count, ordered_map
from ffdi.params import read_params

MAX_PIXELS = 50_000_000


def peer(images: pd.DataFrame, root: Path, prefix: Prefix, out: Path) -> int:
    """The seeds' way; returns the number of views."""
    assert prefix.module is not None
    paths = dict(zip(images["image_id"], images["path"], strict=True))
    rows = plan_rows(list(images["image_id"]), ["train"] * len(images), prefix.backbone.view_count)
    for image_id, view in rows:
        pixels = view_images([(image_id, view)], paths, root=root, backbone=prefix.backbone, max_pixels=MAX_PIXELS)
        with torch.no_grad():
            features = prefix.module(torch.from_numpy(pixels))
        torch.save(features.flatten(), out / f"{image_id}_{view}.flatten")
    return len(rows)


def ours(images: pd.DataFrame, root: Path, prefix: Prefix, out: Path) -> int:
    """Stage extract's function, from nothing."""
    done = extract(
        images,
        ["train"] * len(images),
        root=root,
        prefix=prefix,
        out=out / "features",
        shard_rows=4096,
        workers=None,
        max_pixels=MAX_PIXELS,
        say=lambda line: None,
    )
    return done.computed


def decode_alone(images: pd.DataFrame, root: Path, prefix: Prefix, out: Path) -> int:
    """Reading, decoding and rendering the same views, nothing else."""
    paths = dict(zip(images["image_id"], images["path"], strict=True))
    views = range(prefix.backbone.view_count + 1)

    def one(image_id: str) -> int:
        rows = [(image_id, view) for view in views]
        return len(view_images(rows, paths, root=root, backbone=prefix.backbone, max_pixels=MAX_PIXELS))

    return sum(ordered_map(one, images["image_id"], cpu_count()))


def speed(work: Callable[[pd.DataFrame, Path, Prefix, Path], int], *given: object) -> float:
    """Views per second of one run in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        views = work(*given, Path(folder))  # type: ignore[arg-type]
        return views / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--images", type=Path, default=Path("data/images.csv"))
    parser.add_argument("--weights", type=Path, default=Path("data/weights"))
    parser.add_argument("--limit", type=int, default=200, help="images")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    params = read_params(chosen.params)
    images = read_images(chosen.images).head(chosen.limit)
    torch.set_num_threads(cpu_count())
    print(f"{len(images)} images, {cpu_count()} cores, torch {torch.__version__}, medians of {chosen.runs} runs\n")
    print("| backbone | peer, views/s | ffdi, views/s | ratio | decode and views alone, views/s |")
    print("| --- | --- | --- | --- | --- |")
    for name in params.backbones:
        prefix = load_prefix(params.backbone(name), chosen.weights / f"{name}.safetensors")
        if prefix.module is None:
            continue
        prefix.open()  # the graph is exported once; its time is start-up
        given = (images, params.root(), prefix)
        pairs = [(speed(peer, *given), speed(ours, *given)) for _ in range(chosen.runs)]
        ratio = statistics.median(b / a for a, b in pairs)
        alone = statistics.median(speed(decode_alone, *given) for _ in range(chosen.runs))
        a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"| {name} | {a:.1f} | {b:.1f} | {ratio:.1f} | {alone:.0f} |", flush=True)


if __name__ == "__main__":
    main()
