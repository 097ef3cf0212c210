"""The state of a fit between two epochs, and the file from which an interrupted training continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ffdi.files import canonical_json, replacing
from ffdi.tails.average import MovingAverage
from ffdi.tails.heads import Tail
from ffdi.tails.ranks import ALONE, Team
from ffdi.tails.recipe import REFIT
from ffdi.tails.trainable import Trained, load_trained

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Epoch:
    """One line of history.csv.

    `loss` is the mean cross-entropy without L1, `train_auc` the AUC of the scores while the epoch trains, `val_auc` that
    of the validation fold, `lr` the last learning rate. A head that is fitted at once has no epochs. The lines of a
    probe are the values of C that it tried, in the place of `lr`, with the means over its inner folds: loss and AUC of
    the rows held out as `loss` and `val_auc`. Nearest neighbours have one line; its loss is that of the validation fold,
    and a training row is judged by the others. The tail of a refit, which nothing validates, has REFIT as its fold and
    no line in history.csv.
    """

    fold: int
    epoch: int
    loss: float
    train_auc: float
    val_auc: float
    lr: float

    @property
    def of_refit(self) -> bool:
        """Whether it is of the tail that all training images train."""
        return self.fold == REFIT


@dataclass(frozen=True)
class Fit:
    """A trained tail at its best epoch: the tensors of its state that train, the validation logits (fake -
    real) in table order, the history.

    `choice` is what a sweep chose on inner folds, and from what; bundle.json stores it.
    """

    state: dict[str, Tensor]
    logits: Scores
    history: tuple[Epoch, ...]
    best_epoch: int
    choice: Mapping[str, Any] | None = None


def margin(logits: Tensor) -> Scores:
    """(N,) logit of fake minus logit of real, of (N, 2) logits."""
    return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()


@dataclass
class Running:
    """A fit that is running. With an EMA, `average` follows what is `trained` of the tail, and it is what is validated and
    kept."""

    tail: Tail
    trained: Trained
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    generator: torch.Generator
    device: torch.device
    team: Team = ALONE
    best: Fit | None = None
    history: tuple[Epoch, ...] = ()

    @property
    def judged(self) -> nn.Module:
        """The module that is validated and kept."""
        return self.tail if self.average is None else self.average.module

    def is_over(self, epochs: int, patience: int | None) -> bool:
        """Whether all epochs are done, or `patience` epochs since the best one."""
        done = len(self.history)
        stale = self.best is not None and patience is not None and done - 1 - self.best.best_epoch >= patience
        return done >= epochs or stale

    def ended(self, epoch: Epoch, logits: Scores) -> None:
        """Record a finished epoch, and keep its weights when its validation AUC is the highest so far; or when nothing
        validates."""
        self.history += (epoch,)
        if self.best is None or not len(logits) or epoch.val_auc > self.history[self.best.best_epoch].val_auc:
            state = {k: v.cpu().clone() for k, v in self.trained.state(self.judged).items()}
            self.best = Fit(state, logits, (), epoch.epoch)

    def outcome(self) -> Fit:
        """The best epoch's weights with the whole history."""
        assert self.best is not None  # epochs >= 1
        return Fit(self.best.state, self.best.logits, self.history, self.best.best_epoch)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes and the next epoch depends on: weights, moments, averages, all generators."""
        assert self.best is not None
        tensors = {f"tail/{k}": v for k, v in self.trained.state(self.tail).items()}
        tensors |= {f"best/{k}": v for k, v in self.best.state.items()}
        tensors |= {"logits": torch.from_numpy(self.best.logits)}
        if self.average is not None:
            tensors |= {f"average/{k}": v for k, v in self.trained.state(self.average.module).items()}
        tensors |= {
            f"optimizer/{number}/{k}": v
            for number, moments in self.optimizer.state_dict()["state"].items()
            for k, v in moments.items()
            if isinstance(v, Tensor)
        }
        tensors |= {"order": self.generator.get_state(), "cpu": torch.random.get_rng_state()}
        if self.device.type == "cuda":
            tensors["cuda"] = torch.cuda.get_rng_state(self.device)
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor], history: tuple[Epoch, ...], best_epoch: int) -> None:
        """Load what `tensors` gave. From here on every number is that of the run that wrote them."""
        load_trained(self.tail, _below("tail", tensors))
        if self.average is not None:
            load_trained(self.average.module, _below("average", tensors))
            self.average.started = True
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for path, value in _below("optimizer", tensors).items():
            number, _, name = path.partition("/")
            parameter = parameters[int(number)]
            if value.shape == parameter.shape:  # fused optimizers need the memory layout of the parameter
                value = torch.empty_like(parameter).copy_(value)
            moments.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.generator.set_state(tensors["order"])
        torch.random.set_rng_state(tensors["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["cuda"], self.device)
        self.history = history
        self.best = Fit(_below("best", tensors), tensors["logits"].numpy(), (), best_epoch)


def _below(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{part}/")}


class Checkpoints:
    """One file per fold in `folder`, written after every epoch.

    `key` stands for everything that decides the bytes of the training; a file with another key is ignored, and so is a
    damaged one. Saving the bundle deletes the files.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def file(self, fold: int) -> Path:
        return self.folder / f"checkpoint-{fold}.safetensors"

    def save(self, fold: int, run: Running) -> None:
        """Replace the fold's file; a kill at any moment leaves the previous one."""
        from safetensors.torch import save_file

        assert run.best is not None
        tensors = run.tensors()
        progress = {"history": [asdict(epoch) for epoch in run.history], "best_epoch": run.best.best_epoch}
        header = {"key": self.key, "progress": json.dumps(progress), "digest": _digest(tensors)}
        with replacing(self.file(fold), sync=False) as temporary:
            save_file(tensors, temporary, header)

    def load(self, fold: int, run: Running) -> bool:
        """Bring `run` to the state in the fold's file; False when this training has no file."""
        found = self._read(fold)
        if found is None:
            return False
        run.restore(*found)
        return True

    def finished(self, fold: int) -> Fit | None:
        """What the fit whose last epoch is in the fold's file came to; None when this training has no file."""
        found = self._read(fold)
        if found is None:
            return None
        tensors, history, best_epoch = found
        return Fit(_below("best", tensors), tensors["logits"].numpy(), history, best_epoch)

    def _read(self, fold: int) -> tuple[dict[str, Tensor], tuple[Epoch, ...], int] | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file(fold), "pt") as opened:
                header: dict[str, str] = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in list(opened.keys())}
        except (OSError, SafetensorError):
            return None
        if header.get("key") != self.key or header.get("digest") != _digest(tensors):
            return None
        progress = json.loads(header["progress"])
        return tensors, tuple(Epoch(**epoch) for epoch in progress["history"]), progress["best_epoch"]


def training_key(entries: Mapping[str, Any]) -> str:
    """The key of a training: sha256 of `entries` (plain JSON), torch's version and threads, and the code of this library."""
    here = {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "code": code_digest()}
    return hashlib.sha256(canonical_json({**entries, **here})).hexdigest()


def code_digest() -> str:
    """sha256 of the code of this library."""
    package = Path(__file__).parents[1]
    code = {str(f.relative_to(package)): f.read_text(encoding="utf-8") for f in sorted(package.rglob("*.py"))}
    return hashlib.sha256(canonical_json(code)).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of all tensors: safetensors has no checksum, and a machine that loses power may leave half a file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
