"""Several ranks on loopback: each runs a function and hands back what it returns.

They are forked from a process that has imported torch and computed nothing: one that has computed gradients, as other tests
of the same worker may have, cannot fork one that does.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from ffdi.tails.ranks import Team, joined


def together(size: int, work: Callable[[Team], Any]) -> list[Any]:
    """What `work`, which can be pickled, returns on each of `size` ranks; the error that it raised in the place of a result."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["ffdi.tails.train"])
    ends, ranks = [], []
    for rank in range(size):
        mine, theirs = forking.Pipe(duplex=False)
        ranks.append(forking.Process(target=_run, args=(theirs, rank, size, port, work)))
        ranks[-1].start()
        theirs.close()
        ends.append(mine)
    found = [_received(end) for end in ends]
    for process in ranks:
        process.join()
    return found


def _run(end: Connection, rank: int, size: int, port: int, work: Callable[[Team], Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with joined() as team:
            found = work(team)
    except Exception as error:
        found = error
    end.send_bytes(pickle.dumps(found))  # send would share tensors, which end with this process
    end.close()


def _received(end: Connection) -> Any:
    try:
        return pickle.loads(end.recv_bytes())
    except EOFError:
        return None  # it was killed
