"""Two ranks on two GPUs, by NCCL, train as one process on one GPU does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import make_table
from test_ranks import FOLDS, GROUPS, RECIPES, of_images, pictures, without_dropout

from ffdi.features.devices import set_up_torch
from ffdi.tails.folds import FoldedTable
from ffdi.tails.optimisation import Mix
from ffdi.tails.ranks import joined, ranks_of_machine
from ffdi.tails.train import cross_validate

HERE = Path(__file__).parent


def train(device_name: str) -> None:
    """Print what the recipes of test_ranks come to, on the leading rank; also in bfloat16, and with images that are mixed."""
    device = set_up_torch(device_name, *ranks_of_machine())
    images = FoldedTable.of(make_table(), FOLDS, groups=GROUPS)
    found: dict[str, Any] = {}
    with joined() as team:
        for name, recipe in RECIPES.items():
            found[name] = cross_validate(without_dropout, images, recipe, device=device)[0]
        half = replace(RECIPES["plain"], precision="bfloat16")
        found["half"] = cross_validate(without_dropout, images, half, device=device)[0]
        mixed = replace(RECIPES["plain"], augment=("hflip", "crop", "blur"), mix=Mix(0.4, 0.4))
        found["pictures"] = cross_validate(of_images, pictures(), mixed, device=device)[0]
        if team.leads:
            print(json.dumps({k: [fit.logits.tolist(), [e.loss for e in fit.history]] for k, fit in found.items()}))


def started(ranks: int, device: str) -> dict[str, Any]:
    """What `ranks` processes print that run `train`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    team |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    folders = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path[:0] = {folders}; from {__name__} import *; train({device!r})",
    ]
    processes = [
        subprocess.Popen(
            command, env=os.environ | team | {"RANK": str(r), "LOCAL_RANK": str(r)}, stdout=subprocess.PIPE, text=True
        )
        for r in range(ranks)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * ranks
    return dict(json.loads(said[0].splitlines()[-1]))


@pytest.mark.cuda
def test_two_gpus_train_as_one_does() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs: NCCL gives each rank its own")
    one, two = started(1, "cuda"), started(2, "cuda")
    for name, (logits, losses) in one.items():
        near = 0.05 if name == "half" else 2e-3
        np.testing.assert_allclose(two[name][0], logits, atol=near, err_msg=name)
        np.testing.assert_allclose(two[name][1], losses, atol=near, err_msg=name)
