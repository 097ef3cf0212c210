"""Stage train beside its peer: samples a second, streamed features, start-up.

The peer trains as the reproduced notebooks do: one torch.load for each sample, L1 as a term of the loss, accuracy over
the whole training and validation set every 10 batches with gradients on, nothing ever in eval mode. Both sides have the
same features, recipe, batch size and epochs. Ratios are taken side by side in one call, medians over its rounds. Writes
Markdown to bench/training.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from page import machine, write_page
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ffdi.features.store import FeatureStore
from ffdi.features.weights import load_network
from ffdi.memory import keep_freed_memory
from ffdi.parallel import cpu_count
from ffdi.params.reading import read_params
from ffdi.params.schema import Params
from ffdi.stagekit.console import console
from ffdi.tails.batches import CPU, FeatureTable
from ffdi.tails.checkpoint import Checkpoints
from ffdi.tails.feature_source import Streamed
from ffdi.tails.folds import Split
from ffdi.tails.heads import Tail, TailFactory
from ffdi.tails.train import fit

IMAGES = 1632  # the training images of the reproduced systems; a fifth of them validates
PRESET = Path(__file__).parents[1] / "presets" / "seeds.yaml"
STAGE = Path(__file__).parents[1] / "stages" / "train.py"
RECIPES = {"mobilenet_v2": 2, "wide_resnet50_2": 1}  # recipe of the preset, which names a backbone of params: epochs


class Files(Dataset[tuple[Tensor, int]]):
    """A float32 file for each sample."""

    def __init__(self, folder: Path, features: Tensor, labels: Tensor) -> None:
        self.files = [folder / f"{at}.flatten" for at in range(len(labels))]
        self.labels = labels.tolist()
        for file, one in zip(self.files, features, strict=True):
            torch.save(one.float().flatten(), file)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return torch.load(self.files[at], weights_only=True), self.labels[at]


class Speed:
    """Rates of one recipe on the same features; each method gives training samples per second, validation included."""

    def __init__(self, params: Params, features: Path, weights: Path, name: str, epochs: int) -> None:
        recipe = read_params(PRESET).recipe(name)
        self.recipe = replace(recipe, epochs=epochs, views="sample")
        self.store = FeatureStore(features / name, keep_open=True)
        stored = self.store.rows
        self.rows = [stored[at % len(stored)] for at in range(IMAGES)]  # the demo is smaller: some come twice
        self.features = torch.from_numpy(self.store.read(self.rows))
        self.table = FeatureTable.of_features(self.features, torch.arange(IMAGES) % 2)
        backbone = params.backbone(name)
        network = load_network(backbone.network, weights / f"{name}.safetensors", backbone.network_args)[0]
        self.fresh: Callable[[int], Tail] = TailFactory(network, backbone, recipe.head, self.store.spec.shape).fresh
        self.cut = int(0.8 * IMAGES)

    def ours(self, folder: Path) -> float:
        """The function that the stage calls, its checkpoints included."""
        return self._fit(self.table, folder)

    def streamed(self, folder: Path) -> float:
        """The same where a tenth of the features fit the memory."""
        table = replace(self.table, source=Streamed(self.store, self.rows, IMAGES // 30))
        return self._fit(table, folder)

    def _fit(self, table: FeatureTable, folder: Path) -> float:
        order = torch.arange(IMAGES)
        tail = self.fresh(0)
        started = time.perf_counter()
        split = Split(0, table.of(order[: self.cut]), table.of(order[self.cut :]))
        fit(tail, split, self.recipe, device=CPU, checkpoints=Checkpoints(folder, ""))
        return self.cut * self.recipe.epochs / (time.perf_counter() - started)

    def peer(self, folder: Path) -> float:
        """The notebooks' way."""
        shape, t = self.store.spec.shape, self.recipe
        files = Files(folder, self.features, self.table.labels)
        parts = torch.utils.data.random_split(files, [self.cut, IMAGES - self.cut])
        train, validation = DataLoader(parts[0], t.batch_size, shuffle=True), DataLoader(parts[1], 120, shuffle=True)
        tail = self.fresh(0)
        model = nn.Sequential(tail.body, tail.norm, tail.head).to(memory_format=torch.contiguous_format)
        for module in model.modules():
            module._forward_hooks.clear()
        optimizer = torch.optim.Adam(model.parameters(), t.lr, weight_decay=t.optimizer.weight_decay)
        started = time.perf_counter()
        for _ in range(t.epochs):
            for number, (x, y) in enumerate(train, 1):
                loss = nn.functional.cross_entropy(model(x.view(-1, *shape)), y)
                loss = loss + t.l1 * sum(torch.norm(p, 1) for p in model.parameters())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if number % 10 == 0:
                    for side in (train, validation):
                        sum(int((model(a.view(-1, *shape)).argmax(1) == b).sum()) for a, b in side)
        return self.cut * t.epochs / (time.perf_counter() - started)


