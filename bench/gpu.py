"""The first hour on a GPU, in one command of nine minutes: speed beside its bounds, memory, and every invariant's verdict.

Needs the library and what it imports here: torch (2.11 will do), torchvision, timm, numpy, pandas, h5py, hdf5plugin, pillow,
safetensors, filelock, pydantic, ruamel.yaml, tqdm, scikit-learn and scipy. No dvc, no network. Each section runs in a
process of its own and has a limit; one that fails or runs out of time says so, and the rest goes on. Figures are printed
as they are known, and written as Markdown to bench/gpu.md after each section.

`--device cpu --quick` goes through every section at a tiny size, to see that it runs: those figures mean nothing and are
printed alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # a GPU machine may have no ffdi installed

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """A line of the table. `holds` is an invariant's verdict; `aim` is what a figure should be."""

    what: str
    figure: str
    aim: str = ""
    holds: bool | None = None

    def __str__(self) -> str:
        verdict = {None: self.aim, True: "holds", False: "**BROKEN**"}[self.holds]
        return f"| {self.what} | {self.figure} | {verdict} |"


Rows = Iterator[Row]


@dataclass(frozen=True)
class Bench:
    """What a section works with: the lab (see checks.py), sizes, and the names of its networks."""

    lab: Any
    few: Any  # the same with fewer images, for what is done several times
    quick: bool
    networks: tuple[str, str, str] = field(default=("mobilenet_v2", "wide_resnet50_2", "vit_tiny"))

    @property
    def seconds(self) -> float:
        """How long a rate is measured."""
        return 0.05 if self.quick else 2.0

    @property
    def batch(self) -> int:
        return 4 if self.quick else 64

    @property
    def on_gpu(self) -> bool:
        return str(self.lab.device) == "cuda"


# Invariants


