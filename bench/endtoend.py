"""Whole networks trained on cached images (`cut: input`): the loader beside its peer, an epoch beside its own steps.

The peer reads the same pictures with torchvision's ImageFolder and Pillow, resizes them to 256x256, augments them on the
CPU as PIL images with torchvision's transforms, and hands out normalised float32 batches from a DataLoader with a worker
a core. ffdi hands out the same batches, from shards held in memory and from shards read in every epoch with a tenth of
them in memory. Ratios are taken side by side in one call, medians over its rounds. Writes Markdown to bench/endtoend.md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from page import machine, write_page
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.store import FeatureStore
from ffdi.features.weights import fetch_weights, load_network
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import read_images
from ffdi.memory import keep_freed_memory
from ffdi.parallel import cpu_count
from ffdi.params.reading import read_params
from ffdi.stagekit.console import console
from ffdi.tails.augment import augmentation
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.batches import CPU, load_table
from ffdi.tails.feature_source import Streamed
from ffdi.tails.heads import TailFactory
from ffdi.tails.train import build_optimizer, start, train_epoch

PRESET = Path(__file__).parents[1] / "presets" / "multi-ffdi.yaml"
RECIPES = ("ffdi_baseline", "ffdi_strong")
SECONDS = 4.0  # of loading, at least
STEPS = 6


class Speed:
    """Rates of one recipe of the preset on the images of `images_file`; `folder` holds what `prepare` made."""

    def __init__(self, folder: Path, images_file: Path, name: str) -> None:
        params = read_params(PRESET)
        self.folder, self.images, self.recipe = folder, read_images(images_file), params.recipe(name)
        self.backbone = replace(params.backbone(self.recipe.backbone), weights="random")
        self.weights, self.shards = folder / f"{self.backbone.name}.safetensors", folder / self.backbone.name

    def prepare(self, root: Path) -> None:
        fetch_weights(self.backbone.network, "random", self.weights, base=Path())
        extractor = load_extractor(self.backbone, self.weights)
        extract_features(self.images.assign(role="train"), extractor, self.shards, source=ImageSource(root, 10**8))
        for path, label in zip(self.images["path"], self.images["label"], strict=True):
            file = self.folder / "images" / ("fake" if label else "real") / path.replace("/", "_")
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path, file)
        network = load_network(self.backbone.network, self.weights, self.backbone.network_args)[0]
        shape = (3, self.backbone.pixels.size, self.backbone.pixels.size)
        self.tail = TailFactory(network, self.backbone, self.recipe.head, shape).fresh(0)
        store, ids = FeatureStore(self.shards, keep_open=True), list(self.images["image_id"])
        self.table = load_table(store, ids, list(self.images["label"]), views="all", memory_gb=8)
        self.streamed = Streamed(store, [(i, 0) for i in ids], max(1, len(ids) // 30))

    def peer(self) -> float:
        """Samples per second from DataLoader."""
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        options = next((o for o in resolve_augment(self.recipe.augment) if o["name"] == "jitter"), {})
        jitter = transforms.ColorJitter(**{k: v for k, v in options.items() if k not in ("name", "p")})
        steps = [
            transforms.Resize((self.backbone.pixels.size, self.backbone.pixels.size)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            *([jitter] if options else []),
            transforms.ToTensor(),
            transforms.Normalize(self.backbone.pixels.mean, self.backbone.pixels.std),
        ]
        data = ImageFolder(str(self.folder / "images"), transforms.Compose(steps))
        batch, workers = self.recipe.batch_size, cpu_count()
        loader = DataLoader(data, batch, shuffle=True, num_workers=workers, persistent_workers=True)
        return samples_a_second(lambda: (images for images, _ in loader))

    def memory(self) -> float:
        """Samples per second from a table in memory."""
        return samples_a_second(partial(self._batches, streaming=False))

    def stream(self) -> float:
        """Samples per second from shards that are read as they are needed."""
        return samples_a_second(partial(self._batches, streaming=True))

    def _batches(self, streaming: bool) -> Iterator[Tensor]:
        table = replace(self.table, source=self.streamed) if streaming else self.table
        augment = augmentation(resolve_augment(self.recipe.augment))
        for images, _ in table.shuffled(self.recipe.batch_size, "sample", torch.Generator()):
            yield self.tail.normalised(augment(images))

    def epoch(self) -> float:
        """Training samples per second of the function that the stage calls for an epoch."""
        run = start(self.tail, self.recipe, self.table, torch.Generator(), CPU)
        size = self.recipe.batch_size
        train_epoch(run, self.table.of(torch.arange(2 * size)), self.recipe, 0)
        table = self.table.of(torch.arange(STEPS * size) % len(self.table))
        started = time.perf_counter()
        train_epoch(run, table, self.recipe, 1)
        return len(table) / (time.perf_counter() - started)

    def steps(self) -> float:
        """The same of the network's own steps on one random batch that lies ready."""
        size, tail = self.backbone.pixels.size, self.tail.train()
        optimizer = build_optimizer(self.recipe.optimizer, list(tail.parameters()), self.recipe.lr)
        x = torch.randn(self.recipe.batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
        y = torch.arange(len(x)) % 2

        def step() -> None:
            optimizer.zero_grad()
            nn.functional.cross_entropy(tail.head(tail.norm(tail.body(x))), y).backward()
            optimizer.step()

        step()
        step()
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
        return STEPS * len(x) / (time.perf_counter() - started)


def samples_a_second(epoch: Callable[[], Iterable[Tensor]]) -> float:
    """Of epochs after the first, which starts workers and fills caches."""
    for _ in epoch():
        pass
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        count += sum(map(len, epoch()))
    return count / (time.perf_counter() - started)


def rates(chosen: argparse.Namespace, name: str, ways: tuple[str, ...]) -> list[tuple[float, ...]]:
    """A row a round, each way in a process of its own (each prepares its own folder)."""

    def rate(way: str) -> float:
        command = [sys.executable, __file__, "--images", str(chosen.images), "--root", str(chosen.root)]
        command += ["--only", name, way]
        return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)

    rounds = console(f"bench {name}").progress(range(chosen.rounds), chosen.rounds, unit="rounds")
    return [tuple(rate(way) for way in ways) for _ in rounds]


