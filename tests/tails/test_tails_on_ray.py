"""Tails that a Ray cluster trains: the bytes of those that one process trains, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Tiny, Trained, tiny_recipe
from small_training import contents, killed_at, tiny_inputs

from ffdi.console import Console
from ffdi.errors import FfdiError
from ffdi.features.settings import RaySettings
from ffdi.tails import cluster
from ffdi.tails.checkpoint import Epoch
from ffdi.tails.cluster import TailMaker, TailTask
from ffdi.tails.recipe import Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe

CPU = torch.device("cpu")
PAIR = tiny_recipe(epochs=2, ema=0.9, calibration="pair")
REFIT = tiny_recipe(folds=2, epochs=1, refit=True, trainable={"last": 1})
Train = Callable[..., dict[str, bytes]]


class ClusterHere:
    """Does what a cluster does in this process: workers are made and items worked on one after the other."""

    @property
    def share(self) -> dict[str, float]:
        return {"num_cpus": 1.0, "num_gpus": 0.0}

    def map(self, make_work: Any, items: Any, *, named: Any, heard: Any) -> Iterator[tuple[Any, Any]]:
        work = make_work()
        for item in reversed(items):
            yield item, work(item, lambda told, item=item: heard(item, told))


@pytest.fixture
def train(tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path) -> Train:
    """train(recipe, engine, ray=..., on_epoch=...): the files of the bundle."""
    inputs = tiny_inputs(tiny, trained, weights)

    def run(recipe: Recipe, engine: Any, ray: RaySettings = RaySettings(), **options: Any) -> dict[str, bytes]:
        out = tmp_path / engine
        train_recipe(recipe, inputs, TrainSettings(engine=engine, ray=ray), device=CPU, out=out, **options)
        return contents(out)

    return run


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is this process."""

    @contextmanager
    def connected(settings: Any, console: Any) -> Iterator[ClusterHere]:
        yield ClusterHere()

    monkeypatch.setattr(cluster, "training_cluster", connected)


@pytest.mark.parametrize("recipe", [replace(PAIR, epochs=1, folds=2), REFIT], ids=["pair", "refit"])
def test_tasks_make_the_bundle_that_one_process_makes(recipe: Recipe, here: None, train: Train) -> None:
    told: dict[str, list[Epoch]] = {"local": [], "ray": []}
    local, by_tasks = (train(recipe, engine, on_epoch=told[engine].append) for engine in told)
    assert by_tasks == local
    one, other = (sorted(map(str, epochs)) for epochs in told.values())
    assert one == other


def test_a_tail_that_diverges_names_its_fold_as_in_one_process(here: None, train: Train) -> None:
    with pytest.raises(FfdiError, match=r"^fold 0, epoch 0: the training diverged"):
        train(tiny_recipe(folds=1, epochs=1, lr=1e30, optimizer=replace(REFIT.optimizer, name="sgd")), "ray")


def test_a_worker_of_another_version_or_without_the_folder_says_so(
    here: None, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change, says in (
        ({"torch_version": "1.0"}, "torch .* is here, 1.0 where the training began"),
        ({"code": "another"}, "another version of ffdi is here than where the training began"),
        ({"out": Path("/nowhere")}, "/nowhere: is not here: workers write the tails into the folder of the bundle"),
    ):
        monkeypatch.setattr(cluster, "TailMaker", lambda *made, change=change: replace(TailMaker(*made), **change))
        with pytest.raises(FfdiError, match=says):
            train(PAIR, "ray")


def test_a_checkpoint_that_is_on_another_disk_is_missed(
    here: None, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster, "TailMaker", lambda *made: replace(TailMaker(*made), out=tmp_path))
    with pytest.raises(FfdiError, match="a worker trained a tail, and its checkpoint is not here"):
        train(tiny_recipe(folds=1, epochs=1), "ray")


def test_a_head_without_epochs_needs_no_cluster(train: Train) -> None:
    knn = replace(PAIR, head=replace(PAIR.head, kind="knn", hidden=()), calibration="folds", ema=None)
    assert train(knn, "ray") == train(knn, "local")


@dataclass(frozen=True)
class Deadly:
    """Makes workers of which the first dies when it has told the first epoch of fold 1."""

    maker: TailMaker
    trace: Path

    def __call__(self) -> Callable[[TailTask, Any], Any]:
        train = self.maker()

        def deadly(task: TailTask, tell: Any) -> Any:
            def told(what: Any) -> None:
                tell(what)
                if task.number == 1 and not self.trace.exists():
                    self.trace.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            return train(task, told)

        return deadly


@pytest.mark.ray
def test_a_cluster_makes_the_same_bundle_though_a_worker_dies(
    ray_cluster: Any, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One worker at a time, so that only two are started."""
    lines = list[str]()
    monkeypatch.setattr(cluster, "TailMaker", lambda *made: Deadly(TailMaker(*made), tmp_path / "died"))
    one = RaySettings(cpus_per_task=1, max_in_flight=1)
    found = train(replace(PAIR, folds=2), "ray", one, console=Console(say=lines.append))
    assert found == train(replace(PAIR, folds=2), "local") and (tmp_path / "died").exists()
    assert any(line.startswith("fold 1 failed on ") and "tried again later" in line for line in lines)


@pytest.mark.ray
@pytest.mark.long
def test_a_driver_that_dies_and_comes_back_goes_on(ray_cluster: Any, train: Train) -> None:
    ray = RaySettings(cpus_per_task=1)
    with pytest.raises(KeyboardInterrupt):
        train(REFIT, "ray", ray, on_epoch=killed_at(1, 0))
    assert train(REFIT, "ray", ray) == train(REFIT, "local")