def alike_in_a_batch(bench: Bench) -> Rows:
    """One image at every place of a batch, with other neighbours at each."""
    from checks import differing_places

    precisions = ("float32", "tf32", "float16", "bfloat16") if bench.on_gpu else ("float32",)
    for name in (bench.networks[0], bench.networks[2]):
        for precision in precisions:
            runtime = bench.lab.prefix(name, precision=precision).open()
            for batch in (bench.batch, bench.batch // 2):
                places = differing_places(runtime, bench.lab.pictures(name, batch + 7), batch)
                what = f"{name} {precision}, batch {batch}: one image at all places, other neighbours at each"
                yield Row(what, f"{batch - len(places)} of {batch} equal to the bit", holds=not places)


def trained_twice(bench: Bench) -> Rows:
    """The bundle of a second training, and of one that was killed."""
    from checks import training_that_differs

    for name, head in ((bench.networks[0], "mlp"), (bench.networks[1], "transformer")):
        differ = training_that_differs(bench.few, name, head)
        for kind, said in (("second", "trained twice"), ("killed", "killed in mid-training and gone on")):
            yield Row(
                f"{name}, head {head}: {said}", ", ".join(differ[kind]) or "the same bundle", holds=not differ[kind]
            )


def swept_twice(bench: Bench) -> Rows:
    """A sweep whose features are computed gives the figures of one whose features are cached; in bfloat16, too."""
    from checks import evaluate_bundle, sweeps_that_differ, train_bundle

    name, lab = bench.networks[0], bench.few
    model = lab.folder / "swept"
    train_bundle(lab, name, "mlp", str(model))
    differ = sweeps_that_differ(lab, name, model)
    yield Row(f"{name}: a sweep computed, and cached", ", ".join(differ) or "the same figures", holds=not differ)
    changes = {"precision": "bfloat16"} if bench.on_gpu else {}
    model = lab.folder / "reduced"
    train_bundle(lab, name, "mlp", str(model), **changes)
    metrics = evaluate_bundle(lab, name, str(model), **changes)
    what = f"{name} {'bfloat16' if changes else 'float32'}: trained, and evaluated with a sweep"
    yield Row(what, f"{len(metrics)} figures", holds=True)


def halved(bench: Bench) -> Rows:
    """A batch that exceeds the memory is halved, and no row is lost."""
    from checks import halve

    for name in bench.networks[:2]:
        found = halve(bench.lab, name, bench.batch)
        figure = (
            f"batch {found.before} to {found.after}, features moved by {found.moved:.0e}, said {len(found.said)} times"
        )
        yield Row(f"{name}: under a cap on the memory", figure, holds=found.after < found.before and found.moved < 1e-3)


def compiled(bench: Bench) -> Rows:
    """Graphs that torch.compile makes, and makes again when the batch is halved under several threads."""
    from checks import compiled_graphs

    name = bench.networks[0]
    first, again, moved = compiled_graphs(bench.lab, name, bench.batch, threads=4)
    figure = f"{first} graphs, {again} more after a halving, features moved by {moved:.0e}"
    yield Row(f"{name}, compile: true, 4 threads", figure, holds=moved < 1e-3 and again <= 1)


def sanitised(bench: Bench) -> Rows:
    """A small extraction under torch's sanitizer, which looks for streams that touch each other's memory."""
    from checks import extract_here, fresh

    looks = {"TORCH_CUDA_SANITIZER": "1"} if bench.on_gpu else {}  # it wants a driver
    for decoder in ("pillow", "nvjpeg") if bench.on_gpu else ("pillow",):
        out = str(bench.few.folder / f"sanitised-{decoder}")
        what = f"{'under the sanitizer' if looks else 'without a GPU no sanitizer'}, decoder {decoder}: extract"
        try:
            computed = fresh(bench.few, extract_here, bench.networks[0], out, decoder, **looks)
        except RuntimeError as error:
            yield Row(what, " ".join(str(error).split())[-200:].replace("|", "/"), holds=False)
        else:
            yield Row(what, f"{computed} rows, nothing found" if looks else f"{computed} rows", holds=True)


def decoded(bench: Bench) -> Rows:
    """nvJPEG by 16 threads and by one, beside Pillow."""
    import numpy as np
    from checks import decode_all, differing_files

    many = 4 if bench.quick else 16
    found, rates = {}, {}
    for decoder, threads in (("pillow", many), ("nvjpeg", 1), ("nvjpeg", many)):
        decode_all(bench.lab, decoder, threads)  # starts nvJPEG, fills the file cache
        started = time.perf_counter()
        found[decoder, threads] = decode_all(bench.lab, decoder, threads)
        rates[decoder, threads] = len(found[decoder, threads].pixels) / (time.perf_counter() - started)
        yield Row(f"decoder {decoder}, {threads} threads", f"{rates[decoder, threads]:.0f} images/s")
    yield Row("nvjpeg / pillow", f"{rates['nvjpeg', many] / rates['pillow', many]:.2f}x")
    one, all_of_them = found["nvjpeg", 1], found["nvjpeg", many]
    same = one.pixels.tobytes() == all_of_them.pixels.tobytes()
    yield Row(f"nvjpeg, {many} threads against 1", "equal" if same else "NOT equal", holds=same)
    apart = np.abs(all_of_them.pixels.astype(np.int16) - found["pillow", many].pixels)
    yield Row("nvjpeg against pillow, grey levels", f"mean {apart.mean():.2f}, at most {apart.max()}")
    left = f"{all_of_them.not_plain} no plain JPEGs, {len(all_of_them.refused)} refused by nvJPEG"
    yield Row(f"of {len(one.pixels)} images left to Pillow", left)
    lab, name = bench.lab, bench.networks[0]
    chosen = "nvjpeg" if bench.on_gpu else "pillow"
    for out in ("one", "two"):
        done = lab.extract(name, lab.folder / f"{chosen}-{out}", decoder=chosen)
    yield Row(f"{name}, decoder {chosen}: extract", f"{done.computed / done.seconds['work']:.0f} views/s")
    differ = differing_files(lab.folder / f"{chosen}-one", lab.folder / f"{chosen}-two")
    yield Row(f"{name}, decoder {chosen}: extracted twice", ", ".join(differ) or "the same files", holds=not differ)


# Speed


def speed_of_extraction(bench: Bench) -> Rows:
    """Views a second beside what decoding alone, and the prefix alone, could do; memory, threads; extracted twice."""
    from checks import MAX_PIXELS, differing_files

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


@contextmanager
def as_torch_is(device: str) -> Iterator[None]:
    """For the peer, who told torch nothing: the fastest kernels, and convolutions in TF32."""
    import torch

    from ffdi.features.devices import precision_on, repeating

    with repeating(False), precision_on(torch.device(device), "tf32"):
        yield


def peer_extraction(bench: Bench, name: str) -> float:
    """Views a second as the reproduced notebooks do it: one image at a time, Pillow, one float32 file a view."""
    import torch
    from PIL import Image
    from torchvision import transforms

    prefix, device = bench.lab.prefix(name), torch.device(bench.lab.device)
    b, files = prefix.backbone, [bench.lab.root / path for path in bench.lab.rows()["path"]]
    see = transforms.Compose(
        [
            transforms.Resize((b.image_size, b.image_size)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(b.mean, b.std),
        ]
    )
    assert prefix.module is not None
    network = copy.deepcopy(prefix.module.prefix).train().to(device)
    started, done = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        while time.perf_counter() - started < bench.seconds:
            with Image.open(files[done % len(files)]) as image:
                pixels = see(image.convert("RGB"))
            torch.save(network(pixels.unsqueeze(0).to(device)).flatten().cpu(), Path(folder) / f"{done}.flatten")
            done += 1
    return done / (time.perf_counter() - started)


def speed_of_training(bench: Bench) -> Rows:
    """Training samples a second beside the notebook's way, on the same device and features."""
    import torch
    from checks import PRESET

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
        network = load_network(prefix.backbone.network, bench.lab.weights(name))[0]
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


def peer_training(
    tail: Any, features: Any, training: Any, shape: tuple[int, ...], cut: int, device: Any, seconds: float
) -> float:
    """Samples a second as the reproduced notebooks do it: one torch.load a sample, L1 as a term of the loss, accuracy over
    all samples every 10 batches with gradients on. Stops after an epoch, or `seconds` and whole tens of batches."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset, Subset

    with tempfile.TemporaryDirectory() as folder:
        for at, one in enumerate(features):
            torch.save(one.float().flatten().clone(), Path(folder) / f"{at}.flatten")

        class Files(Dataset[Any]):
            def __len__(self) -> int:
                return len(features)

            def __getitem__(self, at: int) -> tuple[Any, int]:
                return torch.load(Path(folder) / f"{at}.flatten", weights_only=True), at % 2

        files = Files()
        train = DataLoader(Subset(files, range(cut)), training.batch_size, shuffle=True)
        validation = DataLoader(Subset(files, range(cut, len(files))), 120)
        model = nn.Sequential(tail.body, tail.head).to(device, memory_format=torch.contiguous_format)
        for module in model.modules():
            module._forward_hooks.clear()
        optimizer = torch.optim.Adam(model.parameters(), training.lr, weight_decay=training.optimizer.weight_decay)
        started, done = time.perf_counter(), 0
        for number, (x, y) in enumerate(train, 1):
            loss = nn.functional.cross_entropy(model(x.view(-1, *shape).to(device)), y.to(device))
            loss = loss + training.l1 * sum(torch.norm(p, 1) for p in model.parameters())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += len(y)
            if number % 10 == 0:
                for side in (train, validation):
                    sum(int((model(a.view(-1, *shape).to(device)).argmax(1).cpu() == b).sum()) for a, b in side)
                if time.perf_counter() - started > seconds:
                    break
        return done / (time.perf_counter() - started)


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


# The command

SECTIONS: dict[str, tuple[Callable[[Bench], Rows], float]] = {  # title: what it measures, its limit in seconds
    "A feature depends on its own image": (alike_in_a_batch, 60),
    "Extraction": (speed_of_extraction, 110),
    "Training": (speed_of_training, 70),
    "Decoding": (decoded, 60),
    "Memory formats": (memory_formats, 75),
    "Trained again": (trained_twice, 75),
    "Evaluated again": (swept_twice, 60),
    "Out of memory": (halved, 40),
    "Streams": (sanitised, 40),
    "Compiled": (compiled, 100),
}


def machine(device: str) -> str:
    """What was measured on."""
    import torch
    import torchvision

    from ffdi.features.devices import device_line
    from ffdi.parallel import cpu_count

    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return (
        f"{device_line(device)}; {cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    )


@dataclass(frozen=True)
class Page:
    """The Markdown of what is known so far; printed as it grows, written to `out` where one is named."""

    out: Path | None
    lines: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)
        print("\n".join(lines), flush=True)

    def write(self) -> None:
        if self.out:
            self.out.write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def run_section(title: str, command: Sequence[str], seconds: float, page: Page) -> bool:
    """One section in a process of its own, cut off after `seconds`; whether it went through and all of it holds."""
    page.add("", f"## {title}", "", "| | | |", "| --- | --- | --- |")
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        cut = threading.Event()

        def end() -> None:
            cut.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        good = True
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith('{"what"'):
                    row = Row(**json.loads(line))
                    page.add(str(row))
                    good = good and row.holds is not False
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["no message"])[-1]
    spent = time.perf_counter() - started
    if cut.is_set():
        page.add(f"| this section | cut off after its {seconds:.0f} s | not whole |")
    elif code:
        page.add(f"| this section | failed: {last[:300].replace('|', '/')} | not whole |")
    print(f"({title}: {spent:.0f} s)", flush=True)
    page.write()
    return good and not code


@contextmanager
def work_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ffdi-bench-gpu-") as folder:
        yield Path(folder)


def sizes(folder: Path, device: str, quick: bool) -> Bench:
    """The lab and its networks, small or as faces are."""
    from checks import Lab

    if quick:
        lab = Lab(folder, device, 24, 96, 64)
        return Bench(lab, lab, True, ("mobilenet_v2", "shufflenet", "vit_tiny"))
    lab = Lab(folder, device, 4096, 512, 224)
    return Bench(lab, replace(lab, count=256), False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs")
    parser.add_argument("--minutes", type=float, default=9.0, help="of all sections together, on a GPU")
    parser.add_argument("--sections", nargs="*", metavar="TITLE", help="only those whose title begins so")
    parser.add_argument("--out", type=Path, help="[default: bench/gpu.md, and nothing for the CPU or --quick]")
    parser.add_argument("--section", nargs=2, metavar=("TITLE", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    started = time.monotonic()
    if chosen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from ffdi.features.devices import device_line, has_cuda

    if chosen.device == "cuda" and not has_cuda():
        sys.exit(f"bench/gpu.py needs a GPU, and here is {device_line()}")
    if chosen.section:
        title, folder = chosen.section
        for row in SECTIONS[title][0](sizes(Path(folder), chosen.device, chosen.quick)):
            print(json.dumps(asdict(row)), flush=True)
        return
    real = chosen.device == "cuda" and not chosen.quick
    page = Page(chosen.out or (HERE / "gpu.md" if real else None))
    what = "measured by `make bench-gpu`" if real else "a dry run: its figures mean nothing"
    page.add(f"# On a GPU, {what}", "", f"{machine(chosen.device)}.")
    good = []
    with work_folder() as folder:
        for title, (_, limit) in SECTIONS.items():
            if chosen.sections and not any(title.startswith(one) for one in chosen.sections):
                continue
            left = 60 * chosen.minutes - (time.monotonic() - started) if chosen.device == "cuda" else math.inf
            if left < 5:
                page.add("", f"## {title}", "", "Not measured: the time was over.")
                page.write()
                good.append(False)
                continue
            command = [sys.executable, __file__, "--device", chosen.device, *(["--quick"] if chosen.quick else [])]
            command += ["--section", title, str(folder)]
            seconds = limit if chosen.device == "cuda" else 6 * limit  # nobody waits for a dry run with a watch in hand
            good.append(run_section(title, command, min(seconds, left), page))
    page.add("", f"{sum(good)} of {len(good)} sections are whole, and all that they hold true holds.")
    page.write()
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