WAYS = ("peer", "ours", "streamed")


def rate(chosen: argparse.Namespace, name: str, way: str) -> float:
    """One way in a process of its own: the peer's memory is managed as Python leaves it."""
    command = [sys.executable, __file__, "--params", str(chosen.params), "--weights", str(chosen.weights)]
    command += ["--features", str(chosen.features), "--only", name, way]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def speed_table(chosen: argparse.Namespace) -> Iterator[str]:
    yield "| recipe | batch | peer | ffdi | / peer | streamed, a tenth in memory | / in memory |"
    yield "| --- |" + " ---: |" * 6
    for name in RECIPES:
        rounds = console(f"bench {name}").progress(range(chosen.rounds), chosen.rounds, unit="rounds")
        rates = [[rate(chosen, name, way) for way in WAYS] for _ in rounds]
        peer, ours, streamed = (statistics.median(side) for side in zip(*rates, strict=True))
        faster = statistics.median(one[1] / one[0] for one in rates)
        kept = statistics.median(one[2] / one[1] for one in rates)
        yield (
            f"| {name} | {read_params(PRESET).recipe(name).batch_size} | {peer:.1f} | {ours:.1f} | {faster:.1f}x "
            f"| {streamed:.1f} | {kept:.0%} |"
        )


def start_table(params_file: Path, params: Params, rounds: int) -> Iterator[str]:
    """From the start of the process to the moment that the first fold is trained, when the stage takes its lock."""
    yield "| recipe | seconds |"
    yield "| --- | ---: |"
    for name in params.recipes:
        seconds = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(prefix="ffdi-bench-") as folder:
                out = Path(folder) / "models" / name
                started = time.perf_counter()
                command = [sys.executable, str(STAGE), "--params", str(params_file)]
                command += ["--recipe", name, "--out", str(out)]
                with subprocess.Popen(command, stderr=subprocess.DEVNULL) as stage:
                    while not out.with_name(f"{name}.lock.pid").exists():
                        time.sleep(0.01)
                        if stage.poll() is not None:
                            sys.exit(f"stage train {name} failed: run dvc repro first")
                    seconds.append(time.perf_counter() - started)
                    stage.kill()
        yield f"| {name} | {statistics.median(seconds):.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--weights", type=Path, default=Path("data/weights"))
    parser.add_argument("--features", type=Path, default=Path("data/features"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/training.md"))
    parser.add_argument("--only", nargs=2, metavar=("RECIPE", "WAY"), help="print the rate of one way and end")
    chosen = parser.parse_args()
    torch.set_num_threads(cpu_count())
    params = read_params(chosen.params)
    if chosen.only:
        name, way = chosen.only
        speed = Speed(params, chosen.features, chosen.weights, name, RECIPES[name])
        if way != "peer":
            keep_freed_memory()
        with tempfile.TemporaryDirectory(prefix="ffdi-bench-") as folder:
            print(getattr(speed, way)(Path(folder)))
        return
    sections = {
        "Speed (training samples/s, validation every epoch included)": speed_table(chosen),
        "Seconds to the first step": start_table(chosen.params, params, chosen.rounds),
    }
    lines = [
        "# Training, measured by `make bench`",
        "",
        f"{machine()}. Medians of {chosen.rounds} rounds; ratios are paired.",
    ]
    peer = " ".join((__doc__ or "").split("\n\n")[1].split("Ratios")[0].split())
    write_page(chosen.out, [*lines, "", peer], sections)


if __name__ == "__main__":
    main()
