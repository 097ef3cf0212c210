"""Training on the fake device: the CPU's bytes where both compute alike, and what happens when memory is short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiny, Trained, tiny_backbone, tiny_recipe
from fake_cuda import FakeCuda, OnCuda

from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError
from ffdi.features.devices import set_up_device
from ffdi.features.networks import headless_network
from ffdi.features.store import FeatureStore
from ffdi.tails import train as training_module
from ffdi.tails.augment import augmentation
from ffdi.tails.augment_operations import resolve_augment
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.checkpoint import Checkpoints, Fit
from ffdi.tails.feature_source import InMemory, Streamed
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import TailFactory
from ffdi.tails.optimisation import ExtraLosses, Mix, Optimizer
from ffdi.tails.recipe import Head
from ffdi.tails.train import cross_validate

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MLP, LINEAR = Head("mlp", (8,), 0.2, 1, 1, 1), Head("linear", (), 0.2, 1, 1, 1)
TRANSFORMER = Head("transformer", (), 0.1, 2, 2, 16, 0.1)
MAPS, IMAGES = ("torchvision:mobilenet_v2", "features.18", (320, 2, 2)), ("timm:resnet10t", "input", (3, 32, 32))
FOLDS = [0, 0, 1, 1] * 3
GROUPS = [f"g{n // 2}" for n in range(12)]  # one of each class
GEND: dict[str, Any] = {"trainable": "norms", "loss": ExtraLosses(0.1, 0.5), "pairing": "group"}
AUGMENT = ["hflip", {"jitter": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.3}}, "crop", "blur"]


def made(place: tuple[str, str, tuple[int, ...]], head: Head) -> tuple[Callable[[int], Any], FeatureTable]:
    """Fresh tails at a cut, and twelve images of random features there, of two views each."""
    network, cut, shape = place
    backbone = tiny_backbone(network=network, cut=cut, image_size=shape[-1] if cut == "input" else 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factory = TailFactory(headless_network(network), backbone, head, shape)
        drawn = torch.rand(24, *shape)
    features = (drawn * 255).to(torch.uint8) if cut == "input" else drawn.half()
    ids, first, views = tuple(f"{i:02d}" for i in range(12)), 2 * torch.arange(12), torch.full((12,), 2)
    return factory.fresh, FeatureTable(ids, InMemory(features), first, views, torch.arange(12) % 2)


def on(device: torch.device, table: FeatureTable) -> FeatureTable:
    assert isinstance(table.source, InMemory)
    return FeatureTable(
        table.image_ids, InMemory(table.source.features.to(device)), table.first, table.views, table.labels
    )


def alike(one: dict[int, Fit], other: dict[int, Fit]) -> None:
    for fold, fitted in one.items():
        np.testing.assert_allclose(other[fold].logits, fitted.logits, atol=2e-3)
        assert [e.epoch for e in other[fold].history] == [e.epoch for e in fitted.history]


@pytest.mark.parametrize(
    ("place", "head", "changes"),
    [
        (MAPS, MLP, {"clip_grad": 1.0, "ema": 0.9, "l1": 1e-4, "class_weights": "balanced", "label_smoothing": 0.1}),
        (MAPS, TRANSFORMER, {"optimizer": Optimizer("sgd", 0.1, 0.9), "mix": Mix(0.2, 1.0), "views": "all"}),
        (IMAGES, LINEAR, {"augment": ("hflip", "noise", "jpeg"), "mix": Mix(0.2)}),
        (MAPS, LINEAR, GEND | {"lr_decay": 0.7, "ema": 0.9, "optimizer": Optimizer("adamw", 0.1, decayed="weights")}),
    ],
)
def test_a_fit_on_cuda_is_that_of_the_cpu(
    place: Any, head: Head, changes: dict[str, Any], fake_cuda: FakeCuda, tmp_path: Path
) -> None:
    fresh, table = made(place, head)
    training = tiny_recipe(folds=1, epochs=2, batch_size=4, lr=1e-3, **changes)
    due = cross_validate(fresh, FoldedTable.of(table, FOLDS, None, GROUPS), training, device=CPU)
    for features in (on(CUDA, table), table):  # on the device, and kept in the CPU's memory
        found = cross_validate(fresh, FoldedTable.of(features, FOLDS, None, GROUPS), training, device=CUDA)
        alike(due, found)
        assert {v.device.type for fitted in found.values() for v in fitted.state.values()} == {"cpu"}


@pytest.mark.parametrize("trainable", ["all", "norms"])
def test_a_killed_fit_on_cuda_goes_on(trainable: str, fake_cuda: FakeCuda, tmp_path: Path) -> None:
    fresh, table = made(MAPS, MLP)
    table, training = on(CUDA, table), tiny_recipe(folds=1, epochs=3, batch_size=4, ema=0.9, trainable=trainable)
    whole = cross_validate(fresh, FoldedTable.of(table, FOLDS), training, device=CUDA)

    def killed(epoch: Any) -> None:
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"device": CUDA, "checkpoints": Checkpoints(tmp_path, "key")}
    with pytest.raises(KeyboardInterrupt):
        cross_validate(fresh, FoldedTable.of(table, FOLDS), training, on_epoch=killed, **options)
    gone_on = cross_validate(fresh, FoldedTable.of(table, FOLDS), training, **options)
    assert all(torch.equal(v, gone_on[0].state[k]) for k, v in whole[0].state.items())


def test_tf32_is_for_the_steps_of_training_alone(fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, table = made(MAPS, MLP)
    set_up_device("cuda")
    seen: list[tuple[bool, bool]] = []

    def watched(seed: int) -> Any:
        tail = fresh(seed)
        tail.register_forward_hook(lambda m, i, o: seen.append((m.training, torch.backends.cudnn.allow_tf32)))
        return tail

    options: dict[str, Any] = {"device": CUDA}
    cross_validate(
        watched,
        FoldedTable.of(on(CUDA, table), FOLDS),
        tiny_recipe(folds=1, epochs=1, batch_size=4, precision="tf32"),
        **options,
    )
    assert set(seen) == {(True, True), (False, False)}
    seen.clear()
    cross_validate(
        watched, FoldedTable.of(on(CUDA, table), FOLDS), tiny_recipe(folds=1, epochs=1, batch_size=4), **options
    )
    assert set(seen) == {(True, False), (False, False)}


def test_tf32_is_refused_on_the_cpu() -> None:
    fresh, table = made(MAPS, MLP)
    with pytest.raises(ParamsError, match="precision: tf32 needs CUDA; here the tail is trained on the cpu"):
        cross_validate(fresh, FoldedTable.of(table, FOLDS), tiny_recipe(folds=1, precision="tf32"), device=CPU)


def test_a_step_waits_for_no_copy(fake_cuda: FakeCuda) -> None:
    """Places and labels go to the device once an epoch: a copy in each step would wait for all that is under way."""
    fresh, table = made(MAPS, MLP)
    counts = []
    for batch_size in (2, 6):  # three steps, and one
        moved = fake_cuda.moved
        run = training_module.start(fresh(0), tiny_recipe(batch_size=batch_size), table, torch.Generator(), CUDA)
        began = fake_cuda.moved
        training_module.train_epoch(run, on(CUDA, table.of(torch.arange(6))), tiny_recipe(batch_size=batch_size), 0)
        counts.append(fake_cuda.moved - began)
        assert began > moved
    assert counts[0] == counts[1]


def test_a_table_that_leaves_no_room_stays_on_the_cpu(trained: Trained, tiny: Tiny, fake_cuda: FakeCuda) -> None:
    store, ids = FeatureStore(trained.features), list(tiny.rows["image_id"])
    options: dict[str, Any] = {"views": "all", "memory_gb": 1, "device": CUDA}
    labels, said = list(tiny.rows["label"]), list[str]()
    fits = load_table(store, ids, labels, console=Console(said.append), **options)
    assert isinstance(fits.source, InMemory) and isinstance(fits.source.features, OnCuda) and not said
    fake_cuda.memory = fits.source.features.nbytes + 1000
    kept = load_table(store, ids, labels, console=Console(said.append), **options)
    assert isinstance(kept.source, InMemory) and not kept.source.features.is_cuda
    assert said == [
        "the features (108 kB) leave no room on the GPU (109 kB free): kept in the CPU's memory, batches are copied"
    ]
    for one, other in zip(fits.clean(10, CUDA), kept.clean(10, CUDA), strict=True):
        assert torch.equal(one[0].cpu(), other[0].cpu()) and one[1].device == other[1].device == torch.device("cuda:0")


def test_a_table_that_only_seemed_to_fit_stays_on_the_cpu(
    trained: Trained, tiny: Tiny, fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = FeatureStore(trained.features), list[str]()
    true_to = torch.Tensor.to

    def full(tensor: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        if tensor.nbytes > 1000:
            raise torch.OutOfMemoryError("out of memory")
        return true_to(tensor, *rest, **options)

    monkeypatch.setattr(torch.Tensor, "to", full)
    options: dict[str, Any] = {"views": "all", "memory_gb": 1, "device": CUDA}
    table = load_table(
        store, list(tiny.rows["image_id"]), list(tiny.rows["label"]), console=Console(said.append), **options
    )
    assert isinstance(table.source, InMemory) and not table.source.features.is_cuda and len(said) == 1


def test_a_training_without_memory_first_lets_the_features_go(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The batch is to blame only where the table is not in its way; and each epoch is told once."""
    fresh, table = made(MAPS, MLP)
    training = tiny_recipe(epochs=3, batch_size=4)
    due = cross_validate(fresh, FoldedTable.of(on(CUDA, table), FOLDS), training, device=CUDA)
    true_epoch, always = training_module.train_epoch, [False]

    def short(run: Any, table: FeatureTable, *rest: Any) -> Any:
        assert isinstance(table.source, InMemory)
        if always[0] or (table.source.features.is_cuda and len(run.history) == 2):
            raise torch.OutOfMemoryError("out of memory")
        return true_epoch(run, table, *rest)

    monkeypatch.setattr(training_module, "train_epoch", short)
    said, told = list[str](), list[tuple[int, int]]()
    options: dict[str, Any] = {"device": CUDA, "console": Console(said.append)}
    options |= {"on_epoch": lambda e: told.append((e.fold, e.epoch)), "checkpoints": Checkpoints(tmp_path, "key")}
    found = cross_validate(fresh, FoldedTable.of(given := on(CUDA, table), FOLDS), training, **options)
    assert isinstance(given.source, InMemory) and not given.source.features.is_cuda  # nobody keeps them there
    assert said == ["fold 0: out of memory on cuda: the features leave it, batches are copied"]
    assert told == [(fold, epoch) for fold in (0, 1) for epoch in range(3)] and fake_cuda.emptied == 1
    assert all(torch.equal(v, found[f].state[k]) for f, fitted in due.items() for k, v in fitted.state.items())
    always[0] = True
    with pytest.raises(FfdiError, match="fold 0: out of memory on cuda with batch_size 4: set batch_size to 2"):
        cross_validate(fresh, FoldedTable.of(on(CUDA, table), FOLDS), training, device=CUDA)


