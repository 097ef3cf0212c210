"""Sections of bench/gpu.py: how fast a GPU extracts and trains, beside its bounds and the peer."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_page import Bench, Row, Rows
from gpu_peers import as_torch_is, peer_extraction, peer_training


def speed_of_extraction(bench: Bench) -> Rows:
    """Views a second beside what decoding alone, and the prefix alone, could do; memory, threads; extracted twice."""
    from checks import differing_files
    from lab import MAX_PIXELS

    from ffdi.features.extract import plan_rows
    from ffdi.features.image_views import ViewReader, locate_images
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.parallel import cpu_count, ordered_map

    lab = bench.lab
    table = lab.rows()
    files = locate_images(table, ImageSource(lab.root, MAX_PIXELS))
    for name, share in zip(bench.networks[:2], (1, 1) if bench.quick else (1, 2), strict=True):
        small = table.head(len(table) // share)
        prefix = lab.prefix(name)
        read = ViewReader(files, prefix.backbone)
        rows = plan_rows(list(small["image_id"]), list(small["role"]), prefix.backbone.views.count)
        blocks = [rows[at : at + 32] for at in range(0, len(rows), 32)]
        started = time.perf_counter()

        def views(block: Sequence[Any], read: ViewReader = read) -> int:
            return len(read(block))

        decode = sum(ordered_map(views, blocks, cpu_count())) / (time.perf_counter() - started)
        yield Row(f"{name}: decode and views alone", f"{decode:.0f} views/s")
        alone = prefix_rate(bench, name)
        yield Row(f"{name}: prefix alone", f"{alone:.0f} views/s")
        with Watch() as watch:
            done = lab.extract(name, lab.folder / f"one-{name}")
        ours = done.computed / done.seconds["work"]
        yield Row(f"{name}: extract", f"{ours:.0f} views/s")
        yield Row(f"{name}: of the smaller of the two", f"{ours / min(decode, alone):.0%}", aim="aim: 80 %")
        with as_torch_is(lab.device):
            peer = peer_extraction(bench, name)
        yield Row(f"{name}: the notebook's way", f"{peer:.0f} views/s, ffdi {ours / peer:.1f}x")
        yield Row(f"{name}: while it extracts", str(watch))
        lab.extract(name, lab.folder / f"two-{name}")
        differ = differing_files(lab.folder / f"one-{name}", lab.folder / f"two-{name}")
        yield Row(f"{name}: extracted twice", ", ".join(differ) or "the same files", holds=not differ)


def prefix_rate(bench: Bench, name: str, **changes: Any) -> float:
    """Images a second of a prefix on pictures in memory, by as many threads as share a device."""
    from ffdi.parallel import ordered_map

    runtime = bench.lab.prefix(name, **changes).open()
    pictures = bench.lab.pictures(name, bench.batch)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < bench.seconds / 2:  # warm, and a first look at the rate
        done += len(runtime.run(pictures))
    calls = 1 + int(bench.seconds * done / (time.perf_counter() - started)) // len(pictures)
    started = time.perf_counter()
    done = sum(ordered_map(lambda _: len(runtime.run(pictures)), range(calls), 4))
    return done / (time.perf_counter() - started)


def memory_formats(bench: Bench) -> Rows:
    """Channels last and contiguous, in each precision."""
    precisions = ("float32", "tf32", "float16") if bench.on_gpu else ("float32",)
    layouts = ("contiguous", "channels_last") if bench.on_gpu else ("contiguous",)
    for name in bench.networks[:2]:
        for precision in precisions:
            rates = [prefix_rate(bench, name, precision=precision, memory_format=layout) for layout in layouts]
            figure = " ".join(f"{layout} {rate:.0f}" for layout, rate in zip(layouts, rates, strict=True))
            yield Row(f"{name} {precision}: prefix alone, views/s", f"{figure}: {rates[-1] / rates[0]:.2f}x")


def fused_attention(bench: Bench) -> Rows:
    """A ViT's prefix with the fused kernels of attention, which it runs, and with torch's plain matrix products."""
    from contextlib import nullcontext

    from torch.nn.attention import SDPBackend, sdpa_kernel

    name = "vit_tiny" if bench.quick else "vit_small"
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION] if bench.on_gpu else []
    for precision in ("float32", "tf32", "float16", "bfloat16") if bench.on_gpu else ("float32",):
        with sdpa_kernel(fused) if fused else nullcontext():  # without a fused kernel for it, torch refuses to go on
            fast = prefix_rate(bench, name, precision=precision)
        with sdpa_kernel(SDPBackend.MATH):
            plain = prefix_rate(bench, name, precision=precision)
        figure = f"fused {fast:.0f}, plain {plain:.0f}: {fast / plain:.2f}x"
        yield Row(f"{name} {precision}: prefix alone, views/s", figure)


def speed_of_training(bench: Bench) -> Rows:
    """Training samples a second beside the notebook's way, on the same device and features."""
    import torch
    from lab import PRESET

    from ffdi.features.devices import set_up_device
    from ffdi.features.weights import load_network
    from ffdi.params.reading import read_params
    from ffdi.tails.batches import FeatureTable
    from ffdi.tails.folds import Split
    from ffdi.tails.heads import TailFactory
    from ffdi.tails.train import fit

    device = set_up_device(bench.lab.device)
    count = 40 if bench.quick else 1632  # the training images of the reproduced systems; a fifth of them validates
    cut = count * 4 // 5
    for name, recipe in zip(bench.networks[:2], ("mobilenet_v2", "wide_resnet50_2"), strict=True):
        prefix = bench.lab.prefix(name)
        network = load_network(prefix.backbone.network, bench.lab.weights(name), prefix.backbone.network_args)[0]
        described = read_params(PRESET).recipe(recipe)
        training = replace(described, epochs=1, views="sample")
        fresh = TailFactory(network, prefix.backbone, described.head, prefix.spec.shape).fresh
        features = torch.rand(count, *prefix.spec.shape, generator=torch.Generator().manual_seed(0)).half()
        numbers = torch.arange(count)
        table = FeatureTable.of_features(features.to(device), numbers % 2)
        split = Split(0, table.of(numbers[:cut]), table.of(numbers[cut:]))
        fit(fresh(0), split, training, device=device)  # starts cuDNN
        longer = replace(training, epochs=1 if bench.quick else 5)
        if bench.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        with Watch() as watch:
            started = time.perf_counter()
            fit(fresh(0), split, longer, device=device)
            ours = cut * longer.epochs / (time.perf_counter() - started)
        yield Row(f"{name}, batch {training.batch_size}: train", f"{ours:.0f} samples/s, validation included")
        yield Row(f"{name}: while it trains", str(watch))
        with as_torch_is(bench.lab.device):
            peer = peer_training(fresh(0), features, training, prefix.spec.shape, cut, device, 4 * bench.seconds)
        yield Row(f"{name}: the notebook's way", f"{peer:.0f} samples/s")
        yield Row(f"{name}: / the notebook's way", f"{ours / peer:.1f}x", aim="aim: 20x")


