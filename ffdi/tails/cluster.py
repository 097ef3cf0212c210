"""Tails trained by the workers of a Ray cluster: a task is one tail, of a fold, of a pair of folds or of all images.

A tail comes back by its checkpoint in the folder of the bundle, which all workers share; through Ray goes no tensor. On a
CPU its bytes are those that this process would make: a worker trains with as many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ffdi.console import Console
from ffdi.errors import FfdiError, NetworkError, ParamsError, network_code
from ffdi.features.devices import repeating, set_up_torch
from ffdi.features.engines.ray import Cluster
from ffdi.features.settings import RaySettings
from ffdi.tails.checkpoint import Checkpoints, Epoch, Fit, code_digest
from ffdi.tails.folds import FoldedTable
from ffdi.tails.recipe import Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train import OnEpoch, cross_validate
from ffdi.tails.training_inputs import Prepared, TrainingInputs

Tell = Callable[[Any], None]
_SETTLED = (FfdiError, ParamsError, NetworkError)  # exactly these: another try would end in the same way


@dataclass(frozen=True)
class TailTask:
    """The tail of one fold, of two folds that it does not train on, or of no fold: all images train it.

    `number` is what the tail's FoldedTable calls it; `recipe` has the epochs of this tail.
    """

    number: int
    without: tuple[int, ...]
    recipe: Recipe

    @property
    def name(self) -> str:
        """What messages call it."""
        return " and ".join(f"fold {fold}" for fold in self.without) or "the tail of all images"

    def images(self, images: FoldedTable) -> FoldedTable:
        """The images of the recipe, with this tail as the only one that is to be trained."""
        if len(self.without) == 2:
            return images.without(*self.without)
        return replace(images, only=self.number) if self.without else images.whole()


@dataclass(frozen=True)
class TrainedTail:
    """What a worker made of a task: a checkpoint with this key, trained on a device of this type; or why there is none,
    where another try would not mend it."""

    key: str
    device: str
    refusal: FfdiError | None = None


@dataclass(frozen=True)
class TailMaker:
    """Makes a worker that trains tails of one recipe; `code` and `torch` are those of the process that asks for them.

    On a CPU a worker has `threads`, beside a GPU `cpus`.
    """

    recipe: Recipe
    inputs: TrainingInputs
    settings: TrainSettings
    out: Path
    threads: int
    cpus: int
    code: str
    torch_version: str

    def __call__(self) -> Callable[[TailTask, Tell], TrainedTail]:
        self._refuse_other_versions()
        if not self.out.is_dir():
            raise FfdiError(
                f"{self.out}: is not here: workers write the tails into the folder of the bundle, on a disk "
                "that all machines share"
            )
        device = set_up_torch(self.settings.device)
        torch.set_num_threads(self.threads if device.type == "cpu" else self.cpus)
        lines: list[str] = []
        made = Prepared.of(self.recipe, self.inputs, self.settings, device, Console(say=lines.append))

        def train(task: TailTask, tell: Tell) -> TrainedTail:
            while lines:
                tell(lines.pop(0))
            told = Console(say=tell)
            with ExitStack() as stack:
                stack.enter_context(network_code(made.backbone.place))
                stack.enter_context(repeating(self.settings.repeats(device.type)))
                options: dict[str, Any] = {"checkpoints": Checkpoints(self.out, made.key), "console": told}
                try:
                    images = task.images(made.images)
                    cross_validate(made.factory.fresh, images, task.recipe, device=device, on_epoch=tell, **options)
                except FfdiError as error:
                    if type(error) in _SETTLED:
                        return TrainedTail(made.key, device.type, type(error)(str(error)))
                    raise
            return TrainedTail(made.key, device.type)

        return train

    def _refuse_other_versions(self) -> None:
        """FfdiError when this worker has another torch, or other code of this library, than the process that asks."""
        if str(torch.__version__) != self.torch_version:
            raise FfdiError(
                f"torch {torch.__version__} is here, {self.torch_version} where the training began: "
                "install the same on every node"
            )
        if code_digest() != self.code:
            raise FfdiError(
                "another version of ffdi is here than where the training began: install the same on every node"
            )


class TailsOnCluster:
    """Trains the tails that it is asked for, as `cross_validate` does, on the workers of a cluster.

    The tails of `pairs` of folds are trained with those of the folds, before anybody asks.
    """

    def __init__(
        self,
        cluster: Cluster,
        made: Prepared,
        inputs: TrainingInputs,
        out: Path,
        pairs: Sequence[tuple[int, int]],
        console: Console,
    ) -> None:
        self._cluster, self._made, self._console = cluster, made, console
        self._out = out.absolute()
        self._out.mkdir(parents=True, exist_ok=True)
        threads = torch.get_num_threads()
        cpus = max(1, int(cluster.share["num_cpus"]))
        sent = replace(inputs, features=inputs.features.absolute(), weights=inputs.weights.absolute(), views=None)
        version = str(torch.__version__)
        self._maker = TailMaker(made.recipe, sent, made.settings, self._out, threads, cpus, code_digest(), version)
        self._pairs = {number: pair for pair in pairs for number in made.images.without(*pair).wanted("all")}
        self._trained: dict[int, TrainedTail] = {}

    def __call__(self, images: FoldedTable, recipe: Recipe, told: OnEpoch) -> dict[int, Fit]:
        """The fits of the folds that `images` ask for. FfdiError as cross_validate, once the other tails are done."""
        wanted = images.wanted(recipe.folds)
        numbers = wanted if images.only is not None else [*wanted, *self._pairs]
        if missing := [number for number in numbers if number not in self._trained]:
            self._train([self._task(number, recipe) for number in missing], told)
        return {number: self._fit(number) for number in wanted}

    def _task(self, number: int, recipe: Recipe) -> TailTask:
        folds = self._made.images.numbers
        return TailTask(number, self._pairs.get(number, (number,) if number in folds else ()), recipe)

    def _train(self, tasks: Sequence[TailTask], told: OnEpoch) -> None:
        seen: set[tuple[int, int]] = set()

        def heard(task: TailTask, what: object) -> None:
            if isinstance(what, str):
                self._console.say(f"{task.name}: {what}")
            if not isinstance(what, Epoch) or len(task.without) == 2:
                return
            if (task.number, what.epoch) not in seen:
                seen.add((task.number, what.epoch))  # a tail that is tried again tells its first epochs again
                told(what)

        for task, trained in self._cluster.map(self._maker, tasks, named=lambda task: task.name, heard=heard):
            self._trained[task.number] = trained

    @property
    def devices(self) -> set[str]:
        """The types of device that have trained so far."""
        return {trained.device for trained in self._trained.values()}

    def _fit(self, number: int) -> Fit:
        trained = self._trained[number]
        if trained.refusal is not None:
            raise trained.refusal
        found = Checkpoints(self._out, trained.key).finished(number)
        if found is None:
            raise FfdiError(
                f"{self._out}: a worker trained a tail, and its checkpoint is not here: name a folder that all "
                "machines share"
            )
        return found


@contextmanager
def training_cluster(settings: RaySettings, console: Console) -> Iterator[Cluster]:
    """The cluster, where a worker without a GPU takes as many cores as it will have threads, unless the settings say."""
    with Cluster(settings, console) as cluster:
        if settings.cpus_per_task == "auto" and not cluster.share["num_gpus"]:
            cluster.settings = replace(settings, cpus_per_task=torch.get_num_threads())
        yield cluster
