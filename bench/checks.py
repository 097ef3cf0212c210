"""What must hold on a device, whatever it is: bench/gpu.py reports it, tests/features/test_cuda.py asserts it.

All that is needed is made on the spot: smooth random JPEGs and random weights. Steps that must begin as a stage does,
with every flag of torch as it is by default, or that must be killed, run in a process of their own (`fresh`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lab import MAX_PIXELS, PRESET, Lab

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.features.batching import BatchedModel, BatchOptions
from ffdi.features.decoders import Decoder
from ffdi.features.devices import set_up_device
from ffdi.features.perturbed import PerturbationSweep
from ffdi.features.runtimes import Runtime
from ffdi.intake.decoding.images import ImageSource, UnreadableImage, read_bytes
from ffdi.metrics import Metrics
from ffdi.params.reading import read_params
from ffdi.tails.checkpoint import Epoch
from ffdi.tails.recipe import Head, Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

HEADS = {  # of a fold's tail: what it is trained with in train_bundle
    "mlp": Head("mlp", (512, 256), 0.2, 1, 1, 1),
    "transformer": Head("transformer", (), 0.1, 2, 4, 128, 0.1),  # of 196 tokens and one on maps of 14x14
}
LEVELS = ("jpeg-50", "blur-1")


def fresh(lab: Lab, task: Callable[..., Any], *arguments: Any, killed: bool = False, **environment: str) -> Any:
    """task(lab, *arguments), a function of this module, in a process of its own; None of one that is to be killed."""
    facts = asdict(lab) | {"folder": str(lab.folder)}
    command = [sys.executable, __file__, task.__name__, json.dumps(facts), json.dumps(arguments)]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if lab.device == "cpu" else {}
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    found = {**os.environ, "PYTHONPATH": paths, **hidden, **environment}
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=False)
    if done.returncode != (-signal.SIGKILL if killed else 0):
        raise RuntimeError(f"{task.__name__} ended with {done.returncode}: {done.stderr[-2000:]}")
    return None if killed else json.loads(done.stdout.splitlines()[-1])


# Features


def differing_places(runtime: Runtime, pictures: npt.NDArray[np.uint8], batch: int) -> list[int]:
    """At which places of a batch of `batch` the first of `pictures` has other features than alone, its neighbours being
    the others, others at each place."""
    if "batch" in runtime.maker and runtime.batch > 1:  # on the CPU every image is alone
        runtime.maker["batch"] = batch
    alone = runtime.run(pictures[:1])[0].tobytes()
    others, places = pictures[1:], []
    for place in range(batch):
        block = others[(np.arange(batch) + place) % len(others)]
        block[place] = pictures[0]
        if runtime.run(block)[place].tobytes() != alone:
            places.append(place)
    return places


def differing_files(one: Path, other: Path) -> list[str]:
    """The names of files that are not the same in two folders."""
    names = {file.name for folder in (one, other) for file in folder.iterdir() if file.is_file()}
    both = [(one / name, other / name) for name in sorted(names)]
    return [a.name for a, b in both if not (a.exists() and b.exists() and a.read_bytes() == b.read_bytes())]


@dataclass(frozen=True)
class Halving:
    """The batch before and after, what was said, and how far features moved (L2, relative)."""

    before: int
    after: int
    said: tuple[str, ...]
    moved: float


def halve(lab: Lab, name: str, batch: int = 64) -> Halving:
    """Run out of memory: on CUDA by a cap on this process's share of it, on the CPU by a model that feigns it."""
    pictures, said = lab.pictures(name, 2 * batch - 1), list[str]()
    if lab.device == "cpu":
        module, facts = lab.prefix(name).module, {"batch": batch}

        def model(images: torch.Tensor) -> torch.Tensor:
            if len(images) > most:
                raise torch.OutOfMemoryError("feigned")
            assert module is not None
            computed: torch.Tensor = module(images)
            return computed

        most, run = batch, BatchedModel(model, "cpu", facts, said.append)
        usual = run(pictures)
        most = batch // 2
        moved = _moved(usual, run(pictures))
        return Halving(batch, facts["batch"], tuple(said), moved)
    torch.cuda.empty_cache()
    runtime = lab.prefix(name).open(Console(said.append))
    resting = torch.cuda.memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    usual = runtime.run(pictures)
    peak, total = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    try:
        for share in (0.7, 0.5, 0.35, 0.25):  # cuDNN may do with less memory before it fails
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction((resting + share * (peak - resting)) / total)
            features = runtime.run(pictures)
            if said:
                break
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return Halving(runtime.batch, int(runtime.maker["batch"]), tuple(said), _moved(usual, features))


