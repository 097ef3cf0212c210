"""A stage in several processes that train together: started here or by torchrun. Only the leading one speaks."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ffdi.console import Console
from ffdi.errors import FfdiError
from ffdi.stagekit.console import console
from ffdi.stagekit.curves import Curves
from ffdi.stagekit.stopwatch import stopwatch

if TYPE_CHECKING:
    import torch

    from ffdi.tails.train import OnEpoch

_OTHERS_FIRST = 10.0  # seconds in which the cause of an error speaks before those that it concerns, and ends them
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def start_ranks(count: int) -> None:
    """Start this program `count` times as the ranks of one team, wait for them, and end with their exit code.

    The first that fails ends the others. Nothing happens for one rank alone, and in a process that is a rank.
    """
    if count == 1 or "WORLD_SIZE" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, *sys.argv],
            env=os.environ | team | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            preexec_fn=_end_with_parent,
        )
        for rank in range(count)
    ]
    try:
        sys.exit(_first_failure(ranks))
    finally:
        for rank in ranks:
            rank.terminate()
        for rank in ranks:
            rank.wait()


def _end_with_parent() -> None:
    """A rank whose starter is killed ends, too, where the system can tell it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _first_failure(ranks: list[subprocess.Popen[bytes]]) -> int:
    """0 when all have ended well. FfdiError for a rank that a signal ended, which cannot say so itself."""
    while True:
        codes = [rank.poll() for rank in ranks]
        for number, code in enumerate(codes):
            if code is not None and code < 0:
                raise FfdiError(
                    f"rank {number} of {len(ranks)} was ended by {signal.Signals(-code).name}: see the system's log"
                )
            if code:
                return code
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.1)


@contextmanager
def training_team(device: str, name: str) -> Iterator[tuple[torch.device, Console]]:
    """Set up the device and connect this process with the other ranks, if there are any; lines and bars begin with `name`.

    When something goes wrong, the rank that knows why has a few seconds' start over those that only wait for it.
    """
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.tails.ranks import LostRankError, joined, ranks_of_machine

    place = set_up_torch(device, *ranks_of_machine())
    with joined() as team:
        report = console(name) if team.leads else Console()
        many = f", {team.size} processes together" if team.size > 1 else ""
        report.say(device_line(device) + many)
        try:
            yield place, report
        except FfdiError as error:
            if isinstance(error, LostRankError) or not team.leads:
                time.sleep(_OTHERS_FIRST)
            raise


@contextmanager
def watched(name: str, epochs: int, plots: Path | None, timings: Path) -> Iterator[OnEpoch]:
    """Show and log the epochs of the training of a recipe, and time it; on a rank that does not lead, nothing."""
    from ffdi.tails.ranks import current_team
    from ffdi.tails.train import ignore_epoch

    if not current_team().leads:
        yield ignore_epoch
        return
    with ExitStack() as stack:
        stack.enter_context(stopwatch(f"train-{name}", timings))
        yield stack.enter_context(Curves(f"train {name}", epochs, plots))