def loader_table(chosen: argparse.Namespace) -> Iterator[str]:
    yield "| augmentation of | peer | ffdi, in memory | / peer | ffdi, streamed | / peer |"
    yield "| --- |" + " ---: |" * 5
    for name in RECIPES:
        found = rates(chosen, name, ("peer", "memory", "stream"))
        peer, memory, stream = (statistics.median(side) for side in zip(*found, strict=True))
        faster = [statistics.median(row[at] / row[0] for row in found) for at in (1, 2)]
        yield f"| {name} | {peer:.0f} | {memory:.0f} | {faster[0]:.1f}x | {stream:.0f} | {faster[1]:.1f}x |"


def epoch_table(chosen: argparse.Namespace) -> Iterator[str]:
    yield "| recipe | the network's own steps | an epoch | / own steps |"
    yield "| --- |" + " ---: |" * 3
    for name in RECIPES:
        found = rates(chosen, name, ("steps", "epoch"))
        steps, epoch = (statistics.median(side) for side in zip(*found, strict=True))
        yield f"| {name} | {steps:.1f} | {epoch:.1f} | {statistics.median(row[1] / row[0] for row in found):.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=Path("data/images.csv"))
    parser.add_argument("--root", type=Path, default=Path("data/demo"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/endtoend.md"))
    parser.add_argument("--only", nargs=2, metavar=("RECIPE", "WAY"), help="print the rate of one way and end")
    chosen = parser.parse_args()
    torch.set_num_threads(cpu_count())
    if chosen.only:
        name, way = chosen.only
        if way != "peer":
            keep_freed_memory()
        with tempfile.TemporaryDirectory(prefix="ffdi-bench-") as folder:
            speed = Speed(Path(folder), chosen.images, name)
            speed.prepare(chosen.root)
            print(getattr(speed, way)())
        return
    sections = {
        "Loading (samples/s, normalised and ready on the device)": loader_table(chosen),
        "Training (samples/s, augmentation and figures of the epoch included)": epoch_table(chosen),
    }
    lines = ["# End to end, measured by `make bench`", "", f"{machine()}. Medians of {chosen.rounds} rounds."]
    peer = " ".join((__doc__ or "").split("\n\n")[1].split("Ratios")[0].split())
    pictures = f"{len(read_images(chosen.images))} pictures of {chosen.root.name}."
    write_page(chosen.out, [*lines, "", f"{peer} {pictures}"], sections)


if __name__ == "__main__":
    main()