def _moved(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    assert one.shape == other.shape
    return float(np.linalg.norm(one - other) / np.linalg.norm(one))


def compiled_graphs(lab: Lab, name: str, batch: int, threads: int) -> tuple[int, int, float]:
    """(graphs compiled at first, graphs compiled anew after the batch was halved while `threads` threads call, L2)."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    if lab.device == "cpu":  # where compilation is refused: dynamo alone, without a compiler
        module = lab.prefix(name).module
        facts: dict[str, Any] = {"batch": batch}
        model: Any = torch.compile(module, backend="eager")
        run: Callable[..., Any] = BatchedModel(model, "cpu", facts, lambda line: None, BatchOptions(compiled=True))
    else:
        runtime = lab.prefix(name, compile=True).open()
        run, facts = runtime.run, runtime.maker
        facts["batch"] = batch
    pictures = lab.pictures(name, batch)
    usual = run(pictures)
    first = int(counters["stats"]["unique_graphs"])
    facts["batch"] = batch // 2
    with ThreadPoolExecutor(threads) as pool:
        again = list(pool.map(run, [pictures] * (2 * threads)))
    return first, int(counters["stats"]["unique_graphs"]) - first, max(_moved(usual, one) for one in again)


# Decoding


@dataclass(frozen=True)
class DecodedAll:
    """The pixels (N, S, S, 3) of all files, and what the decoder left to Pillow."""

    pixels: npt.NDArray[np.uint8]
    decoded: int
    not_plain: int
    refused: tuple[str, ...]


def decode_all(lab: Lab, decoder: str, threads: int, together: int = 64) -> DecodedAll:
    """Every JPEG, in tasks of `together`, by `threads` threads; on the CPU torchvision's own decoder is nvJPEG's stand-in."""
    backbone = lab.backbone("mobilenet_v2", decoder=decoder)
    made = Decoder(backbone, max_pixels=MAX_PIXELS, accepted=True, device=lab.device)  # as extraction does
    files = [lab.root / path for path in sorted(lab.rows()["path"])]

    def one(block: Sequence[Path]) -> list[npt.NDArray[np.uint8]]:
        found = []
        for image in made((file.name, partial(read_bytes, file.parent, file.name)) for file in block):
            assert not isinstance(image, UnreadableImage), image
            found.append(np.asarray(image))
        return found

    with ThreadPoolExecutor(threads) as pool:
        blocks = pool.map(one, (files[at : at + together] for at in range(0, len(files), together)))
        pixels = np.stack([image for block in blocks for image in block])
    return DecodedAll(pixels, made.decoded, made.not_plain, tuple(sorted(made.refused)))


# Training


def training(epochs: int) -> Recipe:
    """As the MobileNetV2 recipe of the preset."""
    return replace(read_params(PRESET).recipe("mobilenet_v2"), epochs=epochs, batch_size=32)


def train_bundle(lab: Lab, name: str, head: str, out: str, die_after: int = 0, **changes: Any) -> None:
    """Stage train's work on the features of one of NETWORKS; with `die_after`, killed after so many epochs."""
    backbone, features = lab.backbone(name, **changes), lab.features(name, **changes)
    inputs = TrainingInputs("random", lab.rows(), backbone, features, lab.weights(name))
    recipe = replace(training(epochs=2), folds=2, head=HEADS[head])
    epochs = list[Epoch]()

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(epoch)
        if len(epochs) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    device = set_up_device(lab.device)
    train_recipe(recipe, inputs, TrainSettings(), device=device, out=Path(out), on_epoch=on_epoch)


def training_that_differs(lab: Lab, name: str, head: str) -> dict[str, list[str]]:
    """The files of a bundle that are not those of the first training: of the `second`, and of one `killed` and gone on.

    The third epoch of four is the first of the second fold.
    """
    first, second, killed = (lab.folder / f"{kind}-{name}-{head}" for kind in ("first", "second", "killed"))
    for out in (first, second):
        train_bundle(lab, name, head, str(out))
    fresh(lab, train_bundle, name, head, str(killed), 3, killed=True)
    left = sorted(file.name for file in killed.iterdir())
    assert "bundle.json" not in left and any("checkpoint" in file for file in left), left
    train_bundle(lab, name, head, str(killed))
    return {"second": differing_files(first, second), "killed": differing_files(first, killed)}


# Evaluation


def evaluate_bundle(lab: Lab, name: str, model: str, **changes: Any) -> Metrics:
    """Stage evaluate's work with a sweep, whose features are computed where they are not there yet."""
    device = set_up_device(lab.device)
    sweep = PerturbationSweep(LEVELS, Path(f"{model}-sweep"), ImageSource(lab.root, MAX_PIXELS))
    inputs = EvaluationInputs.load(Path(model), lab.features(name, **changes), lab.rows()).with_perturbed(sweep)
    evaluation = evaluate_recipe(inputs, bootstrap=Bootstrap(100), memory_gb=8, device=device)
    return dict(evaluation.metrics)


def sweeps_that_differ(lab: Lab, name: str, model: Path) -> list[str]:
    """The figures of an evaluation that are others when the sweep's features are cached; each in a process of its own."""
    computed, cached = (fresh(lab, evaluate_bundle, name, str(model)) for _ in range(2))
    assert any(key.startswith("robustness_") for key in computed)
    return sorted(key for key in computed | cached if computed.get(key) != cached.get(key))


def extract_here(lab: Lab, name: str, out: str, decoder: str) -> int:
    """Rows that stage extract's work computed; for a process whose environment is another."""
    return lab.extract(name, Path(out), decoder=decoder if lab.device == "cuda" else "pillow").computed


TASKS: Iterable[Callable[..., Any]] = (train_bundle, evaluate_bundle, extract_here)


def main(task: str, lab: str, arguments: str) -> None:
    facts = json.loads(lab)
    here = Lab(**(facts | {"folder": Path(facts["folder"])}))
    print(json.dumps({one.__name__: one for one in TASKS}[task](here, *json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
