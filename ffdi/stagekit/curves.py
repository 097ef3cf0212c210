"""What a training reports while it runs: a progress bar, a line for each epoch, DVCLive's curves, and history.csv."""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ffdi.errors import FfdiError

if TYPE_CHECKING:
    from ffdi.tails.checkpoint import Epoch


class Curves:
    """Call it with every epoch. `epochs` is the most there will be; nothing is written where `folder` is None.

    The folder gets DVCLive's curves in live/ while the training runs, and history.csv when it has ended well.
    """

    def __init__(self, name: str, epochs: int, folder: Path | None) -> None:
        self._name, self._total, self._folder = name, epochs, folder
        self._history: list[Epoch] = []
        self._live: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> Curves:
        from tqdm import tqdm

        bar = tqdm(desc=self._name, total=self._total, unit=" epochs", dynamic_ncols=True)
        self._bar: Any = self._stack.enter_context(bar)
        self._last = time.perf_counter()
        return self

    def __call__(self, epoch: Epoch) -> None:
        """Show and log one epoch."""
        part, judged = f"fold {epoch.fold}", f", val AUC {epoch.val_auc:.3f}"
        if epoch.of_refit:
            part, judged = "refit", "" if math.isnan(epoch.val_auc) else judged
        else:
            self._history.append(epoch)
        bar = self._bar
        bar.update()
        now = time.perf_counter()
        left = (now - self._last) * (bar.total - bar.n)  # epochs of an interrupted run take no time
        self._last = now
        bar.write(
            f"{self._name}: {part} epoch {epoch.epoch}: loss {epoch.loss:.4f}, "
            f"train AUC {epoch.train_auc:.3f}{judged}, {bar.format_interval(left)} left",
            file=sys.stderr,
        )
        if self._folder:
            self._log(epoch, part.replace(" ", "-"), self._folder / "live")

    def _log(self, epoch: Epoch, part: str, folder: Path) -> None:
        if self._live is None:
            self._live = self._stack.enter_context(_open_live(folder))
        self._live.step = epoch.epoch
        for key in ("loss", "train_auc", "val_auc"):
            if not math.isnan(value := getattr(epoch, key)) or not epoch.of_refit:
                self._live.log_metric(f"{part}/{key}", value)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if self._folder and kind is None:
            import pandas as pd

            from ffdi.intake.tables import write_table

            history = sorted(self._history, key=lambda epoch: (epoch.fold, epoch.epoch))  # folds may train at once
            write_table(self._folder / "history.csv", pd.DataFrame([vars(epoch) for epoch in history]))


def _open_live(folder: Path) -> Any:
    """DVCLive's logger of curves. It must neither rewrite dvc.yaml nor start an experiment of its own."""
    from dvclive.live import Live
    from scmrepo.exceptions import SCMError

    try:
        return Live(str(folder), dvcyaml=None, save_dvc_exp=False)
    except SCMError as error:
        raise FfdiError(f"the training curves need a git repository with a commit ({error}): commit once") from error