def test_a_container_s_memory_bounds_the_table(trained: Trained, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    store, said = FeatureStore(trained.features), list[str]()
    monkeypatch.setattr("ffdi.tails.batches.memory_limit", lambda: 100_000)
    options: dict[str, Any] = {"views": "all", "memory_gb": 1, "console": Console(said.append)}
    table = load_table(store, list(tiny.rows["image_id"]), list(tiny.rows["label"]), **options)
    assert isinstance(table.source, Streamed)
    assert said == ["the features exceed half of the container's memory (50 kB): read from the shards in every epoch"]


def test_augmentation_on_cuda_has_few_kernels_and_the_cpu_s_draws(fake_cuda: FakeCuda) -> None:
    rng = np.random.default_rng(0)
    smooth = torch.from_numpy(rng.integers(0, 256, (16, 3, 5, 5), dtype=np.uint8)).float()
    batch = torch.nn.functional.interpolate(smooth, (32, 32), mode="bilinear").round().to(torch.uint8)
    for operation in (*AUGMENT, "vflip", "noise", "jpeg"):
        change = augmentation(resolve_augment([operation]))
        results, launches = [], []
        for device, size in ((CPU, 16), (CUDA, 16), (CUDA, 8)):
            torch.manual_seed(3)
            given = batch[:size].clone().to(device)
            before = fake_cuda.launched
            results.append(change(given).cpu().numpy().astype(int))
            launches.append(fake_cuda.launched - before)
        assert np.abs(results[0] - results[1]).max() <= 1, operation
        assert (results[0] != batch.numpy()).any(), operation
        assert launches[1] == launches[2], operation