class Watch:
    """The most threads and host memory of this process, device memory, and the mean use of the GPU, while the body runs."""

    def __enter__(self) -> Watch:
        import torch

        self.threads, self.uses, self._over = 0, list[float](), threading.Event()
        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._samplers = [threading.Thread(target=self._count, daemon=True)]
        if self._cuda and shutil.which("nvidia-smi"):
            self._samplers.append(threading.Thread(target=self._look, daemon=True))
        for sampler in self._samplers:
            sampler.start()
        return self

    def _count(self) -> None:
        status = Path("/proc/self/status")
        while status.exists():
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            self.threads = max(self.threads, int(lines["Threads"]))
            if self._over.wait(0.02):
                return

    def _look(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._over.wait(0.2):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.uses += [float(line) for line in done.stdout.split() if line.isdigit()]

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for sampler in self._samplers:
            sampler.join()

    def __str__(self) -> str:
        import torch

        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        found = [f"{host / 1e9:.1f} GB of host memory", f"{self.threads} threads"]
        if self._cuda:
            found.insert(0, f"{torch.cuda.max_memory_reserved() / 1e9:.1f} GB of device memory")
        if self.uses:
            found.append(f"GPU in use {sum(self.uses) / len(self.uses):.0f} %")
        return ", ".join(found)
